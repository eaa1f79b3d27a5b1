// Does what the control plane assigned to this host: begins each attempt once, so many at a time,
// ends those that are to end, and tells what became of each (docs/architecture/agent.md, "Runs").
//
// Any thread may call. Journal, recorder, spool and clock must outlive it.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/jobs/attempt.h"
#include "agent/jobs/end_teller.h"
#include "agent/jobs/run_journal.h"
#include "agent/spool/recorder.h"
#include "agent/spool/spool.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

struct ExecutorOptions {
  size_t at_once = 4;
  // How often deadlines are looked at.
  absl::Duration tick = absl::Seconds(1);
  EndTellerOptions ends;
};

class Executor {
 public:
  Executor(RunJournal& journal, Recorder& recorder, Spool& spool, TaskMaker make_task,
           const Clock& clock, ExecutorOptions options);
  // As Stop without patience; waits for what runs.
  ~Executor();

  // Every run that is to be on this host's hands. Never blocks; at most 256 count.
  void Take(const v1::Assignments& assignments);
  // The control plane's time is that now: start_by is meant by its clock, not by ours.
  void TakeServerTime(absl::Time now);

  // Begins nothing more, and asks what runs to end: FAILED, "the agent was stopped".
  void AskToStop();
  // AskToStop; what has not ended within `grace` gets SIGKILL. Ends that could be seen are told.
  // False if something does not end, or the disk hangs: then end the process without it. An attempt
  // that is cut off so is UNKNOWN at the next start.
  bool Stop(absl::Duration grace);

 private:
  void Tick();
  // Lets go of those whose end is known.
  void Reap() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Carry(const v1::Assignment& assignment, const AttemptDecision& decision)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Begin(const v1::Assignment& assignment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemindOfTold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False once nothing may have been forgotten.
  bool SettleForgotten() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeEnd(const AttemptKey& key, StatusOr<v1::RunEvent> end);
  AttemptFacts FactsOf(const v1::Assignment& assignment) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Attempt* Find(const AttemptKey& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time ServerNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskAll(bool at_once) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllEnded() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return ended_.size() == running_.size();
  }
  v1::RunEvent EndEvent(const AttemptKey& key, v1::RunOutcome outcome,
                        std::string_view reason) const;

  RunJournal& journal_;
  Recorder& recorder_;
  const TaskMaker make_task_;
  const Clock& clock_;
  const ExecutorOptions options_;
  EndTeller teller_;

  mutable absl::Mutex mutex_;
  std::vector<v1::Assignment> assigned_ ABSL_GUARDED_BY(mutex_);
  bool heard_ ABSL_GUARDED_BY(mutex_) = false;  // assignments have come
  bool news_ ABSL_GUARDED_BY(mutex_) = false;   // since the last tick
  std::vector<std::unique_ptr<Attempt>> running_ ABSL_GUARDED_BY(mutex_);
  std::set<AttemptKey> ended_ ABSL_GUARDED_BY(mutex_);  // of those in running_
  absl::Duration begin_not_before_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  std::optional<absl::Time> server_time_ ABSL_GUARDED_BY(mutex_);
  absl::Duration server_time_at_ ABSL_GUARDED_BY(mutex_);  // uptime
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::PeriodicLoop loop_;  // last: it uses all the others
};

}  // namespace muster::agent
