// What changed of states lately, read from the store once for all who watch. Who stands further
// back than it reaches reads the store for itself.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/store/store.h"

namespace muster::control {

// Names of checks by number, deleted ones excepted.
using CheckNames = std::map<uint32_t, std::string>;

struct StateFeedPage {
  uint64_t through = 0;                                     // go on from here
  bool more = false;                                        // there is more already
  std::vector<std::shared_ptr<const StateChange>> changes;  // ascending
};

// Any thread may call.
class StateFeed {
 public:
  // Remembers the last `reach` changes.
  explicit StateFeed(Store& store, size_t reach = 5000) : store_(store), reach_(reach) {}

  // Looks at the store, one thread at a time. What goes wrong is told to those who ask, until the
  // next time.
  void Refresh();
  // At most `limit` changes after the revision.
  StatusOr<StateFeedPage> After(uint64_t revision, uint32_t limit);
  // As of the last change, and of those that were deleted since this began.
  std::shared_ptr<const CheckNames> names() const;

 private:
  Status ReadNew();

  Store& store_;
  const size_t reach_;
  mutable absl::Mutex mutex_;
  Status last_ ABSL_GUARDED_BY(mutex_);
  // Every change in (from_, through_] is in changes_.
  uint64_t from_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t through_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::shared_ptr<const StateChange>> changes_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const CheckNames> names_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<const CheckNames>();
};

}  // namespace muster::control
