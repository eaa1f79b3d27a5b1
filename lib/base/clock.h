// The only place that reads the time. Everything else is handed a Clock, and decisions a time.
#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

namespace muster {

// Any thread may call.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time. It may jump: never measure with it.
  virtual absl::Time Now() const = 0;
  // Time since some fixed moment; never goes back. Deadlines and measurements use it.
  virtual absl::Duration Uptime() const = 0;
};

// The machine's own clocks. Lives for ever.
const Clock& SystemClock();

// Stands still until it is told to move. For tests and simulation.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time now = absl::FromUnixSeconds(1'800'000'000)) : now_(now) {}
  absl::Time Now() const override;
  absl::Duration Uptime() const override;
  // Moves both wall time and uptime.
  void Advance(absl::Duration by);
  // Moves wall time alone: a clock that somebody set.
  void Set(absl::Time now);

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  absl::Duration uptime_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
};

}  // namespace muster
