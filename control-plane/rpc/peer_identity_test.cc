// Who a certificate says that its holder is, and that it is read once.
#include "control-plane/rpc/peer_identity.h"

#include <gtest/gtest.h>

#include "control-plane/rpc/test_plane.h"

namespace muster::control {
namespace {

class PeerIdentityTest : public ::testing::Test {
 protected:
  std::string Certificate(v1::Role role, const std::string& name) {
    return plane_.Identity(role, name).chain_pem;
  }
  TestPlane plane_;
};

TEST_F(PeerIdentityTest, StandsInTheCertificateAndNowhereElse) {
  const std::string certificate = Certificate(v1::ROLE_AGENT, "host-1");
  const std::string uri = net::SpiffeUri(v1::ROLE_AGENT, "host-1");
  const auto identity = ReadIdentity(certificate, uri);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(net::Text(*identity), "agent/host-1");
  EXPECT_EQ(identity->fingerprint.size(), 64U);
  EXPECT_TRUE(absl::IsUnauthenticated(
      ReadIdentity(certificate, "spiffe://elsewhere/agent/host-1").status()));
  EXPECT_FALSE(ReadIdentity("no certificate", uri).ok());
}

TEST_F(PeerIdentityTest, IsNotWhatSomebodySaysBesideTheCertificate) {
  const std::string certificate = Certificate(v1::ROLE_AGENT, "host-1");
  for (const auto& [role, name] :
       {std::pair(v1::ROLE_ADMIN, "host-1"), std::pair(v1::ROLE_AGENT, "host-2")}) {
    EXPECT_TRUE(
        absl::IsUnauthenticated(ReadIdentity(certificate, net::SpiffeUri(role, name)).status()));
  }
}

TEST_F(PeerIdentityTest, IsReadOnceACertificateRefusalsToo) {
  PeerIdentities peers;
  const std::string anna = Certificate(v1::ROLE_VIEWER, "anna");
  const std::string uri = net::SpiffeUri(v1::ROLE_VIEWER, "anna");
  const auto first = peers.Of(anna, uri);
  ASSERT_TRUE(first.ok());
  const auto again = peers.Of(anna, uri);
  EXPECT_EQ(net::Text(*again), "viewer/anna");
  EXPECT_EQ(again->fingerprint, first->fingerprint);
  EXPECT_EQ(peers.known(), 1U);
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(peers.Of(anna, "spiffe://elsewhere/x/y").ok());
  EXPECT_EQ(peers.known(), 2U);
  // Another certificate of the same name is another one.
  EXPECT_NE(peers.Of(Certificate(v1::ROLE_VIEWER, "anna"), uri)->fingerprint, first->fingerprint);
  EXPECT_EQ(peers.known(), 3U);
}

TEST_F(PeerIdentityTest, NoMoreAreKeptThanMayBe) {
  PeerIdentities peers(2);
  const std::string anna = Certificate(v1::ROLE_VIEWER, "anna");
  for (const char* uri : {"a", "b", "c", "d"}) {
    EXPECT_FALSE(peers.Of(anna, uri).ok());
    EXPECT_LE(peers.known(), 2U);
  }
  EXPECT_TRUE(peers.Of(anna, net::SpiffeUri(v1::ROLE_VIEWER, "anna")).ok());
}

}  // namespace
}  // namespace muster::control
