// What a fleet generated and what it was told, kept so that the store can be compared with it
// later.
//
// The file is a series of frames of 32 bytes in the machine's byte order, each followed by its text
// if it has one. A run appends to what is there, and begins with a frame that says so. A frame that
// was cut short by the end of the writer is the end of the file. `log` numbers the logs of one run.
#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/status.h"
#include "muster/v1/check.pb.h"

namespace muster::bench {

// One record of a log, as the journal knows it.
struct Journalled {
  uint64_t sequence = 0;
  uint32_t check_id = 0;  // 0: a PlanTaken
  v1::CheckStatus status = v1::CHECK_STATUS_UNSPECIFIED;
  int64_t observed_at_us = 0;

  bool operator==(const Journalled&) const = default;
};

// Any thread may call. Frames of one log must come from one thread at a time. What is written
// reaches the kernel when Flush says so, and now and then.
class Journal {
 public:
  static StatusOr<std::unique_ptr<Journal>> Open(const std::string& path);
  ~Journal();

  // Before the log's first record.
  void Log(uint32_t log, std::string_view agent, std::string_view epoch);
  void Confirm(uint32_t check_id, const v1::Confirm& confirm);
  void Record(uint32_t log, const Journalled& record);
  // The agent dropped these; they were never acknowledged.
  void Gap(uint32_t log, uint64_t first, uint64_t last);
  // The control plane said that everything up to here is stored.
  void Acknowledged(uint32_t log, uint64_t sequence);
  // Unavailable or ResourceExhausted when something could not be written, now or before.
  Status Flush();

 private:
  explicit Journal(std::FILE* file) : file_(file) {}
  struct Frame;
  void Put(const Frame& frame, std::string_view text = "");

  absl::Mutex mutex_;
  std::FILE* const file_ ABSL_PT_GUARDED_BY(mutex_);
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
};

struct SequenceRange {
  uint64_t first = 0;
  uint64_t last = 0;
};

// One log as it was generated.
struct JournalledLog {
  std::string epoch;
  std::deque<Journalled> records;  // ascending, from 1, without a hole
  std::vector<SequenceRange> gaps;
  uint64_t acknowledged = 0;
};

struct JournalContents {
  std::map<std::string, std::vector<JournalledLog>> agents;  // logs in the order of their begin
  std::map<uint32_t, v1::Confirm> confirm;                   // by check
  // Checks that needed another number of results at another time: what was believed of them when
  // is not known from here.
  std::vector<uint32_t> changed;
};

StatusOr<JournalContents> ReadJournal(const std::string& path);

}  // namespace muster::bench
