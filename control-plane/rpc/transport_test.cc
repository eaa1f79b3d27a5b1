// What the ports hold against before anybody is known: floods, junk, slowness, old protocols,
// bombs.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "control-plane/rpc/test_calls.h"
#include "control-plane/rpc/test_http2.h"
#include "control-plane/rpc/test_plane.h"
#include "lib/net/openssl.h"
#include "lib/net/socket.h"

namespace muster::control {
namespace {

using grpc::StatusCode;

TEST(Transport, ANewServerCertificateIsShownToNewHandshakesOnly) {
  TestPlane plane;
  const auto identity = plane.Identity(v1::ROLE_VIEWER, "anna");
  const auto before = plane.Channel(identity);
  ASSERT_TRUE(Version(before).ok());
  const std::string old_chain = plane.own().Get().identity.chain_pem;
  const auto next = *plane.authority().IssueServer("r-test");
  ASSERT_TRUE(
      plane.own().Replace({plane.authority().RootsPem(), next.chain_pem, next.key_pem}).ok());
  EXPECT_TRUE(Version(before).ok());
  EXPECT_TRUE(Version(plane.Channel(identity)).ok());
  EXPECT_EQ(RawTls(plane.address()).Leaf(), net::PemToDer(next.chain_pem)->front());
  EXPECT_NE(RawTls(plane.address()).Leaf(), net::PemToDer(old_chain)->front());
  // A key of another certificate changes nothing.
  EXPECT_EQ(plane.own().Replace({plane.authority().RootsPem(), old_chain, next.key_pem}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(RawTls(plane.enroll_address()).Leaf(), net::PemToDer(next.chain_pem)->front());
}

// Whether the server has ended every one of them.
template <typename Connections>
bool AllCut(const Connections& connections) {
  char byte = 0;
  for (const net::Socket& socket : connections) {
    // What came before the end is in the way of it.
    while (recv(socket.fd(), &byte, 1, MSG_DONTWAIT) > 0) continue;
    if (recv(socket.fd(), &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN) return false;
  }
  return true;
}

// The limit on messages is looked at before they are inflated: these 16 MiB would pass it as 16
// KiB.
TEST(Transport, ACompressedBombIsRefusedByItsHeaders) {
  TestPlane plane;
  const auto stub = v1::SpecService::NewStub(net::OpenChannel(
      plane.address(), plane.Identity(v1::ROLE_ADMIN, "root"), {.max_message_bytes = 64 << 20}));
  v1::ApplySpecsRequest request;
  request.add_documents()->mutable_metadata()->set_name(std::string(16 << 20, 'a'));
  for (const auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    v1::ApplySpecsResponse response;
    EXPECT_EQ(stub->ApplySpecs(&context, request, &response).error_code(),
              StatusCode::UNIMPLEMENTED);
  }
  grpc::ClientContext plain;
  v1::ApplySpecsResponse response;
  EXPECT_EQ(stub->ApplySpecs(&plain, request, &response).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Transport, SpeaksTls13Only) {
  TestPlane plane;
  for (const uint16_t port : {plane.port(), plane.enroll_port()}) {
    EXPECT_TRUE(net::ProveTls13Only(fmt::format("127.0.0.1:{}", port)).ok());
  }
}

TEST(Transport, AListenerKnowsWhereItsOwnHostReachesIt) {
  for (const auto& [address, host] :
       {std::pair("0.0.0.0:0", "127.0.0.1"), {"127.0.0.2:0", "127.0.0.2"}, {"[::]:0", "[::1]"}}) {
    const auto listener = net::GuardedListener::Bind({.address = address});
    ASSERT_TRUE(listener.ok()) << listener.status();
    const std::string own = (*listener)->own_address();
    EXPECT_EQ(own, fmt::format("{}:{}", host, (*listener)->port()));
    EXPECT_TRUE(net::ConnectTo(own, absl::Seconds(5)).ok()) << own;
  }
}

TEST(Transport, JunkAndSilenceDoNotKeepOthersOut) {
  TestPlane plane;
  const std::string junk[] = {
      "",                                                         // silence
      "GET / HTTP/1.1\r\n\r\n",                                   // another protocol
      std::string("\x16\x03\x01\xff\xff\x01", 6),                 // a record that never ends
      std::string("\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9),     // a ClientHello of nothing
      std::string("\x17\x03\x03\x00\x01\x00", 6) + "PRI * HTTP",  // data before a handshake
  };
  std::vector<net::Socket> connections;
  for (int i = 0; i < 200; ++i) {
    auto socket = net::ConnectTo(plane.address(), absl::Seconds(5));
    ASSERT_TRUE(socket.ok());
    const std::string& text = junk[static_cast<size_t>(i) % std::size(junk)];
    EXPECT_EQ(write(socket->fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    connections.push_back(std::move(*socket));
  }
  EXPECT_TRUE(Version(plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"))).ok());
  // Half-open handshakes are cut after five seconds.
  EXPECT_TRUE(testing::Eventually([&] { return AllCut(connections); }));
}

// All handshakes of a crowd at once would pass their deadline, and those of who has gone are in
// vain.
TEST(Transport, ACrowdIsLetInAFewAtATimeAndOnlyWhoIsStillThere) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0", .accepts_at_once = 2, .accept_pause = absl::Seconds(1)});
  std::vector<net::Socket> here;
  for (int i = 0; i < 4; ++i) here.push_back(*net::ConnectTo(port.address(), absl::Seconds(5)));
  for (int i = 0; i < 50; ++i) (void)net::ConnectTo(port.address(), absl::Seconds(5));
  const auto counts = [&] { return port.listener().counts(); };
  EXPECT_TRUE(testing::Eventually([&] { return counts().gone == 50; }));
  EXPECT_EQ(counts().accepted, 4U);
}

// Handshakes that all go on together take one another's time until none of them is done within its
// own.
TEST(Transport, NoMoreHandshakesGoOnAtOnceThanMay) {
  TestPlane plane;
  TestPort port;
  plane.arrived = [&](const std::string& peer) { port.Arrived(peer); };
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0",
              .arriving_at_once = 2,
              .arrives_within = absl::Hours(1),
              .waits_at_most = absl::Hours(1)});
  const auto counts = [&] { return port.listener().counts(); };
  std::vector<net::Socket> silent;
  for (int i = 0; i < 3; ++i) silent.push_back(*net::ConnectTo(port.address(), absl::Seconds(5)));
  const auto identity = plane.Identity(v1::ROLE_VIEWER, "anna");
  ASSERT_TRUE(testing::Eventually([&] { return counts().open == 3 && counts().accepted == 2; }));
  testing::Pause(absl::Milliseconds(300));  // the third would be let in at once
  EXPECT_EQ(counts().accepted, 2U);
  // Who hangs up makes a place free, and so does who makes a call: no service is behind this port,
  // but the gate hears of it.
  silent.clear();
  for (uint64_t i = 1; i <= 5; ++i) {
    EXPECT_EQ(Version(net::OpenChannel(port.address(), identity)).error_code(),
              StatusCode::UNIMPLEMENTED);
    EXPECT_GE(counts().accepted, 2 + i);
  }
}

// Who says nothing keeps others out for no longer than a handshake may take.
TEST(Transport, WhoSaysNothingCeasesToCountAsArriving) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0",
              .arriving_at_once = 2,
              .arrives_within = absl::Seconds(1),
              .waits_at_most = absl::Hours(1)});
  std::vector<net::Socket> silent;
  for (int i = 0; i < 3; ++i) silent.push_back(*net::ConnectTo(port.address(), absl::Seconds(5)));
  EXPECT_TRUE(testing::Eventually([&] {
    // All three at once: nobody hung up to make the place.
    const auto counts = port.listener().counts();
    return counts.accepted == 3U && counts.open == 3U;
  }));
}

// With one a caller would come back without showing a certificate again. It costs a sixth of a
// handshake.
TEST(Transport, CallersGetNoSessionTickets) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(), {.address = "127.0.0.1:0"});
  RawTls caller(port.address(), plane.Identity(v1::ROLE_VIEWER, "anna"));
  ASSERT_TRUE(caller.connected());
  EXPECT_EQ(caller.Tickets(), 0);
}

// Its attempt ends soon, and with it the handshake that would have been begun.
TEST(Transport, WhoHasWaitedForTooLongIsRefused) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0",
              .accepts_at_once = 2,
              .accept_pause = absl::Seconds(1),
              .waits_at_most = absl::Milliseconds(1500)});
  std::vector<net::Socket> crowd;
  for (int i = 0; i < 20; ++i) crowd.push_back(*net::ConnectTo(port.address(), absl::Seconds(5)));
  const auto counts = [&] { return port.listener().counts(); };
  EXPECT_TRUE(testing::Eventually([&] { return counts().accepted + counts().refused_late == 20; }));
  EXPECT_GE(counts().accepted, 2U);
  EXPECT_GT(counts().refused_late, 10U);
  EXPECT_TRUE(testing::Eventually([&] { return AllCut(crowd); }));
}

