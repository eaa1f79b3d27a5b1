// Streams that follow the store: each looks at it every quarter of a second, and at once when there
// may be news; one look of a stream at a time, on a pool of few threads. A follower holds what one
// look found and looks again when that is sent: a slow reader costs nobody memory.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "lib/exec/threads.h"

namespace muster::control {

class Follower {
 public:
  virtual ~Follower() = default;
  // Never two at once. Nothing to do while what the last one found is not sent.
  virtual void Look() = 0;

 private:
  friend class Followers;
  std::atomic<bool> looking_ = false;
};

// Any thread may call.
class Followers {
 public:
  // The pool outlives it. `before` is called ahead of every round of looks, for what all of them
  // need; not where nobody follows.
  Followers(
      const std::string& name, exec::Pool& pool, std::function<void()> before = [] {})
      : pool_(pool),
        before_(std::move(before)),
        loop_(name, absl::Milliseconds(250), [this] { Tick(); }) {}

  void Enter(std::shared_ptr<Follower> follower) {
    const Follower* key = follower.get();
    {
      absl::MutexLock lock(&mutex_);
      followers_[key] = std::move(follower);
    }
    loop_.Wake();
  }
  void Leave(const Follower* follower) {
    absl::MutexLock lock(&mutex_);
    followers_.erase(follower);
  }
  // There may be something new, or room for more of it.
  void Wake() { loop_.Wake(); }
  // Nobody looks afterwards, but for what is on the pool already.
  void Stop() { loop_.Stop(); }

 private:
  void Tick() {
    std::vector<std::shared_ptr<Follower>> followers;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [key, follower] : followers_) followers.push_back(follower);
    }
    if (!followers.empty()) before_();
    for (const auto& follower : followers) {
      if (follower->looking_.exchange(true)) continue;
      const bool taken = pool_.Submit([follower] {
        follower->Look();
        follower->looking_ = false;
      });
      if (!taken) follower->looking_ = false;
    }
  }

  exec::Pool& pool_;
  const std::function<void()> before_;
  absl::Mutex mutex_;
  std::map<const Follower*, std::shared_ptr<Follower>> followers_ ABSL_GUARDED_BY(mutex_);
  exec::PeriodicLoop loop_;  // last: its thread uses all the others
};

}  // namespace muster::control
