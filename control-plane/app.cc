#include "control-plane/app.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "control-plane/hint_exchange.h"
#include "control-plane/http/metrics.h"
#include "control-plane/http/readiness.h"
#include "control-plane/http/server.h"
#include "control-plane/loops/heartbeat.h"
#include "control-plane/loops/leader.h"
#include "control-plane/loops/runner.h"
#include "control-plane/opening.h"
#include "control-plane/pki/authority.h"
#include "control-plane/pki/cluster_key.h"
#include "control-plane/port.h"
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
#include "control-plane/rpc/witnesses.h"
#include "control-plane/term_work.h"
#include "lib/base/backoff.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/net/context.h"
#include "lib/net/listener.h"
#include "lib/net/server_identity.h"
#include "lib/program/program.h"
#include "lib/redis/rate_limiter.h"

namespace muster::control {
namespace {

// How long agents get to go elsewhere, and then what is still on its way.
constexpr absl::Duration kDrainWithin = absl::Seconds(5);
constexpr absl::Duration kEndWithin = absl::Seconds(2);
// Counted by all replicas together where they have a Redis.
constexpr redis::RateLimit kJoinsOfAnAddress{.permits = 600, .per = absl::Minutes(1), .burst = 200};

// Made at the first start, so that a restart finds the sessions that this replica left open.
StatusOr<std::string> ReplicaId(const std::string& folder) {
  const std::string path = folder + "/replica.id";
  if (FileExists(path)) {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    return std::string(Trim(text));
  }
  const std::string id = "r-" + RandomUuid().substr(0, 8);
  MUSTER_RETURN_IF_ERROR(WriteFileAtomically(path, id + "\n"));
  return id;
}

// Nothing if there is to be none. Redis itself is not asked: it may be away.
StatusOr<std::optional<redis::Address>> RedisAddress(const Config& config) {
  if (config.redis.empty()) return std::optional<redis::Address>();
  MUSTER_ASSIGN_OR_RETURN(redis::Address address,
                          redis::Address::Parse(config.redis, config.redis_from));
  MUSTER_RETURN_IF_ERROR(address.CheckFiles());
  return std::optional<redis::Address>(std::move(address));
}

// Counters that grow elsewhere, as Prometheus counters: adds what came since the last look.
class Growth {
 public:
  double Since(uint64_t now) {
    const double grown = now > last_ ? static_cast<double>(now - last_) : 0;
    last_ = now;
    return grown;
  }

 private:
  uint64_t last_ = 0;
};

// Everything else that serves, in the order in which it starts; members end in the opposite order.
class Plane {
 public:
  Plane(const Config& config, Front& front, std::unique_ptr<Store> store,
        std::unique_ptr<Authority> authority, std::optional<redis::Address> redis,
        std::string replica)
      : config_(config),
        front_(front),
        clock_(SystemClock()),
        random_(SystemRandom()),
        replica_(std::move(replica)),
        store_(std::move(store)),
        authority_(std::move(authority)),
        redis_(std::move(redis)),
        descriptors_(RaiseDescriptorLimit()),
        connections_(LimitsOf(config, descriptors_)),
        metrics_(front.metrics) {}

  ~Plane() {
    front_.readiness.Not(Unavailable("stopping"));
    if (hints_.has_value()) hints_->Stop();
    // Each hands on to the other.
    if (heartbeat_.has_value()) heartbeat_->Stop();
    if (leader_.has_value()) leader_->Stop();
  }

  // After an error nothing is left behind among the replicas.
  Status Start() {
    const Status started = StartAll();
    if (started.ok() || !heartbeat_.has_value()) return started;
    heartbeat_->Stop();
    Tell("the others that this replica has gone", store_->cluster().Leave(heartbeat_->self()));
    return started;
  }

  // Gives up what this replica holds in the order in which others can take it: the lease, the
  // agents, its place among the replicas.
  void Stop() {
    LogInfo("stopping", {{"agents", hub_->connected()}});
    draining_ = true;
    leader_->Stop();
    Tell("the others that this replica drains", heartbeat_->Drain());
    hints_->Publish(redis::Topic::kReplicas);
    main_->StopAccepting();
    hub_->DrainAll();
    if (!hub_->AwaitEmpty(kDrainWithin))
      LogWarning("agents are left", {{"agents", hub_->connected()}});
    if (enroll_ != nullptr) enroll_->Shutdown(clock_, kEndWithin);
    main_->Shutdown(clock_, kEndWithin);
    front_.readiness.Not(Unavailable("stopping"));
    certificate_runner_.reset();
    metrics_loop_.reset();
    cut_off_loop_.reset();
    hints_->Stop();
    heartbeat_->Stop();
    hub_->Stop();
    Tell("the others that this replica has gone", store_->cluster().Leave(heartbeat_->self()));
  }