// The server's end of what is connected to one of its ports, of this process as that is.
int OtherEnd(const net::Socket& client) {
  sockaddr_in local{};
  socklen_t size = sizeof local;
  getsockname(client.fd(), reinterpret_cast<sockaddr*>(&local), &size);
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_in peer{};
    size = sizeof peer;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
        peer.sin_family == AF_INET && peer.sin_port == local.sin_port &&
        peer.sin_addr.s_addr == local.sin_addr.s_addr) {
      return fd;
    }
  }
  return -1;
}

int OptionOf(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

// Whoever is gone without a word is the kernel's to notice, which is never too busy to answer.
TEST(Transport, TheKernelWatchesEveryConnection) {
  TestPlane plane;
  const net::Socket client = *net::ConnectTo(plane.address(), absl::Seconds(5));
  EXPECT_TRUE(testing::Eventually(
      [&] { return OptionOf(OtherEnd(client), IPPROTO_TCP, TCP_USER_TIMEOUT) == 6000; }));
  EXPECT_EQ(OptionOf(OtherEnd(client), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(OptionOf(OtherEnd(client), IPPROTO_TCP, TCP_KEEPIDLE), 3);
  EXPECT_EQ(OptionOf(OtherEnd(client), IPPROTO_TCP, TCP_KEEPINTVL), 1);
}

// Its kernel answers for a program that is stuck, for as long as that may be.
TEST(Transport, WhoSaysNothingAnyMoreIsCut) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0", .silent_at_most = absl::Seconds(2)});
  const auto identity = plane.Identity(v1::ROLE_VIEWER, "anna");
  RawHttp2 stuck(port.address(), identity);
  RawHttp2 alive(port.address(), identity);
  const absl::Duration heard = SystemClock().Uptime();
  const auto silent = [&] { return port.listener().counts().silent; };
  EXPECT_TRUE(testing::Eventually([&] { return alive.Speak() && silent() > 0; }));
  const absl::Duration cut = SystemClock().Uptime();
  EXPECT_TRUE(testing::Eventually([&] { return stuck.Ended(); }));
  const auto last_heard = port.listener().LastHeard(stuck.peer());
  ASSERT_TRUE(last_heard.has_value());
  EXPECT_LT(*last_heard, cut - absl::Seconds(2));
  EXPECT_GT(*last_heard, heard - absl::Seconds(2));
  EXPECT_FALSE(port.listener().LastHeard(alive.peer()).has_value());
  // For longer than the other was silent.
  for (int times = 0; times < 20; ++times) {
    EXPECT_TRUE(alive.Speak());
    testing::Pause(absl::Milliseconds(200));
  }
  EXPECT_FALSE(alive.Ended());
  EXPECT_EQ(silent(), 1U);
}

// Pings that come too often end a connection, with the fourth. Those that come too seldom let it
// look silent: the server asks by itself only after ten seconds.
TEST(Transport, ClientsPingAsOftenAsTheyMustAndMay) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0", .silent_at_most = absl::Seconds(8)});
  const auto channel = net::OpenChannel(port.address(), plane.Identity(v1::ROLE_VIEWER, "anna"));
  ASSERT_TRUE(
      channel->WaitForConnected(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10))));
  testing::Pause(4 * net::ChannelOptions().keepalive_time + absl::Seconds(2));
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_EQ(port.listener().counts().silent, 0U);
}

