#include "agent/link/renewal.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "lib/base/secret.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::agent {

StatusOr<absl::Time> RenewalTime(const net::ClientIdentity& identity) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> chain, net::PemToDer(identity.chain_pem));
  if (chain.empty()) return InvalidArgument("the agent's identity holds no certificate");
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts leaf, net::ReadCertificate(chain.front()));
  return leaf.not_before + (leaf.not_after - leaf.not_before) / 2;
}

StatusOr<Renewed> Renew(const std::string& server, const net::ClientIdentity& identity,
                        absl::Time now, absl::Duration within) {
  MUSTER_ASSIGN_OR_RETURN(const Secret key, net::NewPrivateKey());
  v1::RenewRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_csr(), net::NewCertificateRequest(key));
  v1::RenewResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(now + within));
  const auto stub = v1::IdentityService::NewStub(net::OpenChannel(server, identity));
  const grpc::Status answer = stub->Renew(&context, request, &response);
  if (!answer.ok()) {
    return MakeStatus(static_cast<absl::StatusCode>(answer.error_code()), "{}",
                      answer.error_message());
  }
  const std::vector<std::string> chain(response.chain().begin(), response.chain().end());
  if (chain.empty()) return Internal("the control plane answered without a certificate");
  MUSTER_RETURN_IF_ERROR(net::KeyMatches(key, chain.front()));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> roots, net::PemToDer(identity.roots_pem));
  MUSTER_RETURN_IF_ERROR(net::VerifyChain(chain, roots, now));
  Renewed renewed;
  renewed.identity = {identity.roots_pem, net::DerToPem(chain), std::string(key.Reveal())};
  renewed.servers.assign(response.servers().begin(), response.servers().end());
  return renewed;
}

}  // namespace muster::agent
