// AgentLink.Session: one stream an agent. A reaction hands its frame to the hub's pool and returns,
// or judges it at once if it is small and nothing is to be waited for;
// one read and one write are in flight, not reading is the back-pressure, and what waits to be sent
// is one message of each kind at most.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "control-plane/rpc/agent_hub.h"
#include "control-plane/rpc/gate.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::control {

class AgentLinkService final : public v1::AgentLink::CallbackService {
 public:
  // Both must outlive the gRPC server.
  AgentLinkService(AgentHub& hub, Gate& gate) : hub_(hub), gate_(gate) {}

  grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>* Session(
      grpc::CallbackServerContext* context) override;

 private:
  AgentHub& hub_;
  Gate& gate_;
};

}  // namespace muster::control
