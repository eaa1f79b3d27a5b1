#include "lib/net/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/net/openssl.h"
#include "lib/net/silence.h"
#include "lib/net/socket.h"
#include "lib/net/tls.h"
#include "lib/net/waiting_room.h"

namespace muster::net {
namespace {

constexpr int kBacklog = 4096;
constexpr absl::Duration kSweepEvery = absl::Seconds(1);
// How long it is known when one was last heard whose connection was ended for silence.
constexpr absl::Duration kRemembered = absl::Minutes(1);
constexpr absl::Duration kPauseWithoutDescriptors = absl::Milliseconds(50);

std::string PeerName(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  } else {
    const in6_addr& bytes = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    // One IPv4 peer has one name, whichever socket it came through.
    if (IN6_IS_ADDR_V4MAPPED(&bytes)) {
      inet_ntop(AF_INET, bytes.s6_addr + 12, text, sizeof text);
    } else {
      inet_ntop(AF_INET6, &bytes, text, sizeof text);
    }
  }
  return text;
}

uint16_t PeerPort(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

// The peer as gRPC writes it: "ipv4:10.0.0.1:4711", "ipv6:%5B::1%5D:4711".
std::string GrpcName(const std::string& address, uint16_t port) {
  return address.find(':') == std::string::npos ? fmt::format("ipv4:{}:{}", address, port)
                                                : fmt::format("ipv6:%5B{}%5D:{}", address, port);
}

uint64_t InodeOf(int fd) {
  struct stat found {};
  return fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode) ? found.st_ino : 0;
}

StatusOr<Socket> Listen(const std::string& text) {
  MUSTER_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(text));
  sockaddr_storage bound{};
  socklen_t size = 0;
  auto& v4 = reinterpret_cast<sockaddr_in&>(bound);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(bound);
  const std::string host = address.host.empty() ? "0.0.0.0" : address.host;
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    size = sizeof v4;
  } else if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    size = sizeof v6;
  } else {
    return InvalidArgument("cannot listen on {}: write an address of this host, like 0.0.0.0:7443",
                           text);
  }
  Socket socket(::socket(bound.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int yes = 1;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(socket.fd(), reinterpret_cast<sockaddr*>(&bound), size) != 0 ||
      listen(socket.fd(), kBacklog) != 0) {
    return Unavailable("cannot listen on {}: {}; is another program there?", text,
                       std::strerror(errno));
  }
  return socket;
}

// Whoever waited in the kernel's queue for too long has hung up: a handshake would be in vain.
bool HasGone(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state != TCP_ESTABLISHED;
}

// A host that lost its power or its network says no goodbye. Its kernel answers where its programs
// are too busy to, so the kernel may ask often: silence of six seconds ends the connection.
void SetSocketOptions(int fd) {
  struct Option {
    int level;
    int name;
    int value;
  };
  for (const Option& option : {
           Option{IPPROTO_TCP, TCP_NODELAY, 1},
           {SOL_SOCKET, SO_KEEPALIVE, 1},
           {IPPROTO_TCP, TCP_KEEPIDLE, 3},        // seconds
           {IPPROTO_TCP, TCP_KEEPINTVL, 1},       // seconds
           {IPPROTO_TCP, TCP_KEEPCNT, 3},         // without the next
           {IPPROTO_TCP, TCP_USER_TIMEOUT, 6000}  // milliseconds
       }) {
    setsockopt(fd, option.level, option.name, &option.value, sizeof option.value);
  }
}

sockaddr_storage BoundTo(const Socket& socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&bound), &size);
  return bound;
}

}  // namespace

// A connection is known by its descriptor and its socket's inode: gRPC owns the descriptor and
// closes it, and the number may be another file's afterwards, but the inode is not.
struct Connection {
  uint64_t inode = 0;
  std::string peer;
  uint16_t port = 0;  // of the peer
  SilenceWatch::Peer silence = {};
};

// A connection that was ended because nothing came any more. Times are uptimes.
struct Silenced {
  absl::Duration heard;
  absl::Duration ended;
};

// Let in, and not known to have made a call.
struct Arrival {
  int fd = -1;
  uint64_t inode = 0;
  absl::Duration since;  // by uptime
};

struct GuardedListener::Impl {
  explicit Impl(ListenerOptions o)
      : options(std::move(o)), silence(options.silent_at_most, kSweepEvery) {}

