#include "tests/bench/fleet/greeter.h"

#include <grpcpp/grpcpp.h>

#include <memory>

#include "control-plane/ingest/session.h"
#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/net/listener.h"
#include "lib/net/server_identity.h"
#include "lib/net/tls.h"
#include "lib/testing/servers.h"
#include "lib/wire/time.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(100);

// Answers each message before it reads the next. Ends with OnDone.
class Greeting final : public grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent> {
 public:
  Greeting() { StartRead(&in_); }
  void OnReadDone(bool ok) override {
    if (!ok) return End();
    out_.Clear();
    if (in_.has_hello()) {
      Welcome(in_.hello());
    } else {
      out_.mutable_ack()->set_sequence(in_.records().last_sequence());
    }
    StartWrite(&out_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return End();
    in_.Clear();
    StartRead(&in_);
  }
  void OnDone() override { delete this; }

 private:
  void End() { Finish(grpc::Status::OK); }
  void Welcome(const v1::Hello& hello) {
    const control::SessionSettings settings;
    out_.mutable_welcome()->set_committed_sequence(hello.last_sequence());
    v1::SessionLimits& limits = *out_.mutable_welcome()->mutable_limits();
    limits.set_window(settings.window);
    limits.set_batch_entries(settings.batch_entries);
    limits.set_batch_bytes(settings.batch_bytes);
    *limits.mutable_flush() = wire::ToProto(settings.flush);
  }

  v1::FromAgent in_;
  v1::ToAgent out_;
};

class Greeter final : public v1::AgentLink::CallbackService {
 public:
  explicit Greeter(net::GuardedListener& door) : door_(door) {}
  grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>* Session(
      grpc::CallbackServerContext* context) override {
    door_.Arrived(context->peer());
    return new Greeting;
  }

 private:
  net::GuardedListener& door_;
};

StatusOr<std::shared_ptr<net::CurrentIdentity>> IdentityFrom(const std::string& data) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, control::LoadClusterKey(data + "/cluster.key"));
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<control::Store> store,
                          control::Store::Open("sqlite:" + data + "/muster.db"));
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<control::Authority> authority,
                          control::Authority::Load(store->identity(), key, SystemClock()));
  MUSTER_ASSIGN_OR_RETURN(const auto certificate, authority->IssueServer("r-greeter"));
  return net::CurrentIdentity::Make(
      {authority->RootsPem(), certificate.chain_pem, certificate.key_pem});
}

}  // namespace

Status ServeGreeter(const std::string& data, const std::string& listen,
                    const std::atomic<bool>& stop) {
  MUSTER_ASSIGN_OR_RETURN(const auto identity, IdentityFrom(data));
  MUSTER_ASSIGN_OR_RETURN(const auto door, net::GuardedListener::Bind({.address = listen}));
  Greeter greeter(*door);
  grpc::ServerBuilder builder;
  net::SetServerArguments(builder);
  door->AttachTo(builder, net::MutualTls(identity));
  builder.RegisterService(&greeter);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return Unavailable("the gRPC server does not start");
  door->Start();
  while (!stop) testing::Pause(kLook);
  door->Stop();
  server->Shutdown(absl::ToChronoTime(SystemClock().Now()));
  return OkStatus();
}

}  // namespace muster::bench
