// Timers for thousands of agents on few threads: a wheel of slots a hundredth of a second apart.
// Each timed object has one timer; setting it again replaces it.
#pragma once

#include <cstdint>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::bench {

class Wheel;

class Timed {
 public:
  virtual ~Timed() = default;
  // By the wheel's thread, up to a slot late. Sets the timer anew if there is to be another.
  virtual void OnTime(absl::Duration now) = 0;

 private:
  friend class Wheel;
  uint64_t timer_ = 0;  // the wheel's; which of the entries counts
};

// Any thread may call. What is timed must stay until Stop has returned.
class Wheel {
 public:
  explicit Wheel(const Clock& clock);
  ~Wheel();
  // InfiniteDuration: not at all.
  void Set(Timed& timed, absl::Duration at);
  // No further OnTime. Safe to repeat.
  void Stop();

 private:
  struct Entry {
    Timed* timed = nullptr;
    uint64_t timer = 0;
    uint64_t slot = 0;  // since uptime zero
  };
  void Work();
  std::vector<Timed*> TakeDue(uint64_t until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  absl::Mutex mutex_;
  std::vector<std::vector<Entry>> slots_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_slot_ ABSL_GUARDED_BY(mutex_);  // to be looked at
  uint64_t timers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::bench
