#include "control-plane/rpc/alert_service.h"

#include "control-plane/rpc/alert_reader.h"

namespace muster::control {

grpc::ServerUnaryReactor* AlertService::ListAlerts(grpc::CallbackServerContext* context,
                                                   const v1::ListAlertsRequest* request,
                                                   v1::ListAlertsResponse* response) {
  return gate_.Serve(context, "muster.v1.AlertService.ListAlerts", [=, this](const net::Identity&) {
    return control::ListAlerts(store_.alerts(), *request, clock_.Now(), *response);
  });
}

grpc::ServerUnaryReactor* AlertService::ExplainAlert(grpc::CallbackServerContext* context,
                                                     const v1::ExplainAlertRequest* request,
                                                     v1::ExplainAlertResponse* response) {
  return gate_.Serve(context, "muster.v1.AlertService.ExplainAlert",
                     [=, this](const net::Identity&) {
                       return control::ExplainAlert(store_.alerts(), *request, *response);
                     });
}

}  // namespace muster::control
