#include "control-plane/loops/retention_loop.h"

#include "lib/base/log.h"

namespace muster::control {

Status RetentionLoop::Tick(absl::Time now) {
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
  if (segments + alerts > 0) {
    LogInfo("old history dropped", {{"segments", segments}, {"alerts", alerts}});
  }
  return OkStatus();
}

}  // namespace muster::control
