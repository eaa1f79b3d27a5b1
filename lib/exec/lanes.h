// A pool for tasks of many owners, of whom none may keep the threads to itself: each has a lane,
// lanes take turns, and one lane is on a few threads at most.
//
//   lane a: ■ ■ ■ ■ ■ ■        thread 1: a1 ── a3 ──
//   lane b: ■                  thread 2: a2 ──
//                              thread 3: b1
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/functional/any_invocable.h>
#include <absl/synchronization/mutex.h>

#include "lib/exec/threads.h"

namespace muster::exec {

struct LanesOptions {
  size_t threads = 4;
  size_t threads_a_lane = 2;
  size_t most_queued = 2000;  // over all lanes
};

// Any thread may call. Tasks of one lane begin in the order in which they came.
class Lanes {
 public:
  Lanes(const std::string& name, LanesOptions options);
  ~Lanes();
  // False if too much is queued or the pool is stopping: the task was not taken.
  [[nodiscard]] bool Submit(const std::string& lane, absl::AnyInvocable<void()> task);
  size_t queued() const;
  // Tasks that wait are dropped; those that run are waited for. Safe to repeat.
  void Stop();

 private:
  struct Lane {
    std::deque<absl::AnyInvocable<void()>> queue;
    size_t running = 0;
    bool in_turn = false;
  };
  using Entry = std::pair<const std::string, Lane>;
  struct Begun {
    Entry* entry;
    absl::AnyInvocable<void()> task;
  };
  void Work();
  // Waits for a task whose turn it is; none once the pool is stopping.
  std::optional<Begun> Begin() ABSL_LOCKS_EXCLUDED(mutex_);
  void End(Entry& entry) ABSL_LOCKS_EXCLUDED(mutex_);
  void Queue(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const LanesOptions options_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Lane> lanes_ ABSL_GUARDED_BY(mutex_);  // that hold or run something
  std::deque<Entry*> turns_ ABSL_GUARDED_BY(mutex_);           // lanes of which a task may begin
  size_t queued_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;  // last: they use all the others
};

}  // namespace muster::exec