  const ListenerOptions options;
  Socket listening;
  Socket wake;
  int spare =
      -1;  // given up for a moment when descriptors run out, to take the next caller and refuse it
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  exec::Thread thread;
  // Owned by the thread.
  absl::Duration swept = absl::ZeroDuration();
  SilenceWatch silence;
  WaitingRoom room;
  absl::Duration window = -absl::InfiniteDuration();  // since when let_in counts
  size_t let_in = 0;
  absl::Duration looked = -absl::InfiniteDuration();  // for those who arrive no more
  mutable absl::Mutex mutex;
  std::map<int, Connection> open ABSL_GUARDED_BY(mutex);  // with those who wait
  std::map<std::string, size_t> by_peer ABSL_GUARDED_BY(mutex);
  std::map<std::string, Silenced> silenced ABSL_GUARDED_BY(mutex);  // by gRPC's name of the peer
  ListenerCounts counts ABSL_GUARDED_BY(mutex);
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  // Apart from the others: every call asks for it, and Sweep takes its time.
  absl::Mutex arrivals_mutex;
  std::map<std::string, Arrival> arriving
      ABSL_GUARDED_BY(arrivals_mutex);  // by gRPC's name of the peer

  ~Impl() {
    while (const std::optional<Guest> guest = room.Next()) close(guest->fd);
    if (spare >= 0) close(spare);
  }

  bool Stopping() const {
    absl::MutexLock lock(&mutex);
    return stopping;
  }

  void Loop() {
    while (!Stopping()) {
      pollfd fds[2] = {{listening.fd(), POLLIN, 0}, {wake.fd(), POLLIN, 0}};
      poll(fds, 2, static_cast<int>(absl::ToInt64Milliseconds(Patience())));
      if (Stopping()) return;
      if (fds[0].revents != 0) AcceptAll();
      LetIn();
      if (SystemClock().Uptime() - swept <= kSweepEvery) continue;
      Sweep();
      CutStuck();
    }
  }

  void CutStuck() {
    silence.Begin(SystemClock().Uptime());
    absl::MutexLock lock(&mutex);
    std::erase_if(silenced, [this](const auto& entry) {
      return silence.now() - entry.second.ended > kRemembered;
    });
    for (auto& [fd, connection] : open) {
      const std::optional<absl::Duration> heard = HeardOfStuck(fd, connection.silence);
      if (!heard.has_value() || shutdown(fd, SHUT_RDWR) != 0) continue;
      const std::string peer = GrpcName(connection.peer, connection.port);
      silenced[peer] = {*heard, silence.now()};
      ++counts.silent;
      LogInfo("a connection is ended: its peer answers no more",
              {{"peer", peer}, {"silent_for", silence.now() - *heard}});
    }
  }

  // If nothing comes any more, when something last did. The kernel knows, however late we come to
  // read it.
  std::optional<absl::Duration> HeardOfStuck(int fd, SilenceWatch::Peer& peer) const {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
    if (info.tcpi_state != TCP_ESTABLISHED) return std::nullopt;
    int unread = 0;
    if (ioctl(fd, SIOCINQ, &unread) != 0) return std::nullopt;
    const absl::Duration quiet = absl::Milliseconds(info.tcpi_last_data_recv);
    if (!silence.IsStuck(peer, quiet, unread > 0)) return std::nullopt;
    return silence.now() - quiet;
  }

  // Until the next ones may be let in.
  absl::Duration Patience() const {
    if (room.empty()) return absl::Seconds(1);
    const absl::Duration left = window + options.accept_pause - SystemClock().Uptime();
    return std::clamp(left, absl::Milliseconds(1), absl::Seconds(1));
  }

  void AcceptAll() {
    for (int taken = 0; taken < 256; ++taken) {
      sockaddr_storage address{};
      socklen_t size = sizeof address;
      const int fd = accept4(listening.fd(), reinterpret_cast<sockaddr*>(&address), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        Take({fd, PeerName(address), PeerPort(address), SystemClock().Uptime()});
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (!TurnAway()) return RefuseOne();
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return;  // EAGAIN, or the caller's network error: the listener itself stays
      }
    }
  }

  // So many of those who wait in a window of time, peer after peer.
  void LetIn() {
    const absl::Duration now = SystemClock().Uptime();
    if (now >= window + options.accept_pause) {
      window = now;
      let_in = 0;
    }
    if (room.empty()) return;
    for (size_t places = FreePlaces(now); let_in < options.accepts_at_once && places > 0;) {
      const std::optional<Guest> guest = room.Next();
      if (!guest.has_value()) return;
      if (now - guest->since > options.waits_at_most) {
        Forget(guest->fd, &ListenerCounts::refused_late);
      } else if (Serve(*guest, now)) {
        ++let_in;
        --places;
      }
    }
  }

