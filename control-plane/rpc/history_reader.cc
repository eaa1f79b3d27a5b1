#include "control-plane/rpc/history_reader.h"

#include "lib/wire/time.h"

namespace muster::control {
namespace {

// What is stored was checked when it came, so only damage can be over this.
const wire::BatchLimits kStoredLimits{.entries = 1 << 16, .raw_bytes = 16 << 20};

}  // namespace

StatusOr<bool> HistoryReader::Feed(const Segment& segment) {
  const StatusOr<wire::DecodedBatch> batch = wire::DecodeBatch(segment.payload, kStoredLimits);
  if (!batch.ok()) {
    return DataLoss("records {} to {} of {} are damaged in the store: {}", segment.first_sequence,
                    segment.last_sequence, segment.agent, Message(batch.status()));
  }
  auto other = batch->others.begin();
  for (const wire::ResultRow& result : batch->results) {
    for (; other != batch->others.end() && other->sequence() < result.sequence; ++other) {
      if (!FeedOther(segment, *other)) return false;
    }
    if (!FeedResult(segment, result)) return false;
  }
  for (; other != batch->others.end(); ++other) {
    if (!FeedOther(segment, *other)) return false;
  }
  return true;
}

bool HistoryReader::FeedOther(const Segment& segment, const v1::Record& record) {
  if (!record.has_gap()) return true;
  const v1::Gap& gap = record.gap();
  if (wire::FromProto(gap.until()) < query_.since || wire::FromProto(gap.from()) > query_.until) {
    return true;
  }
  v1::HistoryEntry entry;
  entry.set_seq(record.sequence());
  entry.set_log_epoch(segment.log_epoch);
  *entry.mutable_gap() = gap;
  entry.set_state(v1::CHECK_STATUS_NO_DATA);
  *entry.mutable_observed_at() = gap.from();
  return Give(entry);
}

bool HistoryReader::FeedResult(const Segment& segment, const wire::ResultRow& result) {
  if (result.check_id != query_.check_id) return true;
  if (result.detail != nullptr) {
    summary_ = result.detail->summary();
    summary_status_ = result.status;
  }
  if (result.observed_at < query_.since || result.observed_at > query_.until) return true;
  v1::HistoryEntry entry;
  entry.set_seq(result.sequence);
  entry.set_log_epoch(segment.log_epoch);
  entry.set_state(result.status);
  *entry.mutable_observed_at() = wire::ToProto(result.observed_at);
  *entry.mutable_latency() = wire::ToProto(result.latency);
  if (result.detail != nullptr) *entry.mutable_detail() = *result.detail;
  if (result.status == summary_status_) entry.set_summary(summary_);
  return Give(entry);
}

bool HistoryReader::Give(const v1::HistoryEntry& entry) {
  if (!take_(entry)) return false;
  ++given_;
  return query_.limit == 0 || given_ < query_.limit;
}

}  // namespace muster::control