TEST(Transport, ACrowdOfOneAddressKeepsNobodyElseWaiting) {
  TestPlane plane;
  TestPort port;
  port.Serve(net::MutualTls(plane.own_identity()), {}, plane.gate(),
             {.address = "127.0.0.1:0", .accepts_at_once = 2, .accept_pause = absl::Seconds(1)});
  std::vector<net::Socket> crowd;
  for (int i = 0; i < 200; ++i) crowd.push_back(*net::ConnectTo(port.address(), absl::Seconds(5)));
  const auto counts = [&] { return port.listener().counts(); };
  ASSERT_TRUE(testing::Eventually([&] { return counts().open == 200; }));
  const net::Socket other(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
  ASSERT_EQ(bind(other.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port.listener().port());
  ASSERT_EQ(connect(other.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  // Let in, and then watched.
  EXPECT_TRUE(testing::Eventually(
      [&] { return OptionOf(OtherEnd(other), SOL_SOCKET, SO_KEEPALIVE) == 1; }));
  EXPECT_LT(counts().accepted, 100u);
}

// A handshake that goes on and on, a byte at a time, is as long as one of silence.
TEST(Transport, ASlowHandshakeIsCut) {
  TestPlane plane;
  std::vector<net::Socket> slow;
  for (int i = 0; i < 50; ++i) slow.push_back(*net::ConnectTo(plane.address(), absl::Seconds(5)));
  // The head of a ClientHello of 16,000 bytes, which never comes to its end.
  std::string text("\x16\x03\x01\x3e\x80\x01\x00\x3e\x7c\x03\x03", 11);
  size_t next = 0;
  EXPECT_TRUE(testing::Eventually([&] {
    if (next == text.size()) text += 'x';
    for (const net::Socket& socket : slow) {
      (void)send(socket.fd(), &text[next], 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    ++next;
    return AllCut(slow);
  }));
  EXPECT_GT(next, 11u);
  EXPECT_TRUE(Version(plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"))).ok());
}

// A handshake at its end that is followed by nothing holds its connection no longer.
TEST(Transport, SilenceAfterTheHandshakeIsCut) {
  TestPlane plane;
  const auto identity = plane.Identity(v1::ROLE_VIEWER, "anna");
  std::deque<RawTls> silent;
  for (int i = 0; i < 20; ++i) silent.emplace_back(plane.address(), identity);
  EXPECT_TRUE(testing::Eventually([&] {
    return std::all_of(silent.begin(), silent.end(), [](RawTls& one) { return one.Ended(); });
  }));
  EXPECT_TRUE(Version(plane.Channel(identity)).ok());
}

// Every descriptor number below the limit is taken while this lives: accept4 fails with EMFILE.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const int next = dup(STDERR_FILENO);
    const rlimit low{static_cast<rlim_t>(next) + 8, before_.rlim_max};
    fillers_.emplace_back(next);
    setrlimit(RLIMIT_NOFILE, &low);
    for (int fd = dup(STDERR_FILENO); fd >= 0; fd = dup(STDERR_FILENO)) fillers_.emplace_back(fd);
  }
  ~NoDescriptors() {
    setrlimit(RLIMIT_NOFILE, &before_);
    fillers_.clear();
  }

 private:
  rlimit before_{};
  std::vector<net::Socket> fillers_;
};

TEST(Transport, AFloodBeyondTheDescriptorLimitIsSurvived) {
  TestPlane plane;
  const auto identity = plane.Identity(v1::ROLE_VIEWER, "anna");
  EXPECT_TRUE(Version(plane.Channel(identity)).ok());
  // The callers' own descriptors are there before the last one is gone.
  std::vector<net::Socket> flood;
  for (int i = 0; i < 120; ++i) {
    flood.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(plane.port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  {
    const NoDescriptors none;
    for (const net::Socket& caller : flood) {
      connect(caller.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    ASSERT_TRUE(
        testing::Eventually([&] { return plane.listener().counts().refused_no_descriptors > 3; }));
  }
  flood.clear();
  EXPECT_TRUE(testing::Eventually([&] { return Version(plane.Channel(identity)).ok(); }));
}

}  // namespace
}  // namespace muster::control
