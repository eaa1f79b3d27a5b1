#include "control-plane/rpc/gate.h"

#include <google/protobuf/descriptor.h>

#include <optional>

#include "lib/base/log.h"
#include "lib/net/status.h"
#include "lib/wire/services.h"

namespace muster::control {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);
constexpr size_t kMostAbusers = 10'000;

// Strangers have no identity to count by: each connection of theirs counts by itself.
std::string LiveKey(const net::Identity& identity, const std::string& peer) {
  return identity.role == v1::ROLE_STRANGER ? peer : net::Text(identity);
}

using MethodRoles = std::map<std::string, std::set<v1::Role>, std::less<>>;

MethodRoles ReadRoles() {
  MethodRoles roles;
  for (const auto* file : wire::ServiceFiles()) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const auto* method = file->service(s)->method(m);
        for (int i = 0; i < method->options().ExtensionSize(v1::allow); ++i) {
          roles[method->full_name()].insert(method->options().GetExtension(v1::allow, i));
        }
      }
    }
  }
  return roles;
}

// A unary call from its admission to OnDone.
class Call final : public grpc::ServerUnaryReactor {
 public:
  void Hold(Admission admission) { admission_.emplace(std::move(admission)); }
  void OnCancel() override {
    if (admission_.has_value()) admission_->Cancelled();
  }
  void OnDone() override { delete this; }

 private:
  std::optional<Admission> admission_;
};

}  // namespace

Admission::~Admission() {
  if (gate_ != nullptr) gate_->Release(identity_, peer_);
}

void Admission::Cancelled() const { gate_->CountAbuse(peer_); }

std::optional<absl::Duration> Admission::LastHeard() const {
  return gate_->options_.last_heard(peer_);
}

Gate::Registration::~Registration() {
  if (gate_ != nullptr) gate_->Unregister(id_);
}

Gate::Gate(IdentityStore& store, const Clock& clock, GateOptions options)
    : store_(store),
      clock_(clock),
      options_(options),
      roles_(ReadRoles()),
      lanes_("calls", options.lanes),
      loop_("deny-set", options.refresh, [this] { RefreshDenied(); }) {
  RefreshDenied();
}

Gate::~Gate() {
  loop_.Stop();
  lanes_.Stop();
}

StatusOr<Admission> Gate::Admit(const grpc::CallbackServerContext& context,
                                std::string_view method) {
  std::string peer = context.peer();
  options_.arrived(peer);
  // What the server had read before the cut is not worth the reading of a certificate.
  if (IsCut(peer)) {
    Refuse(context);
    return ResourceExhausted("the connection is being cut");
  }
  StatusOr<net::Identity> identity = peers_.Of(context);
  Status decided = identity.ok() ? Decide(*identity, method) : identity.status();
  if (decided.ok()) decided = CountLive(*identity, peer);
  if (decided.ok()) return Admission(*this, std::move(*identity), std::move(peer));
  Refuse(context);
  return decided;
}

void Gate::Refuse(const grpc::CallbackServerContext& context) {
  CountAbuse(context.peer());
  absl::MutexLock lock(&mutex_);
  ++refused_;
}

Status Gate::CountLive(const net::Identity& identity, const std::string& peer) {
  absl::MutexLock lock(&mutex_);
  const auto [live, fresh] = live_.try_emplace(LiveKey(identity, peer), 0);
  if (live->second >= options_.calls_per_identity) {
    return ResourceExhausted("{} has {} calls at once; wait for some of them", net::Text(identity),
                             live->second);
  }
  ++live->second;
  return OkStatus();
}

bool Gate::IsCut(const std::string& peer) const {
  const absl::Duration now = clock_.Uptime();
  absl::MutexLock lock(&mutex_);
  const auto abuse = abuses_.find(peer);
  // Later it is another connection with the same numbers.
  return abuse != abuses_.end() && abuse->second.count > options_.abuses_a_second &&
         now - abuse->second.since <= kSecond;
}

