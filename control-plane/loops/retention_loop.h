// Drops history, resolved alerts and runs that are older than they are kept. One thread calls Tick.
#pragma once

#include "control-plane/store/store.h"

namespace muster::control {

struct RetentionOptions {
  absl::Duration history = absl::Hours(14 * 24);
  absl::Duration resolved_alerts = absl::Hours(365 * 24);
  absl::Duration runs = absl::Hours(90 * 24);
  uint32_t batch = 500;  // rows a transaction, so that commits of results never wait long
};

class RetentionLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  RetentionLoop(Store& store, LeaderEpoch epoch, RetentionOptions options)
      : store_(store), epoch_(epoch), options_(options) {}
  Status Tick(absl::Time now);

 private:
  Store& store_;
  const LeaderEpoch epoch_;
  const RetentionOptions options_;
};

}  // namespace muster::control
