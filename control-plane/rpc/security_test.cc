// Who may call what, and what attackers get: over real mutual TLS.
#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include <atomic>
#include <memory>
#include <vector>

#include <absl/synchronization/notification.h>

#include "control-plane/rpc/test_plane.h"
#include "lib/base/hash.h"
#include "lib/exec/threads.h"
#include "lib/net/join.h"
#include "lib/net/openssl.h"
#include "lib/net/socket.h"
#include "lib/net/status.h"
#include "lib/wire/columns.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "muster/v1/enrollment.grpc.pb.h"

namespace muster::control {
namespace {

using grpc::StatusCode;

struct Method {
  std::string path;  // "/muster.v1.SpecService/ListSpecs"
  std::string name;
  std::set<v1::Role> allowed;
  bool streaming = false;
};

std::vector<Method> Methods() {
  const google::protobuf::FileDescriptor* const files[] = {
      v1::Hello::descriptor()->file(),
      v1::RenewRequest::descriptor()->file(),
      v1::ApplySpecsRequest::descriptor()->file(),
      v1::HistoryRequest::descriptor()->file(),
      v1::ListAlertsRequest::descriptor()->file(),
      v1::VersionRequest::descriptor()->file()};
  std::vector<Method> methods;
  for (const auto* file : files) {
    for (int m = 0; m < file->service(0)->method_count(); ++m) {
      const auto* method = file->service(0)->method(m);
      Method one{fmt::format("/{}/{}", file->service(0)->full_name(), method->name()),
                 method->full_name(),
                 {},
                 method->client_streaming() || method->server_streaming()};
      for (int i = 0; i < method->options().ExtensionSize(v1::allow); ++i) {
        one.allowed.insert(method->options().GetExtension(v1::allow, i));
      }
      methods.push_back(std::move(one));
    }
  }
  return methods;
}

// Calls any method with an empty message, and gives the status.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel, const Method& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(SystemClock().Now() + absl::Seconds(method.streaming ? 2 : 10)));
  const auto call = stub.PrepareCall(&context, method.path, &queue);
  grpc::Status status;
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  grpc::Slice nothing;
  call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  do {  // the status comes after the last message
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
  } while (ok);
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) continue;
  return status;
}

grpc::Status Version(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10)));
  v1::VersionResponse response;
  return v1::SystemService::NewStub(channel)->Version(&context, {}, &response);
}

// The certificate that a server shows to a handshake.
std::string ShownLeaf(const std::string& address) {
  const net::Socket socket = *net::ConnectTo(address, absl::Seconds(5));
  const net::SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof kHttp2);
  const net::SslPtr ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), socket.fd());
  SSL_connect(ssl.get());
  const net::CertificatePtr leaf(SSL_get1_peer_certificate(ssl.get()));
  return leaf == nullptr ? "" : net::CertificateDer(leaf.get());
}

TEST(Gate, EveryRpcForEveryRole) {
  TestPlane plane;
  for (const v1::Role role : {v1::ROLE_AGENT, v1::ROLE_VIEWER, v1::ROLE_OPERATOR, v1::ROLE_ADMIN}) {
    const auto channel =
        plane.Channel(plane.Identity(role, fmt::format("one-{}", static_cast<int>(role))));
    for (const Method& method : Methods()) {
      const grpc::Status status = CallEmpty(channel, method);
      if (method.allowed.contains(role)) {
        EXPECT_NE(status.error_code(), StatusCode::PERMISSION_DENIED)
            << method.name << " " << role << status.error_message();
        EXPECT_NE(status.error_code(), StatusCode::UNAUTHENTICATED) << method.name;
      } else {
        EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << method.name << " " << role;
      }
    }
  }
}

TEST(Gate, ACallerWithoutACertificateGetsNowhere) {
  TestPlane plane;
  net::ClientIdentity stranger;
  stranger.roots_pem = plane.authority().RootsPem();
  EXPECT_EQ(Version(plane.Channel(stranger)).error_code(), StatusCode::UNAVAILABLE);
}

