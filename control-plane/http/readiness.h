// What /-/ready tells over the life of the program: why not yet, whether it serves, and that it
// ends. Any thread may call.
#pragma once

#include <functional>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/status.h"

namespace muster::control {

class Readiness {
 public:
  // From now on the answer is this one. Returns once nobody is in a question that was set before.
  void Not(Status why) {
    absl::MutexLock lock(&mutex_);
    ask_ = [why = std::move(why)] { return why; };
  }
  // From now on this is asked, until the next call of either; it may block for a moment.
  void Ask(std::function<Status()> ask) {
    absl::MutexLock lock(&mutex_);
    ask_ = std::move(ask);
  }
  Status Now() const {
    absl::ReaderMutexLock lock(&mutex_);
    return ask_();
  }

 private:
  mutable absl::Mutex mutex_;
  std::function<Status()> ask_ ABSL_GUARDED_BY(mutex_) = [] { return Unavailable("starting"); };
};

}  // namespace muster::control
