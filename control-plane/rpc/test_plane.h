// A control plane's services behind a real guarded listener with real mutual TLS, in the test's
// process.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/rpc/agent_hub.h"
#include "control-plane/rpc/agent_link_service.h"
#include "control-plane/rpc/alert_service.h"
#include "control-plane/rpc/backup_service.h"
#include "control-plane/rpc/enrollment_service.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/rpc/identity_service.h"
#include "control-plane/rpc/run_service.h"
#include "control-plane/rpc/spec_service.h"
#include "control-plane/rpc/state_service.h"
#include "control-plane/rpc/system_service.h"
#include "control-plane/rpc/unknown_methods.h"
#include "lib/net/listener.h"
#include "lib/net/server_identity.h"
#include "lib/net/tls.h"
#include "lib/testing/servers.h"

namespace muster::control {

// A gRPC server behind a guarded listener on loopback.
class TestPort {
 public:
  ~TestPort() { Stop(); }
  void Serve(std::shared_ptr<grpc::ServerCredentials> credentials,
             const std::vector<grpc::Service*>& services, Gate& gate,
             const net::ListenerOptions& options = {.address = "127.0.0.1:0"}) {
    listener_ = *net::GuardedListener::Bind(options);
    unknown_ = std::make_unique<UnknownMethods>(gate);
    grpc::ServerBuilder builder;
    net::SetServerArguments(builder);
    listener_->AttachTo(builder, std::move(credentials));
    for (grpc::Service* service : services) builder.RegisterService(service);
    builder.RegisterCallbackGenericService(unknown_.get());
    server_ = builder.BuildAndStart();
    listener_->Start();
  }
  void Stop() {
    if (server_ == nullptr) return;
    listener_->Stop();
    server_->Shutdown(absl::ToChronoTime(SystemClock().Now()));
    server_.reset();
  }
  void Cut(const std::string& peer) { listener_->Cut(peer); }
  void Arrived(const std::string& peer) { listener_->Arrived(peer); }
  std::optional<absl::Duration> LastHeard(const std::string& peer) const {
    return listener_->LastHeard(peer);
  }
  net::GuardedListener& listener() { return *listener_; }
  std::string address() const { return fmt::format("127.0.0.1:{}", listener_->port()); }

 private:
  std::unique_ptr<net::GuardedListener> listener_;
  std::unique_ptr<UnknownMethods> unknown_;
  std::unique_ptr<grpc::Server> server_;
};

class TestPlane {
 public:
  // The gate may have a clock of its own, by which it counts what happens in a second.
  explicit TestPlane(const Clock& gate_clock = SystemClock()) {
    net::PrepareTls();
    const std::string key_path = folder_.File("cluster.key");
    EXPECT_TRUE(MakeClusterKey(key_path).ok());
    key_ = *LoadClusterKey(key_path);
    store_ = *Store::Open("sqlite:" + folder_.File("muster.db"));
    // Old enough to have signed what has expired since.
    const ManualClock long_ago(clock_.Now() - absl::Hours(24 * 100));
    EXPECT_TRUE(Authority::Create(store_->identity(), key_, long_ago).ok());
    authority_ = AuthorityAt(clock_);
    GateOptions gate;
    gate.arrived = [this](const std::string& peer) {
      main_.Arrived(peer);
      arrived(peer);
    };
    gate.cut_connection = [this](const std::string& peer) { main_.Cut(peer); };
    gate.last_heard = [this](const std::string& peer) { return main_.LastHeard(peer); };
    gate_ = std::make_unique<Gate>(store_->identity(), gate_clock, std::move(gate));
    HubOptions options;
    options.replica = "r-test";
    options.servers = [this] { return servers(); };
    witnesses_ =
        std::make_unique<Witnesses>(store_->audit(), *authority_, clock_, absl::ZeroDuration());
    hub_ = std::make_unique<AgentHub>(*store_, *witnesses_, clock_, std::move(options));
    const auto servers = [this] { return this->servers(); };
    link_ = std::make_unique<AgentLinkService>(*hub_, *gate_);
    identity_ = std::make_unique<IdentityService>(*store_, *authority_, *gate_, clock_, servers,
                                                  [this] { ++revocations; });
    enrollment_ = std::make_unique<EnrollmentService>(
        store_->identity(), *authority_, *gate_, clock_,
        EnrollmentOptions{.servers = servers, .may_try = [this](const std::string& address) {
                            return may_try(address);
                          }});
    specs_ = std::make_unique<SpecService>(*store_, *gate_, clock_, [] {});
    states_ = std::make_unique<StateService>(*store_, *gate_, clock_);
    alerts_ = std::make_unique<AlertService>(*store_, *gate_, clock_);
    runs_ = std::make_unique<RunService>(*store_, *gate_, clock_, [] {});
    backups_ = std::make_unique<BackupService>(*store_, *gate_, clock_, [] {});
    system_ = std::make_unique<SystemService>(*store_, *witnesses_, *gate_, clock_,
                                              [] { return DoctorFacts{}; });
    const auto certificate = *authority_->IssueServer("r-test");
    own_ = *net::CurrentIdentity::Make(
        {authority_->RootsPem(), certificate.chain_pem, certificate.key_pem});
    main_.Serve(net::MutualTls(own_),
                {link_.get(), identity_.get(), specs_.get(), states_.get(), alerts_.get(),
                 runs_.get(), backups_.get(), system_.get()},
                *gate_);
    enroll_.Serve(net::ServerTls(own_), {enrollment_.get()}, *gate_);
    serving_ = true;
  }