 private:
  net::ListenerOptions Listening(const std::string& address) const {
    net::ListenerOptions options;
    options.address = address;
    options.max_connections = connections_.all;
    options.max_connections_per_peer = connections_.per_address;
    return options;
  }

  Status StartAll() {
    if (connections_.all >= descriptors_) {
      LogWarning("maxConnections is more than this process may open; raise LimitNOFILE",
                 {{"connections", connections_.all}, {"descriptors", descriptors_}});
    }
    MUSTER_ASSIGN_OR_RETURN(main_, Port::Open(Listening(config_.listen)));
    if (config_.enroll_listen != Config::kOff) {
      MUSTER_ASSIGN_OR_RETURN(enroll_, Port::Open(Listening(config_.enroll_listen)));
    }
    metrics_.AuthorityExpires(authority_->not_after());
    MUSTER_RETURN_IF_ERROR(OpenRedis());
    MUSTER_RETURN_IF_ERROR(JoinCluster());
    StartGate();
    StartHub();
    StartServices();
    StartLeader();
    heartbeat_->Once();  // the first agent is told of the other replicas already
    MUSTER_RETURN_IF_ERROR(Serve());
    StartLoops();
    heartbeat_->Start();
    hints_->Start();
    hints_->Publish(redis::Topic::kReplicas);
    BeReady();
    return OkStatus();
  }

  static void Tell(std::string_view what, const Status& told) {
    if (!told.ok()) LogWarning(fmt::format("could not tell {}", what), {{"error", told}});
  }

  // Control planes that share a Redis do not hear one another.
  std::string RedisPrefix() const {
    return "muster:" + HexEncode(std::string_view(authority_->Pin()).substr(0, 8));
  }

  // Opens nothing that must be there; an error is one of the settings.
  Status OpenRedis() {
    std::unique_ptr<redis::Hints> hints = redis::NoHints();
    joins_ = redis::LocalRateLimiter(kJoinsOfAnAddress, clock_);
    if (redis_.has_value()) {
      redis::ClientOptions client{.name = "muster:" + replica_};
      MUSTER_ASSIGN_OR_RETURN(
          hints, redis::OpenHints(*redis_, {.prefix = RedisPrefix(), .client = client}));
      MUSTER_ASSIGN_OR_RETURN(redis_client_, redis::OpenClient(*redis_, client));
      joins_ = redis::SharedRateLimiter(*redis_client_, RedisPrefix() + ":join", kJoinsOfAnAddress,
                                        clock_);
    }
    hints_.emplace(std::move(hints), Reactions());
    return OkStatus();
  }

  HintReactions Reactions() {
    return {.on_specs = [this] { LookAtSpecs(); },
            .on_transitions = [this] { LookAtTransitions(); },
            .on_revocations = [this] { gate_->RevokedElsewhere(); },
            .on_replicas = [this] { heartbeat_->Wake(); },
            .on_runs = [this] { LookAtRuns(); },
            .on_states = [this](const std::string& agent) { hub_->StatesChanged(agent); }};
  }

  Status JoinCluster() {
    MUSTER_ASSIGN_OR_RETURN(
        ReplicaRow self,
        store_->cluster().Start({.id = replica_,
                                 .addresses = Advertised(config_.advertise, main_->number()),
                                 .version = MUSTER_VERSION}));
    HeartbeatOptions options;
    options.on_lead = [this](LeaderEpoch epoch, absl::Duration until) {
      leader_->Lead(epoch, until);
    };
    options.on_leave = [this] { leader_->Leave(); };
    options.on_found = [this] { hub_->Found(); };
    // The other one goes on: this one drains as if it had been told to.
    options.on_replaced = [this](const Status&) {
      if (!replaced_.exchange(true)) kill(getpid(), SIGTERM);
    };
    heartbeat_.emplace(*store_, clock_, std::move(self), std::move(options));
    return OkStatus();
  }

