#include "control-plane/rpc/peer_identity.h"

#include <grpcpp/security/auth_context.h>

#include "lib/base/hash.h"
#include "lib/net/tls.h"

namespace muster::control {

StatusOr<net::Identity> ReadIdentity(std::string_view certificate, std::string_view uri) {
  MUSTER_ASSIGN_OR_RETURN(net::Identity identity, net::ParseSpiffeUri(uri));
  MUSTER_ASSIGN_OR_RETURN(const auto chain, net::PemToDer(certificate));
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts facts, net::ReadCertificate(chain.front()));
  if (facts.uris.size() != 1) return Unauthenticated("the certificate must carry exactly one URI");
  if (facts.uris.front() != uri) return Unauthenticated("the certificate carries another identity");
  if (!facts.client_usage) return Unauthenticated("the certificate is not meant for clients");
  identity.fingerprint = facts.fingerprint;
  return identity;
}

StatusOr<net::Identity> PeerIdentities::Of(const grpc::CallbackServerContext& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth == nullptr) return Unauthenticated("the call has no transport identity");
  const auto certificates = auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (certificates.empty()) return net::Identity{v1::ROLE_STRANGER, "", ""};
  const auto uris = auth->FindPropertyValues(GRPC_PEER_SPIFFE_ID_PROPERTY_NAME);
  if (uris.size() != 1 || certificates.size() != 1) {
    return Unauthenticated("the certificate must carry exactly one SPIFFE URI");
  }
  return Of({certificates[0].data(), certificates[0].size()}, {uris[0].data(), uris[0].size()});
}

StatusOr<net::Identity> PeerIdentities::Of(std::string_view certificate, std::string_view uri) {
  const std::string digest = Sha256(certificate) + Sha256(uri);
  {
    absl::MutexLock lock(&mutex_);
    const auto found = known_.find(digest);
    if (found != known_.end()) return found->second;
  }
  StatusOr<net::Identity> identity = ReadIdentity(certificate, uri);
  absl::MutexLock lock(&mutex_);
  // Renewals leave old ones behind. Those that still call are read once more.
  if (known_.size() >= most_) known_.clear();
  known_.emplace(digest, identity);
  return identity;
}

size_t PeerIdentities::known() const {
  absl::MutexLock lock(&mutex_);
  return known_.size();
}

}  // namespace muster::control
