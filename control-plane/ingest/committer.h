// Group commit: batches of many agents in one transaction, by one thread. What waits is bounded.
//
// While the store takes nothing (a full disk, a database that is away) the batches stay here and
// are tried again; nothing is acknowledged meanwhile. A batch that no store would take is handed
// back alone, with the store's reason, and keeps no other waiting. Any thread may call.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/functional/any_invocable.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/store/history_store.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::control {

// What became of a batch, for whoever submitted it.
struct BatchOutcome {
  absl::AnyInvocable<void(Status)> done;
  Status status;
};

struct CommitterOptions {
  size_t most_waiting_bytes = 64 << 20;
  size_t results_a_commit = 20'000;
  size_t batches_a_commit = 512;
  // A batch that tells no news waits so long for others to share its commit, until there are
  // `enough`. What people look at does not wait, nor does what was there before it.
  absl::Duration gather = absl::Milliseconds(40);
  size_t enough = 64;
  absl::Duration retry = absl::Seconds(1);
  // Tells those whose batches shared a commit. By default here, on the committer's thread.
  std::function<void(std::vector<BatchOutcome>)> deliver = [](std::vector<BatchOutcome> outcomes) {
    for (BatchOutcome& outcome : outcomes) outcome.done(std::move(outcome.status));
  };
  // Called after each commit, with how long it took.
  std::function<void(absl::Duration)> on_commit = [](absl::Duration) {};
  // Called after a commit that told of runs: a hint for whoever waits for them.
  std::function<void()> on_runs = [] {};
};

struct CommitterCounts {
  uint64_t commits = 0;
  uint64_t batches = 0;
  uint64_t results = 0;
  uint64_t transitions = 0;
  uint64_t aborted = 0;          // batches that a newer session or cursor refused
  uint64_t reports_refused = 0;  // runs that hosts told of, and that nobody stores
  uint64_t refused = 0;          // batches for which there was no room, or that no store would take
  size_t waiting = 0;
  size_t waiting_bytes = 0;
};

class Committer {
 public:
  // Called once a batch: OK after the commit, by `deliver`; Aborted when the cursor or the session
  // had moved, likewise; else on the committer's thread, where it must not block, why the store
  // will never take it.
  using Done = absl::AnyInvocable<void(Status)>;

  // `on_transitions` is called after a commit that held transitions: a hint for the alert loop.
  Committer(HistoryStore& history, const Clock& clock, CommitterOptions options,
            absl::AnyInvocable<void()> on_transitions);
  ~Committer();
  // Ends after the commit that is under way. Batches that still wait are given up: their agents
  // keep them. Safe to repeat.
  void Stop();

  // ResourceExhausted when too much waits; `done` is not called then.
  Status Submit(BatchCommit batch, Done done);
  CommitterCounts counts() const;
  // OK, or why the last commit did not succeed.
  Status health() const;

 private:
  struct Waiting {
    BatchCommit batch;
    Done done;
  };
  void Work();
  // Empty when the committer is to stop.
  std::vector<Waiting> TakeGroup();
  void CommitGroup(std::vector<Waiting> group);
  void HandBack(std::vector<Waiting> group, const Status& why);
  void Count(const std::vector<BatchCommit>& batches, const std::vector<Status>& outcomes,
             absl::Duration took);
  void Count(const std::vector<RefusedReport>& refused);
  void Report(const Status& status);
  // False when the committer is to stop.
  bool PauseBeforeRetry();

  HistoryStore& history_;
  const Clock& clock_;
  const CommitterOptions options_;
  absl::AnyInvocable<void()> on_transitions_;
  mutable absl::Mutex mutex_;
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mutex_);
  size_t news_ ABSL_GUARDED_BY(mutex_) = 0;  // batches in the queue that tell some
  CommitterCounts counts_ ABSL_GUARDED_BY(mutex_);
  Status health_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::control
