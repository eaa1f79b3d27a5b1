// Who gets a certificate, and what is in it.
#include "control-plane/rpc/enrollment_service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include <absl/synchronization/notification.h>

#include "control-plane/rpc/test_plane.h"
#include "lib/base/hash.h"
#include "lib/exec/threads.h"
#include "lib/net/join.h"
#include "lib/net/openssl.h"
#include "muster/v1/enrollment.grpc.pb.h"

namespace muster::control {
namespace {

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
        EXPECT_TRUE(joined.ok() || joined.error_code() == grpc::StatusCode::PERMISSION_DENIED)
            << joined.error_message();
      });
    }
    go.Notify();
  }
  EXPECT_EQ(given, 1);
  EXPECT_EQ(refused, 63);
}

TEST(Enrollment, AnAddressThatTriesTooOftenIsToldSoBeforeItsTokenIsLookedAt) {
  TestPlane plane;
  std::string asked;
  plane.may_try = [&](const std::string& address) {
    asked = address;
    return false;
  };
  Stranger stranger = ConnectedStranger(plane, "of the wrong size");
  grpc::ClientContext context;
  v1::JoinResponse answer;
  const grpc::Status joined = stranger.enrollment->Join(&context, stranger.request, &answer);
  EXPECT_EQ(joined.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(asked, "ipv4:127.0.0.1");
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

TEST(Enrollment, ARequestForMoreGetsAnAgentsCertificate) {
  TestPlane plane;
  const Secret key_pem = *net::NewPrivateKey();
  const net::KeyPtr key = *net::ReadPrivateKey(key_pem.Reveal());
  const auto expect_agent = [](const auto& chain) {
    ASSERT_EQ(chain.size(), 2);
    const auto facts = *net::ReadCertificate(chain.Get(0));
    EXPECT_EQ(facts.uris, std::vector<std::string>{"spiffe://muster/agent/host-1"});
    EXPECT_FALSE(facts.is_authority);
  };
  v1::JoinRequest join;
  join.set_token(std::string(32, 't'));
  join.set_csr(GreedyRequest(key.get()));
  ASSERT_TRUE(
      plane.store()
          .identity()
          .SaveToken({Sha256(join.token()), "host-1", {}, plane.clock().Now() + absl::Hours(1)},
                     {"test", "token.create", "host-1", "", plane.clock().Now()})
          .ok());
  const auto stranger =
      net::OpenChannel(plane.enroll_address(), {plane.authority().RootsPem(), "", ""});
  grpc::ClientContext joining;
  v1::JoinResponse joined;
  ASSERT_TRUE(v1::Enrollment::NewStub(stranger)->Join(&joining, join, &joined).ok());
  expect_agent(joined.chain());
  // Nor does an agent become more by renewing.
  const net::ClientIdentity agent{plane.authority().RootsPem(),
                                  net::DerToPem({joined.chain(0), joined.chain(1)}),
                                  std::string(key_pem.Reveal())};
  v1::RenewRequest renew;
  renew.set_csr(join.csr());
  grpc::ClientContext renewing;
  v1::RenewResponse renewed;
  ASSERT_TRUE(
      v1::IdentityService::NewStub(plane.Channel(agent))->Renew(&renewing, renew, &renewed).ok());
  expect_agent(renewed.chain());
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

}  // namespace
}  // namespace muster::control