  void StartLeader() {
    surroundings_.emplace(TermSurroundings{config_, clock_, *random_, *store_, metrics_, *hub_,
                                           *heartbeat_, [this] { TransitionsCame(); },
                                           [this] { RunsWereGiven(); },
                                           [this](const std::string& agent) {
                                             hub_->StatesChanged(agent);
                                             hints_->Publish(redis::Topic::kStates, agent);
                                           }});
    leader_.emplace(clock_, [this](std::shared_ptr<Term> term) {
      return BeginTerm(*surroundings_, std::move(term));
    });
  }

  void StartGate() {
    GateOptions options;
    options.arrived = [this](const std::string& peer) {
      main_->Arrived(peer);
      if (enroll_ != nullptr) enroll_->Arrived(peer);
    };
    options.cut_connection = [this](const std::string& peer) {
      if (!main_->Cut(peer) && enroll_ != nullptr) enroll_->Cut(peer);
    };
    // Sessions come through this port alone.
    options.last_heard = [this](const std::string& peer) { return main_->LastHeard(peer); };
    gate_.emplace(store_->identity(), clock_, std::move(options));
  }

  // Another replica may lead, and others have watchers.
  void TransitionsCame() {
    LookAtTransitions();
    hints_->Publish(redis::Topic::kTransitions);
  }

  void LookAtTransitions() {
    if (leader_.has_value()) leader_->Wake();
    if (states_.has_value()) states_->StatesChanged();
  }

  // By this replica's leader, which need not look at that.
  void RunsWereGiven() {
    hub_->RunsChanged();
    if (runs_.has_value()) runs_->RunsChanged();
    hints_->Publish(redis::Topic::kRuns);
  }

  // What the leader, the hub and those who wait for a run have to look at.
  void RunsCame() {
    LookAtRuns();
    hints_->Publish(redis::Topic::kRuns);
  }

  void LookAtRuns() {
    if (leader_.has_value()) leader_->Wake();
    if (hub_.has_value()) hub_->RunsChanged();
    if (runs_.has_value()) runs_->RunsChanged();
  }

  void LookAtSpecs() {
    hub_->SpecsChanged();
    LookAtTransitions();
  }

  void StartHub() {
    HubOptions options;
    options.replica = replica_;
    options.session.flush = config_.flush;
    witnesses_.emplace(store_->audit(), *authority_, clock_);
    options.on_transitions = [this] { TransitionsCame(); };
    options.committer.on_runs = [this] { RunsCame(); };
    options.committer.on_commit = [this](absl::Duration took) {
      metrics_.commit_seconds.Observe(absl::ToDoubleSeconds(took));
    };
    options.servers = [this] { return heartbeat_->Servers(); };
    hub_.emplace(*store_, *witnesses_, clock_, std::move(options));
  }

  void StartServices() {
    const auto servers = [this] { return heartbeat_->Servers(); };
    link_.emplace(*hub_, *gate_);
    identity_.emplace(*store_, *authority_, *gate_, clock_, servers,
                      [this] { hints_->Publish(redis::Topic::kRevocations); });
    enrollment_.emplace(
        store_->identity(), *authority_, *gate_, clock_,
        EnrollmentOptions{servers, config_.expired_agent_grace, [this](const std::string& address) {
                            return joins_->Take(address).allowed;
                          }});
    specs_.emplace(*store_, *gate_, clock_, [this] {
      LookAtSpecs();
      hints_->Publish(redis::Topic::kSpecs);
    });
    states_.emplace(*store_, *gate_, clock_);
    alerts_.emplace(*store_, *gate_, clock_);
    runs_.emplace(*store_, *gate_, clock_, [this] { RunsCame(); });
    backups_.emplace(*store_, *gate_, clock_, [this] { RunsCame(); });
    system_.emplace(*store_, *witnesses_, *gate_, clock_, [this] { return LocalFacts(); });
  }

  DoctorFacts LocalFacts() const {
    DoctorFacts facts;
    facts.authority_expires_at = authority_->not_after();
    const Heartbeat::View view = heartbeat_->view();
    facts.serving_since = view.serving_since;
    facts.leadership = view.policy;
    facts.redis = LocalRedis();
    struct statvfs disk {};
    if (statvfs(config_.data.c_str(), &disk) == 0) {
      facts.disk_free_bytes = uint64_t{disk.f_bavail} * disk.f_frsize;
      facts.disk_size_bytes = uint64_t{disk.f_blocks} * disk.f_frsize;
    }
    return facts;
  }

  std::optional<RedisFacts> LocalRedis() const {
    if (!redis_.has_value()) return std::nullopt;
    const redis::HintsHealth health = hints_->health();
    return RedisFacts{redis_->name(), health.publishing && health.listening, health.last_error};
  }