  // How many more handshakes may go on at once. Those that ended without a call are looked for
  // only when there is no place, and not each time.
  size_t FreePlaces(absl::Duration now) {
    absl::MutexLock lock(&arrivals_mutex);
    if (arriving.size() < options.arriving_at_once) {
      return options.arriving_at_once - arriving.size();
    }
    if (now < looked + options.accept_pause) return 0;
    looked = now;
    std::erase_if(arriving, [&](const auto& entry) {
      const Arrival& arrival = entry.second;
      return now - arrival.since > options.arrives_within || InodeOf(arrival.fd) != arrival.inode;
    });
    return options.arriving_at_once - std::min(arriving.size(), options.arriving_at_once);
  }

  void Take(Guest guest) {
    if (!Admit(guest)) {
      Sweep();
      if (!Admit(guest)) {
        close(guest.fd);
        absl::MutexLock lock(&mutex);
        ++counts.refused_full;
        return;
      }
    }
    room.Enter(std::move(guest));
  }

  // False if it had gone before it was its turn.
  bool Serve(const Guest& guest, absl::Duration now) {
    const int fd = guest.fd;
    if (HasGone(fd)) {
      Forget(fd, &ListenerCounts::gone);
      return false;
    }
    {
      absl::MutexLock lock(&mutex);
      ++counts.accepted;
    }
    {
      absl::MutexLock lock(&arrivals_mutex);
      arriving[GrpcName(guest.peer, guest.port)] = {fd, InodeOf(fd), now};
    }
    SetSocketOptions(fd);
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.listener_fd = listening.fd();
    parameters.fd = fd;
    acceptor->HandleNewConnection(&parameters);
    return true;
  }

  // Somebody who waits makes room for another. False if nobody does.
  bool TurnAway() {
    const std::optional<Guest> guest = room.TurnAway();
    if (!guest.has_value()) return false;
    Forget(guest->fd, &ListenerCounts::refused_no_descriptors);
    return true;
  }

  // Of a connection that was not handed on.
  void Forget(int fd, uint64_t ListenerCounts::*why) {
    absl::MutexLock lock(&mutex);
    if (const auto at = open.find(fd); at != open.end()) ForgetLocked(at);
    ++(counts.*why);
    close(fd);
  }

  bool Admit(const Guest& guest) {
    absl::MutexLock lock(&mutex);
    // The number was used before, so that connection has ended.
    if (const auto old = open.find(guest.fd); old != open.end()) ForgetLocked(old);
    if (open.size() >= options.max_connections ||
        by_peer[guest.peer] >= options.max_connections_per_peer) {
      return false;
    }
    open[guest.fd] = {InodeOf(guest.fd), guest.peer, guest.port};
    ++by_peer[guest.peer];
    return true;
  }

  std::map<int, Connection>::iterator ForgetLocked(std::map<int, Connection>::iterator at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto peer = by_peer.find(at->second.peer);
    if (peer != by_peer.end() && --peer->second == 0) by_peer.erase(peer);
    return open.erase(at);
  }

  void Sweep() {
    swept = SystemClock().Uptime();
    absl::MutexLock lock(&mutex);
    for (auto at = open.begin(); at != open.end();) {
      at = InodeOf(at->first) == at->second.inode ? std::next(at) : ForgetLocked(at);
    }
    std::erase_if(by_peer, [](const auto& entry) { return entry.second == 0; });
  }