TEST(Gate, ACertificateOfAnotherAuthorityGetsNowhere) {
  TestPlane plane;
  TestPlane other;
  net::ClientIdentity foreign = other.Identity(v1::ROLE_ADMIN, "root");
  foreign.roots_pem = plane.authority().RootsPem();
  EXPECT_EQ(Version(plane.Channel(foreign)).error_code(), StatusCode::UNAVAILABLE);
}

TEST(Gate, ARevokedCertificateIsDeniedAtOnce) {
  TestPlane plane;
  const auto channel = plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"));
  EXPECT_TRUE(Version(channel).ok());
  ASSERT_TRUE(plane.store()
                  .identity()
                  .RevokeOperator("anna", plane.clock().Now(),
                                  {"test", "operator.revoke", "anna", "", plane.clock().Now()})
                  .ok());
  EXPECT_TRUE(testing::Eventually(
      [&] { return Version(channel).error_code() == StatusCode::PERMISSION_DENIED; },
      absl::Seconds(5)));
}

// A client certificate as the authority would never sign one.
net::ClientIdentity Misissued(TestPlane& plane, const std::string& names, const char* usage,
                              absl::Time from, absl::Time until) {
  const Secret key_pem = *net::NewPrivateKey();
  const net::KeyPtr key = *net::ReadPrivateKey(key_pem.Reveal());
  const net::KeyPtr authority_key = plane.AuthorityKey();
  const net::CertificatePtr authority = *net::ParseCertificate(plane.authority().certificate_der());
  const net::CertificatePtr made(X509_new());
  X509_set_version(made.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 7);
  ASN1_TIME_set(X509_getm_notBefore(made.get()), absl::ToTimeT(from));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), absl::ToTimeT(until));
  X509_set_issuer_name(made.get(), X509_get_subject_name(authority.get()));
  X509_set_pubkey(made.get(), key.get());
  for (const auto& [nid, value] : {std::pair<int, const char*>{NID_subject_alt_name, names.c_str()},
                                   {NID_ext_key_usage, usage}}) {
    if (*value == '\0') continue;
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(made.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(made.get(), authority_key.get(), EVP_sha256());
  return {plane.authority().RootsPem(),
          net::DerToPem({net::CertificateDer(made.get()), plane.authority().certificate_der()}),
          std::string(key_pem.Reveal())};
}

TEST(Gate, ACertificateMustCarryExactlyOneIdentityOfOurs) {
  TestPlane plane;
  const absl::Time now = plane.clock().Now();
  const auto call = [&](const std::string& names, const char* usage) {
    return Version(plane.Channel(
                       Misissued(plane, names, usage, now - absl::Hours(1), now + absl::Hours(1))))
        .error_code();
  };
  EXPECT_EQ(call("URI:spiffe://muster/viewer/anna", "clientAuth"), StatusCode::OK);
  EXPECT_EQ(call("URI:spiffe://muster/viewer/anna,URI:spiffe://muster/admin/root", "clientAuth"),
            StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(call("URI:spiffe://muster/viewer/anna,URI:https://example.org", "clientAuth"),
            StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(call("URI:spiffe://elsewhere/admin/root", "clientAuth"), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(call("DNS:control.muster.internal", "clientAuth"), StatusCode::UNAUTHENTICATED);
  // A server's certificate is no client's.
  EXPECT_EQ(call("URI:spiffe://muster/viewer/anna", "serverAuth"), StatusCode::UNAVAILABLE);
  // gRPC lets a certificate without usages pass; the gate does not.
  EXPECT_EQ(call("URI:spiffe://muster/viewer/anna", ""), StatusCode::UNAUTHENTICATED);
}

TEST(Gate, AnExpiredCertificateGetsNowhere) {
  TestPlane plane;
  const absl::Time now = plane.clock().Now();
  EXPECT_EQ(Version(plane.Channel(Misissued(plane, "URI:spiffe://muster/admin/root", "clientAuth",
                                            now - absl::Hours(2), now - absl::Hours(1))))
                .error_code(),
            StatusCode::UNAVAILABLE);
}

// An HTTP/2 client by hand, which can do what a well-behaved one does not.
class RawHttp2 {
 public:
  RawHttp2(TestPlane& plane, const net::ClientIdentity& identity)
      : socket_(*net::ConnectTo(plane.address(), absl::Seconds(10))),
        context_(SSL_CTX_new(TLS_client_method())) {
    signal(SIGPIPE, SIG_IGN);  // the connection is meant to be cut
    const net::KeyPtr key = *net::ReadPrivateKey(identity.key_pem);
    const auto chain = *net::PemToDer(identity.chain_pem);
    const net::CertificatePtr leaf = *net::ParseCertificate(chain.front());
    SSL_CTX_use_certificate(context_.get(), leaf.get());
    SSL_CTX_use_PrivateKey(context_.get(), key.get());
    constexpr unsigned char kHttp2[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context_.get(), kHttp2, sizeof kHttp2);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), socket_.fd());
    connected_ = SSL_connect(ssl_.get()) == 1 &&
                 Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, ""));
  }
  bool connected() const { return connected_; }

  // A call that is taken back as soon as it is made. False once the connection is gone.
  bool Reset(const std::string& path) {
    std::string headers;
    for (const auto& [name, value] : {std::pair<std::string, std::string>{":method", "POST"},
                                      {":scheme", "https"},
                                      {":path", path},
                                      {":authority", "x"},
                                      {"te", "trailers"},
                                      {"content-type", "application/grpc"}}) {
      headers += '\0';  // HPACK: literal, not indexed, new name
      headers += static_cast<char>(name.size());
      headers += name;
      headers += static_cast<char>(value.size());
      headers += value;
    }
    const uint32_t stream = next_;
    next_ += 2;
    Drain();
    return Send(Frame(1, 4, stream, headers) + Frame(0, 1, stream, std::string(5, '\0')) +
                Frame(3, 0, stream, std::string("\0\0\0\x8", 4)));
  }

 private:
  static std::string Frame(uint8_t type, uint8_t flags, uint32_t stream,
                           const std::string& payload) {
    const auto byte = [](size_t number, int shift) { return static_cast<char>(number >> shift); };
    std::string frame{byte(payload.size(), 16), byte(payload.size(), 8),  byte(payload.size(), 0),
                      static_cast<char>(type),  static_cast<char>(flags), byte(stream, 24),
                      byte(stream, 16),         byte(stream, 8),          byte(stream, 0)};
    return frame + payload;
  }
  bool Send(const std::string& bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
  }
  // The answers are read, so that the server is never the one that waits.
  void Drain() {
    char answers[4096];
    char first = 0;
    while (recv(socket_.fd(), &first, 1, MSG_DONTWAIT | MSG_PEEK) > 0 &&
           SSL_read(ssl_.get(), answers, sizeof answers) > 0) {
    }
    ERR_clear_error();
  }

  net::Socket socket_;
  net::SslContextPtr context_;
  net::SslPtr ssl_;
  bool connected_ = false;
  uint32_t next_ = 1;
};

