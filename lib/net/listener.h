// An accept loop of our own in front of a gRPC server, so that no flood of connections can make the
// listener go away (CVE-2023-4785): it caps connections, in all and for each peer address, survives
// running out of descriptors, and cuts what a revoked identity holds and whose peer is stuck.
//
// grpc::Server takes the accepted sockets through an ExternalConnectionAcceptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "lib/base/status.h"

namespace grpc {
class ServerBuilder;
class ServerCredentials;
}  // namespace grpc

namespace muster::net {

struct ListenerOptions {
  std::string address;  // "0.0.0.0:7443", "[::]:7443", "127.0.0.1:0"
  size_t max_connections = 15'000;
  size_t max_connections_per_peer = 12'000;
  // So many are let in within a time, peer addresses in turn. Where thousands come at once, as
  // after a restart, handshakes that all go on together all pass their deadline, and all begin
  // anew; one that waits costs a descriptor.
  size_t accepts_at_once = 40;
  absl::Duration accept_pause = absl::Milliseconds(100);
  // And no more than that many are between the door and their first call. One that makes none ends
  // to count after `arrives_within`, which is the time that a handshake may take.
  size_t arriving_at_once = 256;
  absl::Duration arrives_within = absl::Seconds(5);
  // Who has waited for longer is refused: with what is left of its patience (an attempt to connect
  // takes an agent ten seconds) its handshake would be in vain.
  absl::Duration waits_at_most = absl::Seconds(5);
  // A connection over which nothing came for so long is ended. Its peer's kernel answers, or it
  // would have ended before, but its program is stuck: ours ask each five seconds whether we are
  // here (ChannelOptions), and others answer when we ask, each ten.
  absl::Duration silent_at_most = absl::Seconds(12);
};

struct ListenerCounts {
  uint64_t accepted = 0;
  uint64_t refused_full = 0;            // over a cap
  uint64_t refused_no_descriptors = 0;  // waiting ones of whoever has most of them, first
  uint64_t refused_late = 0;            // had waited for too long
  uint64_t gone = 0;                    // had hung up before they were let in
  uint64_t silent = 0;                  // ended because nothing came any more
  size_t open = 0;                      // with those who wait
};

class GuardedListener {
 public:
  // Binds and listens; Unavailable or InvalidArgument names the address. Accepts nothing before
  // Start.
  static StatusOr<std::unique_ptr<GuardedListener>> Bind(ListenerOptions options);
  ~GuardedListener();

  // Registers the acceptor with the builder. Once, before BuildAndStart.
  void AttachTo(grpc::ServerBuilder& builder, std::shared_ptr<grpc::ServerCredentials> credentials);
  // After BuildAndStart.
  void Start();
  // Ends the connection of a peer as gRPC names it ("ipv4:10.0.0.1:4711"). False if it is not open.
  bool Cut(const std::string& peer);
  // When something last came from a peer whose connection was ended because nothing did any more,
  // by uptime; it is known for a minute. Nothing for all others.
  std::optional<absl::Duration> LastHeard(const std::string& peer) const;
  // The peer has made a call: its handshake is over.
  void Arrived(const std::string& peer);
  // No further connection is accepted. Before the server shuts down. Safe to repeat.
  void Stop();

  uint16_t port() const;
  // HOST:PORT by which this host itself reaches it.
  std::string own_address() const;
  ListenerCounts counts() const;

 private:
  struct Impl;
  explicit GuardedListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The argument table of docs/architecture/transport.md for a server.
void SetServerArguments(grpc::ServerBuilder& builder);

// Connects as a client and checks that TLS 1.2 is refused and 1.3 with `identity` is taken.
// FailedPrecondition otherwise: the caller must not serve.
Status ProveTls13Only(const std::string& address);

}  // namespace muster::net
