// A gRPC server behind a guarded listener.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/unknown_methods.h"
#include "lib/base/clock.h"
#include "lib/net/listener.h"
#include "lib/net/tls.h"

namespace muster::control {

class Port {
 public:
  static StatusOr<std::unique_ptr<Port>> Open(net::ListenerOptions options) {
    auto port = std::make_unique<Port>();
    MUSTER_ASSIGN_OR_RETURN(port->listener_, net::GuardedListener::Bind(std::move(options)));
    return port;
  }
  Status Serve(std::shared_ptr<grpc::ServerCredentials> credentials,
               const std::vector<grpc::Service*>& services, Gate& gate) {
    unknown_.emplace(gate);
    grpc::ServerBuilder builder;
    net::SetServerArguments(builder);
    listener_->AttachTo(builder, std::move(credentials));
    for (grpc::Service* service : services) builder.RegisterService(service);
    builder.RegisterCallbackGenericService(&*unknown_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return Internal("could not start the gRPC server");
    listener_->Start();
    return net::ProveTls13Only(listener_->own_address());
  }
  void StopAccepting() { listener_->Stop(); }
  // Calls that are on their way get so long to end.
  void Shutdown(const Clock& clock, absl::Duration within) {
    listener_->Stop();
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(clock.Now() + within));
    server_.reset();
  }
  bool Cut(const std::string& peer) { return listener_->Cut(peer); }
  void Arrived(const std::string& peer) { listener_->Arrived(peer); }
  std::optional<absl::Duration> LastHeard(const std::string& peer) const {
    return listener_->LastHeard(peer);
  }
  uint16_t number() const { return listener_->port(); }
  net::ListenerCounts counts() const { return listener_->counts(); }

 private:
  std::unique_ptr<net::GuardedListener> listener_;
  std::optional<UnknownMethods> unknown_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace muster::control
