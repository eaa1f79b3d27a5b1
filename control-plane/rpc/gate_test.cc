// Who may call what: every method, every role, every kind of certificate, over real mutual TLS.
#include "control-plane/rpc/gate.h"

#include <gtest/gtest.h>

#include <vector>

#include "control-plane/rpc/test_calls.h"
#include "control-plane/rpc/test_plane.h"
#include "lib/net/openssl.h"
#include "lib/net/status.h"

namespace muster::control {
namespace {

using grpc::StatusCode;

TEST(Gate, EveryRpcForEveryRole) {
  TestPlane plane;
  for (const v1::Role role : {v1::ROLE_AGENT, v1::ROLE_VIEWER, v1::ROLE_OPERATOR, v1::ROLE_ADMIN}) {
    const auto channel =
        plane.Channel(plane.Identity(role, fmt::format("one-{}", static_cast<int>(role))));
    for (const Method& method : Methods()) {
      const StatusCode code = CallEmpty(channel, method).error_code();
      if (method.enrolment) {
        EXPECT_EQ(code, StatusCode::UNIMPLEMENTED) << method.name;
      } else if (method.allowed.contains(role)) {
        EXPECT_NE(code, StatusCode::PERMISSION_DENIED) << method.name << " " << role;
        EXPECT_NE(code, StatusCode::UNAUTHENTICATED) << method.name << " " << role;
        EXPECT_NE(code, StatusCode::UNIMPLEMENTED) << method.name << " " << role;
      } else {
        EXPECT_EQ(code, StatusCode::PERMISSION_DENIED) << method.name << " " << role;
      }
    }
  }
}

TEST(Gate, AStrangerMayEnrolAndNothingElse) {
  TestPlane plane;
  // A certificate, even an admin's, is not asked for at this port and changes nothing.
  for (const auto& identity : {net::ClientIdentity{plane.authority().RootsPem(), "", ""},
                               plane.Identity(v1::ROLE_ADMIN, "root")}) {
    const auto channel = net::OpenChannel(plane.enroll_address(), identity);
    for (const Method& method : Methods()) {
      EXPECT_EQ(CallEmpty(channel, method).error_code(),
                method.enrolment ? StatusCode::INVALID_ARGUMENT : StatusCode::UNIMPLEMENTED)
          << method.name;
    }
  }
}

TEST(Gate, TheControlPlanesOwnCertificateIsNoCallers) {
  TestPlane plane;
  const auto own = *plane.authority().IssueServer("r-test");
  const auto channel = plane.Channel({plane.authority().RootsPem(), own.chain_pem, own.key_pem});
  for (const Method& method : Methods()) {
    EXPECT_EQ(CallEmpty(channel, method).error_code(),
              method.enrolment ? StatusCode::UNIMPLEMENTED : StatusCode::UNAUTHENTICATED)
        << method.name;
  }
}

TEST(Gate, AnAgentsCertificateChangesNothing) {
  TestPlane plane;
  v1::ApplySpecsRequest request;
  v1::Document& document = *request.add_documents();
  document.set_api_version("muster/v1");
  document.set_kind("Check");
  document.mutable_metadata()->set_name("api");
  document.mutable_check()->mutable_probe()->mutable_icmp()->set_host("localhost");
  const auto apply = [&](v1::Role role, const std::string& name) {
    grpc::ClientContext context;
    v1::ApplySpecsResponse response;
    return v1::SpecService::NewStub(plane.Channel(plane.Identity(role, name)))
        ->ApplySpecs(&context, request, &response)
        .error_code();
  };
  const size_t entries = plane.store().audit().List(0, 100)->size();
  EXPECT_EQ(apply(v1::ROLE_AGENT, "host-a"), StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(plane.store().specs().Checks()->empty());
  // Two for the agent's own token and certificate.
  EXPECT_EQ(plane.store().audit().List(0, 100)->size(), entries + 2);
  EXPECT_EQ(apply(v1::ROLE_OPERATOR, "anna"), StatusCode::OK);
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

}  // namespace
}  // namespace muster::control
