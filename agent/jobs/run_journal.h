// What this host has done of the runs that it was assigned (promise C4): one row for each attempt,
// in a SQLite file, written before anything is done.
//
//   new ──Begin──► begun ──End──► ended ──Told──► told ──7 days──► forgotten
//    └───────────End──────────────┘
//
// An attempt that has a row is never begun again, nor is an older one of its run. An attempt that
// is begun when the file is opened has lost its agent: nobody saw its end. One that is ended and
// not told may stand in the log or not: whoever opens the journal looks. Any thread may call.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/base/status.h"
#include "lib/sql/database.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

struct AttemptKey {
  std::string run_id;
  uint64_t fence = 0;
  auto operator<=>(const AttemptKey&) const = default;
};

// A process. Its number alone may be another's by now.
struct ProcessMark {
  pid_t pid = 0;
  uint64_t started = 0;  // as field 22 of /proc/PID/stat has it
  std::string boot_id;
};

struct JournalEntry {
  AttemptKey key;
  absl::Time at;                       // begun or ended
  std::optional<ProcessMark> process;  // the program it ran last
  std::string step;                    // what it did last, if its task said so
  std::optional<v1::RunEvent> end;
  // The end stands in the log at this sequence (told), or behind it if anywhere (not told).
  LogPosition log;
};

class RunJournal {
 public:
  enum class State { kNew, kOlder, kBegun, kEnded, kTold };

  // A damaged file is moved aside to PATH.damaged, and has_lost_memory() from then on.
  static StatusOr<std::unique_ptr<RunJournal>> Open(std::string path);

  // Durable once it returns OK, and nothing may be done before. FailedPrecondition: the attempt, or
  // a newer one of its run, is known: do nothing. Unknown: it may be there, and counts as begun.
  Status Begin(const AttemptKey& key, absl::Time at);
  Status NoteProcess(const AttemptKey& key, const ProcessMark& process);
  Status NoteStep(const AttemptKey& key, std::string_view step);
  // `end` names its attempt, which may have begun or not; the first end counts. `log` is where the
  // log stands now.
  Status End(const v1::RunEvent& end, const LogPosition& log);
  // The end stands in the log there.
  Status Told(const AttemptKey& key, const LogPosition& at);

  // From memory, at once.
  State Look(const AttemptKey& key) const;
  // Whether an earlier attempt of the run has begun and not ended.
  bool EarlierIsOpen(const AttemptKey& key) const;
  // Begun, or ended and not told, when the file was opened: what an agent that starts has to see
  // to.
  const std::vector<JournalEntry>& left_open() const { return left_open_; }
  StatusOr<JournalEntry> Read(const AttemptKey& key) const;

  // Whether a damaged file was replaced, so that attempts may have begun that have no row.
  bool has_lost_memory() const;
  // What might have begun has a row by now.
  Status Remember();

  // Forgets what was told more than seven days ago, and the oldest beyond `most`, but no attempt of
  // a run in `assigned`.
  static constexpr size_t kMostAttempts = 10'000;
  Status Trim(const std::set<std::string>& assigned, absl::Time now, size_t most = kMostAttempts);

 private:
  explicit RunJournal(std::string path) : path_(std::move(path)) {}
  Status OpenFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(file_mutex_);
  Status ReplaceDamaged(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(file_mutex_);
  StatusOr<std::vector<JournalEntry>> Select(std::string_view where,
                                             std::initializer_list<sql::Parameter> parameters) const
      ABSL_SHARED_LOCKS_REQUIRED(file_mutex_);
  Status Update(std::string_view sql, std::initializer_list<sql::Parameter> parameters)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(file_mutex_);
  void Know(const AttemptKey& key, State state);

  const std::string path_;
  std::vector<JournalEntry> left_open_;                          // set once
  mutable absl::Mutex file_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  // held while the disk is busy
  std::unique_ptr<sql::Database> database_ ABSL_GUARDED_BY(file_mutex_);
  mutable absl::Mutex mutex_;                                  // held for a moment
  std::map<AttemptKey, State> known_ ABSL_GUARDED_BY(mutex_);  // begun, ended or told
  bool lost_memory_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster::agent
