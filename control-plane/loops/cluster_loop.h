// Watches the other replicas: declares those lost that are not seen any more, closes the sessions
// that nobody holds, and forgets what was lost long ago. One thread calls Tick.
#pragma once

#include <functional>

#include "control-plane/decide/leadership.h"
#include "control-plane/store/store.h"

namespace muster::control {

struct ClusterLoopOptions {
  std::function<LeadershipPolicy()> policy = [] { return LeadershipPolicy{}; };
  // Since when the database was reached without a break, by its clock; InfiniteFuture: not at all.
  std::function<absl::Time()> watched_since;
  std::function<void()> on_lost = [] {};  // a replica was declared lost, or forgotten
  // How many ticks pass from one look for sessions that nobody holds to the next.
  uint32_t strays_every = 10;
};

class ClusterLoop {
 public:
  ClusterLoop(Store& store, LeaderEpoch epoch, ClusterLoopOptions options)
      : store_(store), epoch_(epoch), options_(std::move(options)) {}
  Status Tick(absl::Time now);

 private:
  Status DeclareLost(absl::Time watched_since, absl::Time database_now);
  Status Forget(absl::Time database_now);

  Store& store_;
  const LeaderEpoch epoch_;
  const ClusterLoopOptions options_;
  uint32_t ticks_ = 0;
};

}  // namespace muster::control