  StatusOr<net::ServerIdentity> NewIdentity() {
    MUSTER_ASSIGN_OR_RETURN(const Authority::ServerCertificate certificate,
                            authority_->IssueServer(replica_));
    renew_at_ = certificate.renew_at;
    return net::ServerIdentity{authority_->RootsPem(), certificate.chain_pem, certificate.key_pem};
  }

  // Connections stay; handshakes from now on see the new certificate.
  Status RenewOwnCertificate(absl::Time now) {
    if (now < renew_at_) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(net::ServerIdentity next, NewIdentity());
    MUSTER_RETURN_IF_ERROR(own_->Replace(std::move(next)));
    LogInfo("renewed the control plane's certificate", {{"next", TimeText(renew_at_)}});
    return OkStatus();
  }

  Status Serve() {
    MUSTER_ASSIGN_OR_RETURN(net::ServerIdentity first, NewIdentity());
    MUSTER_ASSIGN_OR_RETURN(own_, net::CurrentIdentity::Make(std::move(first)));
    if (enroll_ != nullptr)
      MUSTER_RETURN_IF_ERROR(enroll_->Serve(net::ServerTls(own_), {&*enrollment_}, *gate_));
    return main_->Serve(
        net::MutualTls(own_),
        {&*link_, &*identity_, &*specs_, &*states_, &*alerts_, &*runs_, &*backups_, &*system_},
        *gate_);
  }

  void StartLoops() {
    certificate_runner_.emplace("certificate", absl::Seconds(1), clock_,
                                [this](absl::Time now) { return RenewOwnCertificate(now); });
    metrics_loop_.emplace("metrics", absl::Seconds(1), [this] { CountAll(); });
    // Waits for no database.
    cut_off_loop_.emplace("cut-off", absl::Seconds(1), [this] { SendAgentsElsewhereIfCutOff(); });
  }

  void SendAgentsElsewhereIfCutOff() {
    const bool before = std::exchange(cut_off_, heartbeat_->CutOff());
    if (!cut_off_ || before) return;
    LogWarning("the store is out of reach: agents are sent to the other replicas",
               {{"agents", hub_->connected()}});
    hub_->SendElsewhere();
  }

  void CountReplicas() {
    const Heartbeat::View view = heartbeat_->view();
    const LeaderCounts counts = leader_->counts();
    metrics_.leader.Set(leader_->epoch() == LeaderEpoch{} ? 0 : 1);
    metrics_.leader_epoch.Set(static_cast<double>(view.lease.epoch.value));
    metrics_.leader_terms.Increment(terms_grown_.Since(counts.terms));
    metrics_.leader_writes_refused.Increment(late_grown_.Since(counts.refused));
    std::map<v1::Replica::State, int> states;
    for (const ReplicaRow& replica : view.replicas) {
      ++states[ReplicaMessage(replica, view.lease, view.now, view.policy).state()];
    }
    metrics_.replicas_live.Set(states[v1::Replica::STATE_LIVE]);
    metrics_.replicas_draining.Set(states[v1::Replica::STATE_DRAINING]);
    metrics_.replicas_lost.Set(states[v1::Replica::STATE_LOST]);
    metrics_.heartbeats_failed.Increment(missed_grown_.Since(view.failures));
    metrics_.heartbeat_seconds.Set(absl::ToDoubleSeconds(view.took));
  }

  void CountHints() {
    const redis::HintsHealth health = hints_->health();
    metrics_.redis_up.Set(health.publishing && health.listening ? 1 : 0);
    metrics_.redis_hints_published.Increment(published_grown_.Since(health.published));
    metrics_.redis_hints_heard.Increment(heard_grown_.Since(health.heard));
  }

