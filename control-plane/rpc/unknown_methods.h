// Calls of methods that no service of a port has. The gate counts each as refused, so that a flood
// of them is cut like any other.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include "control-plane/rpc/gate.h"

namespace muster::control {

// One for each port.
class UnknownMethods final : public grpc::CallbackGenericService {
 public:
  // The gate must outlive the gRPC server.
  explicit UnknownMethods(Gate& gate) : gate_(gate) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

 private:
  Gate& gate_;
};

}  // namespace muster::control
