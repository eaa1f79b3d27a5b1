#include "agent/probes/probe_fixture.h"

#include <cmath>
#include <cstdio>

#include <arpa/inet.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

namespace muster::agent::testing {

v1::Probe Spec(const std::string& text) {
  v1::Probe spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

Policy OpenPolicy(const std::string& paths, const std::string& programs) {
  const StatusOr<Policy> policy = Policy::Parse(
      fmt::format("probes: [http, tcp, tls, dns, icmp, postgres, redis, grpc, host, process, file, "
                  "wal_archive, plugin]\n"
                  "networks: [127.0.0.0/8, \"::1/128\"]\npaths: [{}]\nprograms: [{}]\n",
                  paths, programs),
      "policy.yaml");
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *policy : Policy::Default();
}

ProbeResult RunProbe(Probe& probe, absl::Duration within) {
  const ProbeContext context{.clock = SystemClock(), .deadline = SystemClock().Uptime() + within};
  ProbeResult result = probe.Run(context);
  EXPECT_FALSE(result.detail.summary().empty());
  EXPECT_LE(result.detail.summary().size(), 512U);
  EXPECT_LE(result.detail.transcript().size(), 4096U);
  return result;
}

ProbeResult RunSpec(const std::string& spec, const Policy& policy, absl::Duration within) {
  const StatusOr<std::unique_ptr<Probe>> probe = MakeProbe(Spec(spec), policy);
  EXPECT_TRUE(probe.ok()) << probe.status();
  return probe.ok() ? RunProbe(**probe, within) : ProbeResult{};
}

Status Refusal(const std::string& spec, const Policy& policy) {
  return MakeProbe(Spec(spec), policy).status();
}

double MetricOf(const ProbeResult& result, std::string_view name) {
  for (const v1::Metric& metric : result.detail.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  return std::nan("");
}

bool HasPhase(const ProbeResult& result, std::string_view name) {
  for (const v1::Phase& phase : result.detail.phases()) {
    if (phase.name() == name) return true;
  }
  return false;
}

SilentServer::SilentServer(int backlog) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(fd_, backlog), 0);
  getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
}

SilentServer::~SilentServer() { close(fd_); }

void MakeCertificate(const std::string& certificate_file, const std::string& key_file,
                     absl::Duration from, absl::Duration until) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), absl::ToInt64Seconds(from));
  X509_gmtime_adj(X509_getm_notAfter(certificate), absl::ToInt64Seconds(until));
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  for (const auto& [kind, value] : {std::pair{NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1"},
                                    std::pair{NID_basic_constraints, "critical,CA:TRUE"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  EXPECT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
  FILE* file = fopen(certificate_file.c_str(), "w");
  PEM_write_X509(file, certificate);
  fclose(file);
  file = fopen(key_file.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

}  // namespace muster::agent::testing
