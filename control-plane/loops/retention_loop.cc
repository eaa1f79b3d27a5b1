#include "control-plane/loops/retention_loop.h"

#include <algorithm>

#include "lib/base/log.h"

namespace muster::control {

namespace {

// Days of history that are made before they come, and after them for results that come late.
constexpr absl::Duration kAhead = absl::Hours(72);
constexpr absl::Duration kBehind = absl::Hours(7 * 24);

}  // namespace

Status RetentionLoop::Tick(absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(
      const int64_t outside,
      store_.history().MakeDays(now - std::min(options_.history, kBehind), now + kAhead));
  if (outside > 0) {
    LogWarning(
        "history lies outside of every day: an agent's clock is wrong by days, or it was away "
        "for long",
        {{"segments", outside}});
  }
  uint64_t segments = 0;
  for (uint64_t dropped = options_.batch; dropped >= options_.batch; segments += dropped) {
    MUSTER_ASSIGN_OR_RETURN(dropped, store_.history().DropSegmentsBefore(
                                         epoch_, now - options_.history, options_.batch));
  }
  uint64_t alerts = 0;
  for (uint64_t dropped = options_.batch; dropped >= options_.batch; alerts += dropped) {
    MUSTER_ASSIGN_OR_RETURN(dropped, store_.alerts().DropResolvedBefore(
                                         epoch_, now - options_.resolved_alerts, options_.batch));
  }
  uint64_t runs = 0;
  for (uint64_t dropped = options_.batch; dropped >= options_.batch; runs += dropped) {
    MUSTER_ASSIGN_OR_RETURN(dropped,
                            store_.runs().DropBefore(epoch_, now - options_.runs, options_.batch));
  }
  for (uint64_t dropped = options_.batch; dropped >= options_.batch;) {
    MUSTER_ASSIGN_OR_RETURN(
        dropped, store_.backups().DropForgottenBefore(epoch_, now - options_.runs, options_.batch));
  }
  // Pauses that lie behind what is decided.
  MUSTER_RETURN_IF_ERROR(store_.runs().Forget(epoch_, {}));
  if (segments + alerts + runs > 0) {
    LogInfo("old history dropped", {{"segments", segments}, {"alerts", alerts}, {"runs", runs}});
  }
  return OkStatus();
}

}  // namespace muster::control
