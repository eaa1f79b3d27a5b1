// Keys, certificates and trust, as PEM texts, and the channel that a client opens with them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/secret.h"
#include "lib/base/status.h"

namespace grpc {
class Channel;
class ServerCredentials;
}  // namespace grpc

namespace muster::net {

// The name in every control plane certificate, and what clients check, whatever address they dial.
// Trust comes from the cluster's own authority, so the address proves nothing that this name does
// not.
inline constexpr char kServerName[] = "control.muster.internal";

// Must be called first thing in main(), before any gRPC credential is made: TLS 1.3 only
// (GRPC_SSL_CIPHER_SUITES) and no session tickets, and drops GRPC_TRACE, GRPC_VERBOSITY and
// SSLKEYLOGFILE.
void PrepareTls();

// A P-256 key as PKCS#8 PEM.
StatusOr<Secret> NewPrivateKey();
// PKCS#10 in DER with an empty subject, signed by the key.
StatusOr<std::string> NewCertificateRequest(const Secret& key_pem);
std::string DerToPem(const std::vector<std::string>& certificates);
// The bytes of every block that says it is a certificate; none is read.
StatusOr<std::vector<std::string>> PemToDer(std::string_view pem);

struct CertificateFacts {
  std::string subject;
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
  absl::Time not_before;
  absl::Time not_after;
  std::string serial;                  // hex
  std::string fingerprint;             // SHA-256 of the DER, hex
  std::string public_key_fingerprint;  // SHA-256 of the SubjectPublicKeyInfo, hex
  bool is_authority = false;
  bool client_usage = false;  // carries the extended key usage clientAuth
};
StatusOr<CertificateFacts> ReadCertificate(std::string_view der);
// FailedPrecondition unless the certificate's public key belongs to the private key.
Status KeyMatches(const Secret& key_pem, std::string_view certificate_der);
// ECDSA with SHA-256, as DER.
StatusOr<std::string> Sign(const Secret& key_pem, std::string_view text);
// Unauthenticated unless the certificate's key made the signature over the text.
Status VerifySignature(std::string_view certificate_der, std::string_view text,
                       std::string_view signature);
// Checks the chain (leaf first) against the roots at a time.
Status VerifyChain(const std::vector<std::string>& chain_der,
                   const std::vector<std::string>& roots_der, absl::Time at);

// What a client of the control plane holds.
struct ClientIdentity {
  std::string roots_pem;  // the cluster's authority
  std::string chain_pem;  // own certificate and issuers; empty for a stranger
  std::string key_pem;    // empty for a stranger
};

struct ChannelOptions {
  // By these pings the server sees that the program is not stuck (ListenerOptions::silent_at_most).
  absl::Duration keepalive_time = absl::Seconds(5);
  absl::Duration keepalive_timeout = absl::Seconds(15);
  size_t max_message_bytes = 1 << 20;
};
// host:port. Every setting of docs/architecture/transport.md; no proxy; no compression; own
// subchannel pool; reconnect back-off 1 to 30 s.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const ClientIdentity& identity,
                                           const ChannelOptions& options = {});

}  // namespace muster::net
