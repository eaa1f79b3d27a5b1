// The one place that decides who may call (promise C10). Deny by default: a method without a
// declaration, a certificate without exactly one identity of ours, a role that is not named, a
// denied certificate, or too many calls at once are refused here.
//
// Any thread may call. The gate must outlive the gRPC server.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <absl/base/thread_annotations.h>
#include <absl/functional/any_invocable.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/rpc/peer_identity.h"
#include "control-plane/store/identity_store.h"
#include "lib/base/clock.h"
#include "lib/exec/lanes.h"
#include "lib/exec/threads.h"
#include "lib/net/identity.h"

namespace muster::control {

struct GateOptions {
  // Calls of one identity that live at the same time, over all its connections and certificates;
  // cancelled ones too until they are done.
  size_t calls_per_identity = 64;
  // Identities take turns, so that none can make the others wait for all of its calls.
  exec::LanesOptions lanes{.threads = 4, .threads_a_lane = 2, .most_queued = 2000};
  // A connection that in one second resets more calls than this, or has more refused, is cut
  // (CVE-2023-44487): `cut_connection` gets the peer as gRPC names it.
  size_t abuses_a_second = 200;
  std::function<void(const std::string& peer)> cut_connection = [](const std::string&) {};
  // A call has come over the connection, whatever becomes of it.
  std::function<void(const std::string& peer)> arrived = [](const std::string&) {};
  // When something last came over a connection that was ended for its silence, by uptime; nothing
  // for all others.
  std::function<std::optional<absl::Duration>(const std::string& peer)> last_heard =
      [](const std::string&) { return std::nullopt; };
  // How soon a revocation that another replica made is noticed.
  absl::Duration refresh = absl::Seconds(1);
};

class Gate;

// A call that was let in; counts as live while it exists.
class Admission {
 public:
  Admission(Gate& gate, net::Identity identity, std::string peer)
      : gate_(&gate), identity_(std::move(identity)), peer_(std::move(peer)) {}
  Admission(Admission&& other) noexcept
      : gate_(std::exchange(other.gate_, nullptr)),
        identity_(std::move(other.identity_)),
        peer_(std::move(other.peer_)) {}
  Admission& operator=(Admission&&) = delete;
  ~Admission();
  const net::Identity& identity() const { return identity_; }
  // The caller took the call back.
  void Cancelled() const;
  // When the caller was last heard, by uptime, if its connection was ended because it was silent.
  std::optional<absl::Duration> LastHeard() const;

 private:
  Gate* gate_;
  net::Identity identity_;
  std::string peer_;
};

class Gate {
 public:
  Gate(IdentityStore& store, const Clock& clock, GateOptions options);
  ~Gate();

  // `method` is its full name: "muster.v1.SpecService.ListSpecs".
  StatusOr<Admission> Admit(const grpc::CallbackServerContext& context, std::string_view method);

  // Counts a call that is refused elsewhere like one that Admit refused.
  void Refuse(const grpc::CallbackServerContext& context);

  // Cuts a stream when its certificate is denied. `cut` may come at once and on any thread; not
  // after the registration has gone.
  class Registration {
   public:
    Registration(Gate& gate, uint64_t id) : gate_(&gate), id_(id) {}
    Registration(Registration&& other) noexcept
        : gate_(std::exchange(other.gate_, nullptr)), id_(other.id_) {}
    Registration& operator=(Registration&&) = delete;
    ~Registration();

   private:
    Gate* gate_;
    uint64_t id_;
  };
  Registration RegisterStream(const net::Identity& identity, std::function<void()> cut);

  // Answers a unary call: admits it, runs the handler on one of the gate's threads, and finishes
  // with its status.
  using Handler = absl::AnyInvocable<Status(const net::Identity& caller)>;
  grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context, std::string_view method,
                                  Handler handler);

  // Reads what was denied since, and cuts its streams. Called after a local revocation too.
  void RefreshDenied();
  // A hint that another replica revoked something: it is read soon, on a thread of the gate's.
  void RevokedElsewhere() { loop_.Wake(); }
  uint64_t refused() const;
  uint64_t connections_cut() const;

 private:
  friend class Admission;
  Status Decide(const net::Identity& identity, std::string_view method) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(const net::Identity& identity, const std::string& peer);
  Status CountLive(const net::Identity& identity, const std::string& peer)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void CountAbuse(const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsCut(const std::string& peer) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Unregister(uint64_t id);

  struct Stream {
    std::string fingerprint;
    std::function<void()> cut;
  };
  struct Abuse {
    absl::Duration since;  // of uptime
    size_t count = 0;
  };
  IdentityStore& store_;
  const Clock& clock_;
  const GateOptions options_;
  const std::map<std::string, std::set<v1::Role>, std::less<>> roles_;  // by method
  PeerIdentities peers_;
  mutable absl::Mutex mutex_;
  std::set<std::string> denied_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_denied_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, size_t> live_ ABSL_GUARDED_BY(mutex_);  // by identity
  std::map<uint64_t, Stream> streams_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_stream_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::string, Abuse> abuses_ ABSL_GUARDED_BY(mutex_);  // by connection
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t cut_ ABSL_GUARDED_BY(mutex_) = 0;
  exec::Lanes lanes_;
  exec::PeriodicLoop loop_;  // last: its thread uses all the others
};

}  // namespace muster::control