  // A certificate of the role, known to the store.
  net::ClientIdentity Identity(v1::Role role, const std::string& name) {
    return Identity(*authority_, role, name, true);
  }
  net::ClientIdentity Identity(const Authority& authority, v1::Role role, const std::string& name,
                               bool stored) {
    const Secret key = *net::NewPrivateKey();
    const Issued issued = *authority.Issue(role, name, *net::NewCertificateRequest(key));
    if (role == v1::ROLE_AGENT && stored) AddAgent(issued);
    if (role != v1::ROLE_AGENT && stored) AddCertificate(issued);
    return {authority_->RootsPem(), net::DerToPem(issued.chain_der), std::string(key.Reveal())};
  }

  // Another certificate of an identity that is there.
  net::ClientIdentity Renewed(v1::Role role, const std::string& name) {
    const Secret key = *net::NewPrivateKey();
    const Issued issued = *authority_->Issue(role, name, *net::NewCertificateRequest(key));
    AddCertificate(issued);
    return {authority_->RootsPem(), net::DerToPem(issued.chain_der), std::string(key.Reveal())};
  }

  std::shared_ptr<grpc::Channel> Channel(const net::ClientIdentity& identity) {
    return net::OpenChannel(address(), identity);
  }
  std::string address() const { return main_.address(); }
  // What agents are told to dial: this one, and those that were named.
  std::vector<std::string> servers() const {
    absl::MutexLock lock(&others_mutex_);
    std::vector<std::string> all = others_;
    if (serving_) all.insert(all.begin(), address());
    return all;
  }
  void SetOthers(std::vector<std::string> others) {
    absl::MutexLock lock(&others_mutex_);
    others_ = std::move(others);
  }
  std::string enroll_address() const { return enroll_.address(); }
  uint16_t port() { return listener().port(); }
  uint16_t enroll_port() { return enroll_.listener().port(); }
  net::GuardedListener& listener() { return main_.listener(); }
  // The same authority, as it signs at another time or for other lifetimes.
  std::unique_ptr<Authority> AuthorityAt(const Clock& clock, Lifetimes lifetimes = {}) {
    return *Authority::Load(store_->identity(), key_, clock, lifetimes);
  }
  // The authority's own key, for certificates that it would never sign.
  net::KeyPtr AuthorityKey() {
    const AuthorityRow row = *store_->identity().LoadAuthority();
    return *net::ReadPrivateKey(Unseal(key_, row.sealed_key, "muster authority key")->Reveal());
  }
  // What the enrolment port asks before each attempt; change it before anybody calls.
  // Of calls, by the peer as gRPC names it.
  std::function<void(const std::string& peer)> arrived = [](const std::string&) {};
  std::function<bool(const std::string& address)> may_try = [](const std::string&) { return true; };
  std::atomic<int> revocations = 0;  // that were told of

  Store& store() { return *store_; }
  Authority& authority() { return *authority_; }
  Gate& gate() { return *gate_; }
  AgentHub& hub() { return *hub_; }
  Witnesses& witnesses() { return *witnesses_; }
  net::CurrentIdentity& own() { return *own_; }
  const std::shared_ptr<net::CurrentIdentity>& own_identity() { return own_; }
  const Clock& clock() const { return clock_; }

 private:
  void AddCertificate(const Issued& issued) {
    EXPECT_TRUE(store_->identity()
                    .SaveCertificate(issued.row, {"test", "certificate.issue", issued.row.name, "",
                                                  clock_.Now()})
                    .ok());
  }
  void AddAgent(const Issued& issued) {
    const TokenRow token{
        "hash of " + issued.row.fingerprint, issued.row.name, {}, clock_.Now() + absl::Hours(1)};
    EXPECT_TRUE(store_->identity()
                    .SaveToken(token, {"test", "token.create", issued.row.name, "", clock_.Now()})
                    .ok());
    EXPECT_TRUE(store_->identity()
                    .RedeemToken(token.hash, issued.row, clock_.Now(),
                                 {"test", "agent.join", issued.row.name, "", clock_.Now()})
                    .ok());
  }

  mutable absl::Mutex others_mutex_;
  std::vector<std::string> others_ ABSL_GUARDED_BY(others_mutex_);
  std::atomic<bool> serving_ = false;
  const Clock& clock_ = SystemClock();
  testing::TempFolder folder_;
  Secret key_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Authority> authority_;
  std::shared_ptr<net::CurrentIdentity> own_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Witnesses> witnesses_;
  std::unique_ptr<AgentHub> hub_;
  std::unique_ptr<AgentLinkService> link_;
  std::unique_ptr<IdentityService> identity_;
  std::unique_ptr<EnrollmentService> enrollment_;
  std::unique_ptr<SpecService> specs_;
  std::unique_ptr<StateService> states_;
  std::unique_ptr<AlertService> alerts_;
  std::unique_ptr<RunService> runs_;
  std::unique_ptr<BackupService> backups_;
  std::unique_ptr<SystemService> system_;
  TestPort main_;
  TestPort enroll_;
};

}  // namespace muster::control
