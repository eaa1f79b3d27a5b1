// Brings the ends of attempts into the journal and then into the log, one after the other, and
// does not give up: an end that was decided is told, whatever is full or dies in between.
//
//   Tell ──► journal: ended ──► log: RunEnded ──► journal: told
//
// What was begun when the agent died is seen to first: what it left is ended, and its outcome is
// UNKNOWN. An end of which the journal does not know whether it is in the log is looked for there,
// so that it stands there once. One thread; the functions may be called from any. Journal,
// recorder, spool and clock must outlive it.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/jobs/run_journal.h"
#include "agent/spool/recorder.h"
#include "agent/spool/spool.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::agent {

struct EndTellerOptions {
  // For what an agent that died left running, between SIGTERM and SIGKILL.
  absl::Duration leftover_grace = absl::Seconds(10);
  // Between attempts to write, while the disk takes nothing.
  absl::Duration retry = absl::Seconds(2);
};

class EndTeller {
 public:
  // Sees to what `journal.left_open()` holds.
  EndTeller(RunJournal& journal, Recorder& recorder, Spool& spool, const Clock& clock,
            EndTellerOptions options = {});
  // As Stop without patience.
  ~EndTeller();

  void Tell(v1::RunEvent end);
  // The control plane still asks for an attempt that was told: if the log does not hold its end any
  // more, it is told again.
  void Remind(const AttemptKey& key);
  // Whether the end is on its way into the journal, and nowhere yet.
  bool Holds(const AttemptKey& key) const;
  // The runs that the journal must not forget.
  void SetAssigned(std::set<std::string> run_ids);

  // Tells what is on its way, for so long. False if its thread is held up by the disk: then end the
  // process without it.
  bool Stop(absl::Duration within);

 private:
  struct Job {
    AttemptKey key;
    std::optional<v1::RunEvent> end;  // without one: remind
  };
  void Work();
  void Settle(const JournalEntry& entry);
  std::optional<Job> Next();
  Status Do(const Job& job);
  Status TellOf(const AttemptKey& key);
  StatusOr<std::optional<uint64_t>> FindInLog(const JournalEntry& entry, bool told) const;
  void Trim();
  bool Rest(absl::Duration most);

  RunJournal& journal_;
  Recorder& recorder_;
  Spool& spool_;
  const Clock& clock_;
  const EndTellerOptions options_;
  absl::Duration trimmed_at_ = -absl::InfiniteDuration();  // of the thread

  mutable absl::Mutex mutex_;
  std::deque<Job> queue_ ABSL_GUARDED_BY(mutex_);  // the first one is being done
  std::set<std::string> assigned_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::agent
