// A server's own word of its health: grpc.health.v1.Health.Check over a channel of its own.
#include <grpcpp/grpcpp.h>

#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/resolve.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// The code by which a server says that it has no such service at all.
constexpr auto kNoSuchMethod = static_cast<grpc::StatusCode>(12);

class GrpcProbe final : public Probe {
 public:
  GrpcProbe(v1::GrpcProbe spec, HostPort target, Policy policy)
      : spec_(std::move(spec)), target_(std::move(target)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<Address> address =
        ResolveAllowed(target_.host, target_.port, policy_, context, report);
    if (!address.ok()) return report.Failed(address.status());
    const auto credentials = Credentials();
    if (!credentials.ok()) return report.Failed(credentials.status());
    const auto channel = Channel(*address, *credentials);
    const auto until = absl::ToChronoTime(context.clock.Now() + context.Left());
    report.Begin("connect", "connecting to " + address->Text());
    if (!Connect(*channel, until)) return report.TimedOut();
    report.Begin("check", "waiting for the health of " + address->Text());
    return Check(*channel, until, context, *address, report);
  }

 private:
  using Until = std::chrono::system_clock::time_point;

  StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials() const {
    if (!spec_.tls()) return grpc::InsecureChannelCredentials();
    grpc::SslCredentialsOptions options;
    if (!spec_.ca_file().empty()) {
      MUSTER_ASSIGN_OR_RETURN(options.pem_root_certs, ReadFile(spec_.ca_file()));
    }
    return grpc::SslCredentials(options);
  }

  std::shared_ptr<grpc::Channel> Channel(
      const Address& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    arguments.SetMaxReceiveMessageSize(64 * 1024);
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, spec_.address());
    if (spec_.tls()) {
      arguments.SetSslTargetNameOverride(spec_.server_name().empty() ? target_.host
                                                                     : spec_.server_name());
    }
    const char* scheme = address.storage.ss_family == AF_INET6 ? "ipv6:" : "ipv4:";
    return grpc::CreateCustomChannel(scheme + address.Text(), credentials, arguments);
  }

  // True once it is known how the connection went; the call then says what went wrong.
  static bool Connect(grpc::Channel& channel, Until until) {
    grpc_connectivity_state state = channel.GetState(true);
    while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE) {
      if (!channel.WaitForStateChange(state, until)) return false;
      state = channel.GetState(true);
    }
    return true;
  }

  ProbeResult Check(grpc::Channel& channel, Until until, const ProbeContext& context,
                    const Address& address, Report& report) const {
    grpc::ClientContext call;
    call.set_deadline(until);
    HealthCheckRequest request;
    HealthCheckResponse response;
    request.set_service(spec_.service());
    report.Sent(fmt::format("Health.Check service '{}'", spec_.service()));
    const auto stub =
        Health::NewStub(std::shared_ptr<grpc::Channel>(&channel, [](grpc::Channel*) {}));
    const grpc::Status status = stub->Check(&call, request, &response);
    if (!status.ok()) {
      report.Received(fmt::format("status {}: {}", static_cast<int>(status.error_code()),
                                  status.error_message()));
      return Refused(status, context, address, report);
    }
    const std::string word = HealthCheckResponse::ServingStatus_Name(response.status());
    report.Received(word);
    if (response.status() == HealthCheckResponse::SERVING) return report.Ok("SERVING");
    return report.Critical(
        fmt::format("{}{}", word, spec_.service().empty() ? "" : ": " + spec_.service()));
  }

  ProbeResult Refused(const grpc::Status& status, const ProbeContext& context,
                      const Address& address, Report& report) const {
    const std::string message = status.error_message();
    switch (status.error_code()) {
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        if (context.Left() <= absl::Milliseconds(20)) return report.TimedOut();
        return report.Critical("the server says DEADLINE_EXCEEDED");
      case grpc::StatusCode::NOT_FOUND:
        return report.Critical(fmt::format("the server knows no service '{}'", spec_.service()));
      case kNoSuchMethod:
        return report.Critical(
            fmt::format("{} does not implement grpc.health.v1.Health", address.Text()));
      default: break;
    }
    if (message.find("Connection refused") != std::string::npos) {
      return report.Critical("connection refused by " + address.Text());
    }
    return report.Critical(
        fmt::format("gRPC error {}: {}", static_cast<int>(status.error_code()), message));
  }

  const v1::GrpcProbe spec_;
  const HostPort target_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeGrpcProbe(const v1::GrpcProbe& spec, const Policy& policy) {
  MUSTER_ASSIGN_OR_RETURN(HostPort target, ParseTarget(spec.address()));
  if (!spec.ca_file().empty()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.ca_file()));
  return std::make_unique<GrpcProbe>(spec, std::move(target), policy);
}

}  // namespace muster::agent