TEST(Transport, AConnectionThatResetsRapidlyIsCut) {
  TestPlane plane;
  const auto attacker = plane.Identity(v1::ROLE_AGENT, "mallory");
  const auto other = plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"));
  ASSERT_TRUE(Version(other).ok());
  RawHttp2 connection(plane, attacker);
  ASSERT_TRUE(connection.connected());
  int resets = 0;
  constexpr int kMost = 200'000;
  while (resets < kMost && connection.Reset("/muster.v1.AgentLink/Session")) ++resets;
  EXPECT_LT(resets, kMost);
  EXPECT_GE(plane.gate().connections_cut(), 1u);
  EXPECT_TRUE(Version(other).ok());
  // The identity itself may come back: it is the connection that is at fault.
  EXPECT_TRUE(RawHttp2(plane, attacker).connected());
}

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
  EXPECT_EQ(ShownLeaf(plane.address()), net::PemToDer(next.chain_pem)->front());
  EXPECT_NE(ShownLeaf(plane.address()), net::PemToDer(old_chain)->front());
  // A key of another certificate changes nothing.
  EXPECT_EQ(plane.own().Replace({plane.authority().RootsPem(), old_chain, next.key_pem}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ShownLeaf(plane.enroll_address()), net::PemToDer(next.chain_pem)->front());
}

