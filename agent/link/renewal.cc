#include "agent/link/renewal.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>

#include "lib/base/secret.h"
#include "lib/net/join.h"
#include "lib/net/status.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::agent {

StatusOr<RenewalTimes> TimesOf(const net::ClientIdentity& identity) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> chain, net::PemToDer(identity.chain_pem));
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts leaf, net::ReadCertificate(chain.front()));
  const absl::Duration life = leaf.not_after - leaf.not_before;
  return RenewalTimes{leaf.not_before + life / 2,
                      std::clamp(life / 20, absl::Seconds(1), absl::Minutes(1)), leaf.not_after};
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
    return net::ToAbsl(answer);
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

StatusOr<Renewed> RenewExpired(const std::vector<std::string>& enroll,
                               const net::ClientIdentity& identity, const Clock& clock,
                               absl::Duration within) {
  Status last = FailedPrecondition(
      "the certificate has expired and agent.yaml names no enroll: address: join again with a new "
      "token");
  for (const std::string& server : enroll) {
    StatusOr<net::Joined> joined = net::Rejoin(server, identity, clock, within);
    if (joined.ok()) return Renewed{std::move(joined->identity), std::move(joined->servers)};
    last = Annotate(joined.status(), server);
  }
  return last;
}

}  // namespace muster::agent
