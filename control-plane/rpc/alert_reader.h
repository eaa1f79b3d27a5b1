// Alerts out of the store, in the shape that operators see. Blocks on the store.
#pragma once

#include "control-plane/store/store.h"
#include "muster/v1/alert_service.pb.h"

namespace muster::control {

// Newest start first. InvalidArgument for a page token that is not ours.
Status ListAlerts(AlertStore& alerts, const v1::ListAlertsRequest& request, absl::Time now,
                  v1::ListAlertsResponse& response);
// NotFound for an unknown id.
Status ExplainAlert(AlertStore& alerts, const v1::ExplainAlertRequest& request,
                    v1::ExplainAlertResponse& response);

}  // namespace muster::control
