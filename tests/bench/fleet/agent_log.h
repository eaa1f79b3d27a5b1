// A simulated agent's log, in memory and small: records 1, 2, 3 … within a log epoch, from the
// first that is not acknowledged on. As a spool does, it holds a bounded number, folds the oldest
// into a gap beyond that, and reads back each sequence exactly once. One thread at a time.
//
//   acknowledged: gone │ folded into a gap │ records …
//                      └─ first_            └─ first_ + folded
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "muster/v1/record.pb.h"

namespace muster::bench {

// A result without its check's name and detail: those follow from it.
struct LoggedResult {
  int64_t observed_at_us = 0;
  uint32_t check_id = 0;
  uint32_t latency_us = 0;
  v1::CheckStatus status = v1::CHECK_STATUS_OK;
  bool told = false;  // with its detail
};

class AgentLog {
 public:
  AgentLog(std::string epoch, size_t bound) : epoch_(std::move(epoch)), bound_(bound) {}

  // The sequence of what was added.
  uint64_t Add(const LoggedResult& result);
  uint64_t AddPlanTaken(std::string hash, absl::Time at);
  // What the bound made of the oldest records since the last call, if anything.
  std::optional<agent::LogBounds> TakeFolded();

  // Everything up to `sequence` is stored elsewhere.
  void Acknowledge(uint64_t sequence);
  // From `sequence` on, which Welcome named: as many as the limits allow, at least one. What was
  // acknowledged and is asked for again is a gap: it is not here any more.
  std::vector<v1::Record> Read(uint64_t sequence, size_t most_entries, size_t most_bytes) const;
  // A new epoch, in which what is left begins at 1.
  void StartNewEpoch(std::string epoch);

  agent::LogBounds bounds() const;
  const std::string& epoch() const { return epoch_; }
  uint64_t written() const { return begin_ + entries_.size() - 1; }
  uint64_t acknowledged() const { return first_ - 1; }
  // Those that are neither acknowledged nor folded, ascending from the first one's sequence.
  uint64_t begin() const { return begin_; }
  const std::deque<LoggedResult>& entries() const { return entries_; }
  bool IsResult(uint64_t sequence) const { return !plans_taken_.contains(sequence); }

 private:
  v1::Record RecordAt(uint64_t sequence) const;
  v1::Record GapFrom(uint64_t sequence) const;
  void Bound();

  std::string epoch_;
  size_t bound_;
  uint64_t first_ = 1;  // that is not acknowledged
  uint64_t begin_ = 1;  // of `entries_`; what lies between is folded
  std::deque<LoggedResult> entries_;
  std::map<uint64_t, std::string> plans_taken_;  // by sequence; their entries hold the time
  int64_t folded_from_us_ = 0;
  int64_t folded_until_us_ = 0;
  std::optional<agent::LogBounds> just_folded_;
};

}  // namespace muster::bench
