// AlertService: who was told of what, and why or why not.
#pragma once

#include "control-plane/rpc/gate.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/alert_service.grpc.pb.h"

namespace muster::control {

class AlertService final : public v1::AlertService::CallbackService {
 public:
  // All must outlive the service.
  AlertService(Store& store, Gate& gate, const Clock& clock)
      : store_(store), gate_(gate), clock_(clock) {}

  grpc::ServerUnaryReactor* ListAlerts(grpc::CallbackServerContext* context,
                                       const v1::ListAlertsRequest* request,
                                       v1::ListAlertsResponse* response) override;
  grpc::ServerUnaryReactor* ExplainAlert(grpc::CallbackServerContext* context,
                                         const v1::ExplainAlertRequest* request,
                                         v1::ExplainAlertResponse* response) override;

 private:
  Store& store_;
  Gate& gate_;
  const Clock& clock_;
};

}  // namespace muster::control