void Gate::CountAbuse(const std::string& peer) {
  {
    const absl::Duration now = clock_.Uptime();
    absl::MutexLock lock(&mutex_);
    if (abuses_.size() >= kMostAbusers) {
      std::erase_if(abuses_, [&](const auto& entry) { return now - entry.second.since > kSecond; });
    }
    if (abuses_.size() >= kMostAbusers) return;
    Abuse& abuse = abuses_.try_emplace(peer, Abuse{now, 0}).first->second;
    if (now - abuse.since > kSecond) abuse = {now, 0};
    // Once a second is enough for what still comes out of the buffers.
    if (++abuse.count != options_.abuses_a_second + 1) return;
    ++cut_;
  }
  LogWarning("a connection is cut: it resets calls, or has them refused, faster than it may",
             {{"peer", peer}});
  options_.cut_connection(peer);
}

Status Gate::Decide(const net::Identity& identity, std::string_view method) {
  const auto allowed = roles_.find(method);
  if (allowed == roles_.end() || !allowed->second.contains(identity.role)) {
    return PermissionDenied("{} may not call {}", net::Text(identity), method);
  }
  absl::MutexLock lock(&mutex_);
  if (denied_.contains(identity.fingerprint)) {
    return PermissionDenied("the certificate of {} was revoked", net::Text(identity));
  }
  return OkStatus();
}

void Gate::Release(const net::Identity& identity, const std::string& peer) {
  absl::MutexLock lock(&mutex_);
  const auto live = live_.find(LiveKey(identity, peer));
  if (live != live_.end() && --live->second == 0) live_.erase(live);
}

Gate::Registration Gate::RegisterStream(const net::Identity& identity, std::function<void()> cut) {
  bool denied = false;
  uint64_t id = 0;
  {
    absl::MutexLock lock(&mutex_);
    id = next_stream_++;
    // It may have been denied since it was admitted.
    denied = denied_.contains(identity.fingerprint);
    streams_[id] = {identity.fingerprint, cut};
  }
  if (denied) cut();
  return Registration(*this, id);
}

void Gate::Unregister(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(id);
}

grpc::ServerUnaryReactor* Gate::Serve(grpc::CallbackServerContext* context, std::string_view method,
                                      Handler handler) {
  Call* call = new Call;  // deletes itself in OnDone
  StatusOr<Admission> admission = Admit(*context, method);
  if (!admission.ok()) {
    call->Finish(net::ToGrpc(admission.status()));
    return call;
  }
  net::Identity caller = admission->identity();
  call->Hold(std::move(*admission));
  const std::string lane = LiveKey(caller, context->peer());
  const bool taken = lanes_.Submit(
      lane, [call, caller = std::move(caller), handler = std::move(handler)]() mutable {
        call->Finish(net::ToGrpc(handler(caller)));
      });
  if (!taken) call->Finish(net::ToGrpc(ResourceExhausted("the control plane is busy; try again")));
  return call;
}

void Gate::RefreshDenied() {
  uint64_t after = 0;
  {
    absl::MutexLock lock(&mutex_);
    after = last_denied_;
  }
  const StatusOr<std::vector<DenyEntry>> entries = store_.Denied(after);
  if (!entries.ok()) {
    LogDebug("could not read the deny set", {{"error", entries.status()}});
    return;
  }
  if (entries->empty()) return;
  std::vector<std::function<void()>> cuts;
  {
    absl::MutexLock lock(&mutex_);
    for (const DenyEntry& entry : *entries) {
      denied_.insert(entry.fingerprint);
      last_denied_ = std::max(last_denied_, entry.id);
    }
    for (const auto& [id, stream] : streams_) {
      if (denied_.contains(stream.fingerprint)) cuts.push_back(stream.cut);
    }
  }
  for (const auto& cut : cuts) cut();
}

uint64_t Gate::connections_cut() const {
  absl::MutexLock lock(&mutex_);
  return cut_;
}

uint64_t Gate::refused() const {
  absl::MutexLock lock(&mutex_);
  return refused_;
}

}  // namespace muster::control
