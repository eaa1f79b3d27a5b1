// Opens sessions: those of agents that come at the same time in one transaction, by one thread.
// After a restart thousands come together, and with PostgreSQL all replicas' transactions that
// write stand in one line.
//
// Any thread may call.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/functional/any_invocable.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/store/session_store.h"
#include "lib/exec/threads.h"

namespace muster::control {

class Opener {
 public:
  // Called once, on the opener's thread, where it must not block.
  using Done = absl::AnyInvocable<void(SessionOpening, StatusOr<OpenedSession>)>;

  Opener(SessionStore& sessions, size_t most_waiting);
  ~Opener();
  // False if too many wait: `done` is not called then.
  [[nodiscard]] bool Submit(SessionOpening opening, Done done);
  // Ends after the transaction that is under way. What still waits is given up, and not told.
  void Stop();

 private:
  struct Waiting {
    SessionOpening opening;
    Done done;
  };
  void Work();
  void Open(std::vector<Waiting> group);
  // Each agent once; empty when it is to stop.
  std::vector<Waiting> TakeGroup();

  SessionStore& sessions_;
  const size_t most_waiting_;
  absl::Mutex mutex_;
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::control
