// The agent's durable log (promise C1): records numbered 1, 2, 3 … within a log epoch, in a SQLite
// file.
//
//   ┌─ acknowledged: kept to be offered again ─┬─ not acknowledged ─┬─ lost, in memory ─┐
//   first                               acknowledged             last                 next
//
// Each sequence that was given out is read back exactly once: as its record, or within one gap
// record that names its range. Rows are never changed, but for the oldest ones that become a gap at
// the bound. Any thread may call. The clock must outlive the spool.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/sql/database.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

struct SpoolOptions {
  uint64_t bound_bytes = 256 << 20;  // at least 1 MiB is sensible; tests use less
  absl::Duration keep_acknowledged_for = absl::Hours(24);
};

struct LogBounds {
  std::string epoch;
  // What the file holds; both 0 when it holds nothing.
  uint64_t first = 0;
  uint64_t last = 0;
  // The last sequence that may be read: `last`, or more when what it was has been dropped since.
  uint64_t written = 0;
  uint64_t acknowledged = 0;
};

// Where the log stands, read from memory.
struct LogPosition {
  std::string epoch;
  uint64_t written = 0;
};

struct SpoolCounts {
  uint64_t bytes = 0;
  uint64_t lost_full = 0;       // became part of a gap at the bound
  uint64_t lost_unwritten = 0;  // never reached the disk
  bool disk_full = false;
};

// A stored row as the record that it is. `from` cuts the front off a gap. DataLoss if the bytes are
// none.
StatusOr<v1::Record> DecodeEntry(uint64_t sequence, std::string_view body, uint64_t from);
// The row's bytes: a record without its sequence.
std::string EncodeEntry(const v1::Record& record);

class Spool {
 public:
  // A damaged file is moved aside to PATH.damaged and a new log begins, with a gap that says so.
  static StatusOr<std::unique_ptr<Spool>> Open(std::string path, SpoolOptions options,
                                               const Clock& clock);

  // Numbers the records and stores them in one transaction; returns the last sequence. Once it
  // returns OK they survive kill -9 and power loss. After an error they are counted as lost: their
  // numbers are spent, and a gap says so as soon as something can be written again. Empty: writes
  // that gap only.
  StatusOr<uint64_t> Append(std::vector<v1::Record> records);
  // Counts records that never came here.
  void Lose(uint64_t count, v1::Gap::Reason reason, absl::Time from, absl::Time until);

  // Records from `sequence` on without a hole; empty when there is none yet. At least one, even if
  // it is more than `most_bytes`.
  StatusOr<std::vector<v1::Record>> ReadFrom(uint64_t sequence, size_t most_entries,
                                             size_t most_bytes);

  // Everything up to `sequence` is stored elsewhere. It never goes back by this.
  void Acknowledge(uint64_t sequence);
  // What the control plane says that it holds at the begin of a session: it may go back.
  void Rewind(uint64_t committed);
  // A new log epoch whose sequences begin at 1: what was not acknowledged is numbered anew.
  Status StartNewEpoch();

  LogBounds bounds() const;
  LogPosition position() const;
  SpoolCounts counts() const;

 private:
  struct State {
    std::string epoch;
    uint64_t next = 1;  // of the file
    uint64_t acknowledged = 0;
    uint64_t bytes = 0;
  };
  struct Lost {
    uint64_t count = 0;
    v1::Gap::Reason reason = v1::Gap::REASON_UNSPECIFIED;
    absl::Time from;
    absl::Time until;
  };
  struct Entry {
    uint64_t sequence;
    std::string body;
  };

  Spool(std::string path, SpoolOptions options, const Clock& clock);
  Status OpenFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status OpenOrReplace() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status ReplaceDamaged(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Entry> Number(std::vector<v1::Record>& records) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status Store(const std::vector<Entry>& entries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Status MakeRoom(sql::Transaction& transaction, uint64_t needed, State& state,
                  uint64_t& lost) const;
  Status DropAcknowledged(sql::Transaction& transaction, uint64_t bytes, absl::Time older_than,
                          State& state) const;
  Status FoldOldest(sql::Transaction& transaction, uint64_t bytes, State& state,
                    uint64_t& lost) const;
  void LoseLocked(const Lost& lost) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const SpoolOptions options_;
  const Clock& clock_;

  mutable absl::Mutex mutex_;
  std::unique_ptr<sql::Database> database_ ABSL_GUARDED_BY(mutex_);
  State state_ ABSL_GUARDED_BY(mutex_);
  std::optional<Lost> lost_ ABSL_GUARDED_BY(mutex_);
  absl::Duration trimmed_at_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  SpoolCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::agent
