// The only place where threads start: a bounded pool, a periodic loop, and one named thread.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/functional/any_invocable.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

namespace muster::exec {

// Names the calling thread (at most 15 characters) for ps, top and gdb.
void NameThread(const std::string& name);

// One thread that runs `body` to its end; joins in the destructor, so `body` must have been told to
// stop.
class Thread {
 public:
  Thread() = default;
  Thread(std::string name, absl::AnyInvocable<void()> body);
  ~Thread();
  Thread(Thread&&) = default;
  Thread& operator=(Thread&& other);
  void Join();

 private:
  std::thread thread_;
};

// `threads` threads over a queue of at most `bound` tasks. Any thread may call.
class Pool {
 public:
  Pool(std::string name, size_t threads, size_t bound);
  // Runs what was queued, then ends.
  ~Pool();
  // False if the queue is full or the pool is stopping: the task was not taken.
  [[nodiscard]] bool Submit(absl::AnyInvocable<void()> task);
  size_t queued() const;
  // Tasks that wait are dropped; those that run are waited for.
  void Stop();

 private:
  void Work();
  const size_t bound_;
  mutable absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Calls `tick` every `period` and as soon as possible after Wake(), never twice at once. Ticks wait
// for one another; wakes that come meanwhile are one further tick.
class PeriodicLoop {
 public:
  PeriodicLoop(std::string name, absl::Duration period, absl::AnyInvocable<void()> tick);
  ~PeriodicLoop();
  void Wake();
  // Waits for a running tick. Safe to repeat.
  void Stop();

 private:
  void Work();
  const absl::Duration period_;
  absl::AnyInvocable<void()> tick_;
  absl::Mutex mutex_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace muster::exec