// Reads the stream until it ends; the status.
grpc::Status SessionStatus(TestPlane& plane, const net::ClientIdentity& identity,
                           const v1::Records* records) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10)));
  const auto stream = v1::AgentLink::NewStub(plane.Channel(identity))->Session(&context);
  v1::FromAgent hello;
  hello.mutable_hello()->set_log_epoch("epoch");
  stream->Write(hello);
  v1::ToAgent answer;
  stream->Read(&answer);
  if (records != nullptr) {
    v1::FromAgent message;
    *message.mutable_records() = *records;
    stream->Write(message);
  }
  while (stream->Read(&answer)) continue;
  return stream->Finish();
}

TEST(Session, RecordsAreTheCertificatesAgentsWhateverIsSaid) {
  TestPlane plane;
  const auto a = plane.Identity(v1::ROLE_AGENT, "host-a");
  plane.Identity(v1::ROLE_AGENT, "host-b");
  v1::Record record;
  record.set_sequence(1);
  record.mutable_plan_taken()->set_plan_hash("x");
  const auto batch = wire::EncodeBatch({record});
  v1::Records records;
  records.set_first_sequence(1);
  records.set_last_sequence(1);
  records.set_batch(batch->payload);
  const net::ClientIdentity identity = a;
  exec::Thread session("session", [&] { SessionStatus(plane, identity, &records); });
  EXPECT_TRUE(testing::Eventually(
      [&] { return (*plane.store().sessions().Find("host-a"))->committed_sequence == 1; }));
  EXPECT_EQ((*plane.store().sessions().Find("host-b"))->committed_sequence, 0u);
}

