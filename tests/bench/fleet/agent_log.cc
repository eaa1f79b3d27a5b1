#include "tests/bench/fleet/agent_log.h"

#include <algorithm>
#include <utility>

#include "lib/wire/time.h"
#include "tests/bench/lib/http_result.h"

namespace muster::bench {
namespace {

// What a record counts for against the bytes of a batch.
constexpr size_t kPlainBytes = 20;
constexpr size_t kToldBytes = 400;

}  // namespace

uint64_t AgentLog::Add(const LoggedResult& result) {
  entries_.push_back(result);
  Bound();
  return written();
}

uint64_t AgentLog::AddPlanTaken(std::string hash, absl::Time at) {
  plans_taken_[written() + 1] = std::move(hash);
  return Add({.observed_at_us = absl::ToUnixMicros(at)});
}

void AgentLog::Bound() {
  while (entries_.size() > bound_) {
    const int64_t at = entries_.front().observed_at_us;
    if (begin_ == first_) folded_from_us_ = at;
    folded_until_us_ = at;
    if (!just_folded_) just_folded_ = agent::LogBounds{.epoch = epoch_, .first = begin_};
    just_folded_->last = begin_;
    plans_taken_.erase(begin_++);
    entries_.pop_front();
  }
}

std::optional<agent::LogBounds> AgentLog::TakeFolded() {
  return std::exchange(just_folded_, std::nullopt);
}

void AgentLog::Acknowledge(uint64_t sequence) {
  first_ = std::max(first_, std::min(sequence, written()) + 1);
  while (begin_ < first_) {
    if (!entries_.empty()) entries_.pop_front();
    plans_taken_.erase(begin_++);
  }
}

std::vector<v1::Record> AgentLog::Read(uint64_t sequence, size_t most_entries,
                                       size_t most_bytes) const {
  std::vector<v1::Record> records;
  if (sequence < begin_) {
    records.push_back(GapFrom(sequence));
    sequence = begin_;
  }
  size_t bytes = 0;
  for (; sequence <= written() && records.size() < most_entries; ++sequence) {
    bytes += entries_[sequence - begin_].told ? kToldBytes : kPlainBytes;
    if (bytes > most_bytes && !records.empty()) break;
    records.push_back(RecordAt(sequence));
  }
  return records;
}

v1::Record AgentLog::RecordAt(uint64_t sequence) const {
  const LoggedResult& entry = entries_[sequence - begin_];
  const auto observed_at = wire::ToProto(absl::FromUnixMicros(entry.observed_at_us));
  v1::Record record;
  record.set_sequence(sequence);
  if (const auto plan = plans_taken_.find(sequence); plan != plans_taken_.end()) {
    record.mutable_plan_taken()->set_plan_hash(plan->second);
    *record.mutable_plan_taken()->mutable_at() = observed_at;
    return record;
  }
  v1::CheckResult& result = *record.mutable_result();
  result.set_check_id(entry.check_id);
  *result.mutable_observed_at() = observed_at;
  *result.mutable_latency() = wire::ToProto(absl::Microseconds(entry.latency_us));
  result.set_status(entry.status);
  if (entry.told) TellHttp(absl::Microseconds(entry.latency_us), result);
  return record;
}

v1::Record AgentLog::GapFrom(uint64_t sequence) const {
  const bool folded = begin_ > first_;
  const absl::Time from = absl::FromUnixMicros(folded_from_us_);
  v1::Record record;
  record.set_sequence(begin_ - 1);
  v1::Gap& gap = *record.mutable_gap();
  gap.set_first(sequence);
  gap.set_last(begin_ - 1);
  gap.set_reason(folded ? v1::Gap::REASON_SPOOL_FULL : v1::Gap::REASON_LOG_DAMAGED);
  *gap.mutable_from() = wire::ToProto(from);
  *gap.mutable_until() = wire::ToProto(absl::FromUnixMicros(folded_until_us_));
  return record;
}

void AgentLog::StartNewEpoch(std::string epoch) {
  epoch_ = std::move(epoch);
  std::map<uint64_t, std::string> renumbered;
  for (auto& [sequence, hash] : plans_taken_) {
    renumbered[sequence - first_ + 1] = std::move(hash);
  }
  plans_taken_ = std::move(renumbered);
  begin_ -= first_ - 1;
  first_ = 1;
}

agent::LogBounds AgentLog::bounds() const {
  agent::LogBounds bounds{.epoch = epoch_, .written = written(), .acknowledged = acknowledged()};
  if (written() < first_) return bounds;
  bounds.first = first_;
  bounds.last = written();
  return bounds;
}

}  // namespace muster::bench
