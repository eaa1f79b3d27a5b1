// SpecService: apply, diff, list and delete documents. What is sent is validated here again,
// whoever sent it.
#pragma once

#include <functional>

#include "control-plane/rpc/gate.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/spec_service.grpc.pb.h"

namespace muster::control {

class SpecService final : public v1::SpecService::CallbackService {
 public:
  // `on_change` is called after a change was committed: a hint for plans and loops. All must
  // outlive this.
  SpecService(Store& store, Gate& gate, const Clock& clock, std::function<void()> on_change)
      : store_(store), gate_(gate), clock_(clock), on_change_(std::move(on_change)) {}

  grpc::ServerUnaryReactor* ApplySpecs(grpc::CallbackServerContext* context,
                                       const v1::ApplySpecsRequest* request,
                                       v1::ApplySpecsResponse* response) override;
  grpc::ServerUnaryReactor* DiffSpecs(grpc::CallbackServerContext* context,
                                      const v1::DiffSpecsRequest* request,
                                      v1::DiffSpecsResponse* response) override;
  grpc::ServerUnaryReactor* ListSpecs(grpc::CallbackServerContext* context,
                                      const v1::ListSpecsRequest* request,
                                      v1::ListSpecsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteSpecs(grpc::CallbackServerContext* context,
                                        const v1::DeleteSpecsRequest* request,
                                        v1::DeleteSpecsResponse* response) override;

 private:
  Status Apply(const net::Identity& caller, const v1::ApplySpecsRequest& request,
               v1::ApplySpecsResponse& response);
  Status Diff(const v1::DiffSpecsRequest& request, v1::DiffSpecsResponse& response);
  Status List(const v1::ListSpecsRequest& request, v1::ListSpecsResponse& response);
  Status Delete(const net::Identity& caller, const v1::DeleteSpecsRequest& request,
                v1::DeleteSpecsResponse& response);

  Store& store_;
  Gate& gate_;
  const Clock& clock_;
  const std::function<void()> on_change_;
};

}  // namespace muster::control