TEST(Session, ABombIsRefusedBeforeItIsInflated) {
  TestPlane plane;
  v1::Records records;
  records.set_first_sequence(1);
  records.set_last_sequence(1);
  std::string frame(1 << 20, '\0');
  const std::string zeros(100 << 20, '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), zeros.data(), zeros.size(), 1));
  records.set_batch(frame);
  EXPECT_EQ(SessionStatus(plane, plane.Identity(v1::ROLE_AGENT, "host-a"), &records).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Session, AHoleEndsTheSession) {
  TestPlane plane;
  v1::Record record;
  record.set_sequence(5);
  record.mutable_plan_taken()->set_plan_hash("x");
  v1::Records records;
  records.set_first_sequence(5);
  records.set_last_sequence(5);
  records.set_batch(wire::EncodeBatch({record})->payload);
  EXPECT_EQ(SessionStatus(plane, plane.Identity(v1::ROLE_AGENT, "host-a"), &records).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST(Transport, GzipIsRefused) {
  TestPlane plane;
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::ApplySpecsRequest request;
  request.add_documents()->mutable_metadata()->set_name(std::string(800'000, 'a'));
  v1::ApplySpecsResponse response;
  const auto stub = v1::SpecService::NewStub(plane.Channel(plane.Identity(v1::ROLE_ADMIN, "root")));
  EXPECT_EQ(stub->ApplySpecs(&context, request, &response).error_code(), StatusCode::UNIMPLEMENTED);
}

TEST(Transport, SpeaksTls13Only) {
  TestPlane plane;
  EXPECT_TRUE(net::ProveTls13Only(plane.port()).ok());
}

TEST(Transport, JunkAndSilenceDoNotKeepOthersOut) {
  TestPlane plane;
  std::vector<net::Socket> silent;
  for (int i = 0; i < 200; ++i) {
    auto socket = net::ConnectTo(plane.address(), absl::Seconds(5));
    ASSERT_TRUE(socket.ok());
    if (i % 2 == 0) {
      EXPECT_GT(write(socket->fd(), "GET / HTTP/1.1\r\n\r\n", 18), 0);
    }
    silent.push_back(std::move(*socket));
  }
  EXPECT_TRUE(Version(plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"))).ok());
  // Half-open handshakes are cut after five seconds.
  EXPECT_TRUE(testing::Eventually([&] {
    char byte = 0;
    for (const net::Socket& socket : silent) {
      if (recv(socket.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN) return false;
    }
    return true;
  }));
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

struct Stranger {
  std::unique_ptr<v1::Enrollment::Stub> enrollment;
  v1::JoinRequest request;  // with a key of its own
};

Stranger ConnectedStranger(TestPlane& plane, const std::string& token) {
  net::ClientIdentity nobody;
  nobody.roots_pem = plane.authority().RootsPem();
  const auto channel = net::OpenChannel(plane.enroll_address(), nobody);
  EXPECT_TRUE(
      channel->WaitForConnected(absl::ToChronoTime(plane.clock().Now() + absl::Seconds(60))));
  Stranger stranger{v1::Enrollment::NewStub(channel), {}};
  stranger.request.set_token(token);
  stranger.request.set_csr(*net::NewCertificateRequest(*net::NewPrivateKey()));
  return stranger;
}

TEST(Enrollment, ATokenIsGoodForOneCertificateHoweverManyAsk) {
  TestPlane plane;
  grpc::ClientContext context;
  v1::CreateTokenRequest request;
  request.set_agent("host-1");
  v1::CreateTokenResponse token;
  const auto admin =
      v1::IdentityService::NewStub(plane.Channel(plane.Identity(v1::ROLE_ADMIN, "root")));
  ASSERT_TRUE(admin->CreateToken(&context, request, &token).ok());
  const auto join = net::ParseJoinString(token.join_string());
  ASSERT_TRUE(join.ok());
  // All are connected before any asks, so that they race for the token, not for handshakes.
  std::vector<Stranger> strangers;
  for (int i = 0; i < 64; ++i) strangers.push_back(ConnectedStranger(plane, join->token));
  std::atomic<int> given = 0;
  std::atomic<int> refused = 0;
  absl::Notification go;
  {
    std::vector<exec::Thread> threads;
    for (Stranger& stranger : strangers) {
      threads.emplace_back("join", [&] {
        go.WaitForNotification();
        grpc::ClientContext asks;
        v1::JoinResponse answer;
        const grpc::Status joined = stranger.enrollment->Join(&asks, stranger.request, &answer);
        joined.ok() ? ++given : ++refused;
        EXPECT_TRUE(joined.ok() || joined.error_code() == StatusCode::PERMISSION_DENIED)
            << joined.error_message();
      });
    }
    go.Notify();
  }
  EXPECT_EQ(given, 1);
  EXPECT_EQ(refused, 63);
}

TEST(Enrollment, AJoinThatWasInterruptedCanBeDoneAgainWithTheSameKey) {
  TestPlane plane;
  const std::string token(32, 't');
  ASSERT_TRUE(plane.store()
                  .identity()
                  .SaveToken({Sha256(token), "host-1", {}, plane.clock().Now() + absl::Hours(1)},
                             {"test", "token.create", "host-1", "", plane.clock().Now()})
                  .ok());
  const net::JoinString join{plane.authority().Pin(), token};
  const Secret key = *net::NewPrivateKey();
  const auto first = net::Join(plane.enroll_address(), join, key, SystemClock());
  const auto second = net::Join(plane.enroll_address(), join, key, SystemClock());
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->identity.chain_pem, second->identity.chain_pem);
  EXPECT_EQ(
      net::Join(plane.enroll_address(), join, *net::NewPrivateKey(), SystemClock()).status().code(),
      absl::StatusCode::kPermissionDenied);
}

TEST(Enrollment, AnExpiredAgentIsLetInAgainUnlessItWasRevoked) {
  TestPlane plane;
  const ManualClock then(plane.clock().Now() -
                         absl::Hours(24 * 10));  // agents' certificates last 7 days
  const auto authority = plane.AuthorityAt(then);
  const auto expired = plane.Identity(*authority, v1::ROLE_AGENT, "host-1", true);
  EXPECT_FALSE(net::Rejoin(plane.address(), expired, SystemClock(), absl::Seconds(3)).ok());
  const auto back = net::Rejoin(plane.enroll_address(), expired, SystemClock());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->agent_name, "host-1");
  ASSERT_TRUE(plane.store()
                  .identity()
                  .Revoke(v1::ROLE_AGENT, "host-1", plane.clock().Now(),
                          {"test", "agent.revoke", "host-1", "", plane.clock().Now()})
                  .ok());
  const auto refused = [&](const net::ClientIdentity& identity) {
    return net::Rejoin(plane.enroll_address(), identity, SystemClock()).status().code() ==
           absl::StatusCode::kPermissionDenied;
  };
  EXPECT_TRUE(refused(expired));
  EXPECT_TRUE(refused(back->identity));
  // A new token lets the host in again, not the certificates that were revoked.
  const auto renewed = plane.Identity(v1::ROLE_AGENT, "host-1");
  EXPECT_TRUE(refused(expired));
  EXPECT_TRUE(refused(back->identity));
  EXPECT_FALSE(refused(renewed));
}

TEST(Enrollment, AnExpiredCertificateAloneIsNoProof) {
  TestPlane plane;
  const ManualClock then(plane.clock().Now() - absl::Hours(24 * 10));
  const auto authority = plane.AuthorityAt(then);
  auto stolen = plane.Identity(*authority, v1::ROLE_AGENT, "host-1", true);
  stolen.key_pem = std::string(net::NewPrivateKey()->Reveal());
  EXPECT_EQ(net::Rejoin(plane.enroll_address(), stolen, SystemClock()).status().code(),
            absl::StatusCode::kPermissionDenied);
  // Nor is an operator's, another authority's, or one that ended too long ago.
  TestPlane other;
  auto foreign = other.Identity(v1::ROLE_AGENT, "host-1");
  foreign.roots_pem = plane.authority().RootsPem();
  const ManualClock long_ago(plane.clock().Now() - absl::Hours(24 * 60));
  const auto old_authority = plane.AuthorityAt(long_ago);
  for (const auto& identity : {plane.Identity(v1::ROLE_ADMIN, "root"), foreign,
                               plane.Identity(*old_authority, v1::ROLE_AGENT, "host-2", true)}) {
    EXPECT_EQ(net::Rejoin(plane.enroll_address(), identity, SystemClock()).status().code(),
              absl::StatusCode::kPermissionDenied);
  }
}

TEST(Enrollment, AnExpiredTokenIsRefused) {
  TestPlane plane;
  const std::string token(32, 't');
  ASSERT_TRUE(plane.store()
                  .identity()
                  .SaveToken({Sha256(token), "host-1", {}, plane.clock().Now() - absl::Seconds(1)},
                             {"test", "token.create", "host-1", "", plane.clock().Now()})
                  .ok());
  EXPECT_EQ(net::Join(plane.enroll_address(), {plane.authority().Pin(), token},
                      *net::NewPrivateKey(), SystemClock())
                .status()
                .code(),
            absl::StatusCode::kPermissionDenied);
}

TEST(Enrollment, AWrongPinIsRefusedBeforeTheTokenIsSent) {
  TestPlane plane;
  const std::string token(32, 't');
  ASSERT_TRUE(plane.store()
                  .identity()
                  .SaveToken({Sha256(token), "host-1", {}, plane.clock().Now() + absl::Hours(1)},
                             {"test", "token.create", "host-1", "", plane.clock().Now()})
                  .ok());
  EXPECT_EQ(net::Join(plane.enroll_address(), {std::string(32, 'x'), token}, *net::NewPrivateKey(),
                      SystemClock())
                .status()
                .code(),
            absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(net::Join(plane.enroll_address(), {plane.authority().Pin(), token},
                        *net::NewPrivateKey(), SystemClock())
                  .ok());
}

// A request that asks for an admin's name and an authority's rights.
std::string GreedyRequest(EVP_PKEY* key) {
  net::RequestPtr request(X509_REQ_new());
  X509_REQ_set_pubkey(request.get(), key);
  X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("root"), -1, -1, 0);
  STACK_OF(X509_EXTENSION)* wanted = sk_X509_EXTENSION_new_null();
  for (const auto& [nid, value] :
       {std::pair<int, const char*>{NID_subject_alt_name, "URI:spiffe://muster/admin/root"},
        {NID_basic_constraints, "CA:TRUE"}}) {
    sk_X509_EXTENSION_push(wanted, X509V3_EXT_conf_nid(nullptr, nullptr, nid, value));
  }
  X509_REQ_add_extensions(request.get(), wanted);
  sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
  X509_REQ_sign(request.get(), key, EVP_sha256());
  unsigned char* bytes = nullptr;
  const int size = i2d_X509_REQ(request.get(), &bytes);
  std::string der(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

TEST(Authority, WhatARequestAsksForIsIgnored) {
  TestPlane plane;
  const Secret key_pem = *net::NewPrivateKey();
  const net::KeyPtr key = *net::ReadPrivateKey(key_pem.Reveal());
  const auto issued = plane.authority().Issue(v1::ROLE_AGENT, "host-1", GreedyRequest(key.get()));
  ASSERT_TRUE(issued.ok()) << issued.status();
  const auto facts = *net::ReadCertificate(issued->chain_der.front());
  EXPECT_EQ(facts.uris, std::vector<std::string>{"spiffe://muster/agent/host-1"});
  EXPECT_FALSE(facts.is_authority);
  EXPECT_LT(facts.not_after, SystemClock().Now() + absl::Hours(24 * 8));
}

TEST(Authority, ARequestMustBeSignedByItsOwnKey) {
  TestPlane plane;
  std::string request = *net::NewCertificateRequest(*net::NewPrivateKey());
  request[request.size() - 3] = static_cast<char>(request[request.size() - 3] ^ 1);
  EXPECT_EQ(plane.authority().Issue(v1::ROLE_AGENT, "host-1", request).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ClusterKey, AnotherKeyOpensNothing) {
  testing::TempFolder folder;
  ASSERT_TRUE(MakeClusterKey(folder.File("a")).ok());
  ASSERT_TRUE(MakeClusterKey(folder.File("b")).ok());
  EXPECT_EQ(MakeClusterKey(folder.File("a")).code(), absl::StatusCode::kAlreadyExists);
  const std::string sealed = *Seal(*LoadClusterKey(folder.File("a")), "plain", "purpose");
  EXPECT_EQ(Unseal(*LoadClusterKey(folder.File("a")), sealed, "purpose")->Reveal(), "plain");
  EXPECT_EQ(Unseal(*LoadClusterKey(folder.File("b")), sealed, "purpose").status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Unseal(*LoadClusterKey(folder.File("a")), sealed, "other").status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(Audit, EveryPrivilegedChangeIsInTheChain) {
  TestPlane plane;
  grpc::ClientContext context;
  v1::CreateTokenRequest request;
  request.set_agent("host-9");
  v1::CreateTokenResponse token;
  ASSERT_TRUE(v1::IdentityService::NewStub(plane.Channel(plane.Identity(v1::ROLE_ADMIN, "root")))
                  ->CreateToken(&context, request, &token)
                  .ok());
  const auto entries = *plane.store().audit().List(0, 100);
  EXPECT_EQ(entries.back().note.action, "token.create");
  EXPECT_EQ(entries.back().note.actor, "admin/root");
  EXPECT_TRUE(plane.store().audit().Verify().ok());
}

}  // namespace
}  // namespace muster::control