  // Out of descriptors: one caller is taken and cut at once, so that the queue moves; then a pause.
  void RefuseOne() {
    if (spare >= 0) close(spare);
    const int fd = accept4(listening.fd(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    {
      absl::MutexLock lock(&mutex);
      ++counts.refused_no_descriptors;
    }
    // Ends early with the loop.
    pollfd none{wake.fd(), POLLIN, 0};
    poll(&none, 1, static_cast<int>(absl::ToInt64Milliseconds(kPauseWithoutDescriptors)));
  }
};

GuardedListener::GuardedListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GuardedListener::~GuardedListener() { Stop(); }

StatusOr<std::unique_ptr<GuardedListener>> GuardedListener::Bind(ListenerOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  MUSTER_ASSIGN_OR_RETURN(impl->listening, Listen(impl->options.address));
  impl->wake = Socket(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  impl->spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  return std::unique_ptr<GuardedListener>(new GuardedListener(std::move(impl)));
}

void GuardedListener::AttachTo(grpc::ServerBuilder& builder,
                               std::shared_ptr<grpc::ServerCredentials> credentials) {
  impl_->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
}

void GuardedListener::Start() {
  impl_->thread = exec::Thread("accept", [impl = impl_.get()] { impl->Loop(); });
}

void GuardedListener::Stop() {
  {
    absl::MutexLock lock(&impl_->mutex);
    impl_->stopping = true;
  }
  const uint64_t one = 1;
  if (write(impl_->wake.fd(), &one, sizeof one) < 0) LogDebug("the accept loop was woken before");
  impl_->thread.Join();
}

bool GuardedListener::Cut(const std::string& peer) {
  absl::MutexLock lock(&impl_->mutex);
  for (const auto& [fd, connection] : impl_->open) {
    if (GrpcName(connection.peer, connection.port) != peer) continue;
    // gRPC owns the descriptor: it is shut down, not closed, and only if it is still this socket.
    return InodeOf(fd) == connection.inode && shutdown(fd, SHUT_RDWR) == 0;
  }
  return false;
}

std::optional<absl::Duration> GuardedListener::LastHeard(const std::string& peer) const {
  absl::MutexLock lock(&impl_->mutex);
  const auto found = impl_->silenced.find(peer);
  if (found == impl_->silenced.end()) return std::nullopt;
  return found->second.heard;
}

void GuardedListener::Arrived(const std::string& peer) {
  absl::MutexLock lock(&impl_->arrivals_mutex);
  impl_->arriving.erase(peer);
}

uint16_t GuardedListener::port() const { return PeerPort(BoundTo(impl_->listening)); }

std::string GuardedListener::own_address() const {
  const sockaddr_storage bound = BoundTo(impl_->listening);
  char host[INET6_ADDRSTRLEN] = "";
  if (bound.ss_family == AF_INET6) {
    const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(bound).sin6_addr;
    const bool any = IN6_IS_ADDR_UNSPECIFIED(&v6);
    inet_ntop(AF_INET6, any ? &in6addr_loopback : &v6, host, sizeof host);
    return fmt::format("[{}]:{}", host, PeerPort(bound));
  }
  in_addr v4 = reinterpret_cast<const sockaddr_in&>(bound).sin_addr;
  if (v4.s_addr == htonl(INADDR_ANY)) v4.s_addr = htonl(INADDR_LOOPBACK);
  inet_ntop(AF_INET, &v4, host, sizeof host);
  return fmt::format("{}:{}", host, PeerPort(bound));
}

ListenerCounts GuardedListener::counts() const {
  absl::MutexLock lock(&impl_->mutex);
  ListenerCounts counts = impl_->counts;
  counts.open = impl_->open.size();
  return counts;
}

void SetServerArguments(grpc::ServerBuilder& builder) {
  // For peers that say nothing by themselves: their answers are what
  // ListenerOptions::silent_at_most counts from. More often was tried with 10,000 agents: a ping on
  // its way puts TCP's own probes off (SetSocketOptions), and hosts that are gone are noticed
  // later.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 4'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 30 * 60'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 32);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 * 1024);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 5'000);
  builder.SetMaxReceiveMessageSize(1 << 20);
  builder.SetMaxSendMessageSize(4 << 20);
  // The message limit is looked at before inflating: a bomb would pass it.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  grpc::ResourceQuota quota("muster");
  quota.Resize(512 << 20);
  builder.SetResourceQuota(quota);
}

namespace {

// The protocol version that a handshake with at most `version` ends in; 0 if it is refused.
StatusOr<int> Negotiate(const std::string& address, int version) {
  MUSTER_ASSIGN_OR_RETURN(const Socket socket, ConnectTo(address, absl::Seconds(5)));
  SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_max_proto_version(context.get(), version);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2);
  SslPtr ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), socket.fd());
  const int connected = SSL_connect(ssl.get());
  ERR_clear_error();
  return connected == 1 ? SSL_version(ssl.get()) : 0;
}

}  // namespace

Status ProveTls13Only(const std::string& address) {
  MUSTER_ASSIGN_OR_RETURN(const int old, Negotiate(address, TLS1_2_VERSION));
  if (old != 0) return FailedPrecondition("{} accepts TLS 1.2; it will not be served", address);
  MUSTER_ASSIGN_OR_RETURN(const int current, Negotiate(address, TLS1_3_VERSION));
  if (current != TLS1_3_VERSION) return FailedPrecondition("{} does not accept TLS 1.3", address);
  return OkStatus();
}

}  // namespace muster::net