  void CountAll() {
    CountReplicas();
    CountHints();
    const CommitterCounts commits = hub_->committer().counts();
    metrics_.agents_connected.Set(static_cast<double>(hub_->connected()));
    metrics_.sessions_opened.Increment(sessions_grown_.Since(hub_->opened()));
    metrics_.results_stored.Increment(results_grown_.Since(commits.results));
    metrics_.batches_stored.Increment(batches_grown_.Since(commits.batches));
    metrics_.batches_refused.With("fenced").Increment(aborted_grown_.Since(commits.aborted));
    metrics_.batches_refused.With("queue_full").Increment(refused_grown_.Since(commits.refused));
    metrics_.reports_refused.Increment(reports_grown_.Since(commits.reports_refused));
    metrics_.audit_contradictions.Set(static_cast<double>(witnesses_->contradictions()));
    metrics_.ingest_queue_batches.Set(static_cast<double>(commits.waiting));
    metrics_.connections_refused.With("denied").Increment(denied_grown_.Since(gate_->refused()));
    const net::ListenerCounts connections = main_->counts();
    metrics_.connections_refused.With("limit").Increment(
        full_grown_.Since(connections.refused_full + connections.refused_no_descriptors));
    metrics_.connections_refused.With("busy").Increment(
        busy_grown_.Since(connections.refused_late));
    metrics_.connections_silent.Increment(silent_grown_.Since(connections.silent));
    metrics_.connections.Set(static_cast<double>(connections.open));
    metrics_.connections_limit.Set(static_cast<double>(connections_.all));
  }

  void BeReady() {
    front_.readiness.Ask([this]() -> Status {
      if (draining_) return Unavailable("draining");
      MUSTER_RETURN_IF_ERROR(store_->database().StoreEpoch().status());
      return hub_->committer().health();
    });
    LogInfo("serving", {{"version", MUSTER_VERSION},
                        {"replica", replica_},
                        {"agents_and_operators", main_->number()},
                        {"enrolment", enroll_ == nullptr ? 0 : enroll_->number()},
                        {"http", front_.port()},
                        {"connections_at_most", connections_.all}});
  }

  const Config& config_;
  Front& front_;
  const Clock& clock_;
  const std::unique_ptr<Random> random_;
  const std::string replica_;
  const std::unique_ptr<Store> store_;
  const std::unique_ptr<Authority> authority_;
  const std::optional<redis::Address> redis_;
  const size_t descriptors_;  // that this process may open
  const ConnectionLimits connections_;
  std::shared_ptr<net::CurrentIdentity> own_;
  absl::Time renew_at_;  // of the start, then of the certificate runner's thread
  Metrics& metrics_;
  Growth sessions_grown_, results_grown_, batches_grown_, aborted_grown_, refused_grown_,
      reports_grown_, denied_grown_, full_grown_, terms_grown_, late_grown_, missed_grown_,
      published_grown_, heard_grown_, busy_grown_, silent_grown_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> replaced_ = false;
  std::unique_ptr<redis::Client> redis_client_;
  std::unique_ptr<redis::RateLimiter> joins_;
  std::optional<HintExchange> hints_;  // whoever publishes comes after it
  std::optional<Gate> gate_;
  std::optional<Witnesses> witnesses_;
  std::optional<AgentHub> hub_;
  std::optional<StateService> states_;
  std::optional<AgentLinkService> link_;
  std::optional<IdentityService> identity_;
  std::optional<EnrollmentService> enrollment_;
  std::optional<SpecService> specs_;
  std::optional<AlertService> alerts_;
  std::optional<RunService> runs_;
  std::optional<BackupService> backups_;
  std::optional<SystemService> system_;
  std::unique_ptr<Port> main_;
  std::unique_ptr<Port> enroll_;
  std::optional<TermSurroundings> surroundings_;
  std::optional<Leader> leader_;
  std::optional<Heartbeat> heartbeat_;  // after what it hands on to
  std::optional<Runner> certificate_runner_;
  bool cut_off_ = false;  // owned by the loop's thread
  std::optional<exec::PeriodicLoop> metrics_loop_, cut_off_loop_;
};

}  // namespace

Status Run(const Config& config) {
  const StopSignals signals;
  MUSTER_ASSIGN_OR_RETURN(std::optional<redis::Address> redis, RedisAddress(config));
  MUSTER_ASSIGN_OR_RETURN(const Secret key, LoadClusterKey(config.KeyPath()));
  MUSTER_ASSIGN_OR_RETURN(const FolderLock lock, FolderLock::Take(config.data, "muster-control"));
  Front front;
  MUSTER_RETURN_IF_ERROR(front.Open(config));
  MUSTER_ASSIGN_OR_RETURN(std::optional<Opened> opened, AwaitStore(config, key, front, signals));
  if (!opened.has_value()) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(std::string replica, ReplicaId(config.data));
  Plane plane(config, front, std::move(opened->store), std::move(opened->authority),
              std::move(redis), std::move(replica));
  MUSTER_RETURN_IF_ERROR(plane.Start());
  const std::string signal = signals.Wait();
  plane.Stop();
  LogInfo("stopped", {{"signal", signal}});
  return OkStatus();
}

}  // namespace muster::control
