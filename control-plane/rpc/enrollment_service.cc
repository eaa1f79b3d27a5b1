#include "control-plane/rpc/enrollment_service.h"

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/net/join.h"
#include "lib/net/tls.h"

namespace muster::control {
namespace {

constexpr size_t kTokenSize = 32;
constexpr size_t kLargestRequest = 8192;

// "ipv4:10.0.0.1:4711" → "ipv4:10.0.0.1".
std::string AddressOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

EnrollmentService::EnrollmentService(IdentityStore& store, const Authority& authority, Gate& gate,
                                     const Clock& clock, EnrollmentOptions options)
    : store_(store),
      authority_(authority),
      gate_(gate),
      clock_(clock),
      options_(std::move(options)) {}

grpc::ServerUnaryReactor* EnrollmentService::Join(grpc::CallbackServerContext* context,
                                                  const v1::JoinRequest* request,
                                                  v1::JoinResponse* response) {
  return gate_.Serve(context, "muster.v1.Enrollment.Join",
                     [=, this, peer = AddressOf(context->peer())](const net::Identity&) {
                       return Join(peer, *request, *response);
                     });
}

Status EnrollmentService::Join(const std::string& peer, const v1::JoinRequest& request,
                               v1::JoinResponse& response) {
  if (!options_.may_try(peer)) {
    return ResourceExhausted("too many attempts to join from this address; wait a minute");
  }
  if (request.ByteSizeLong() > kLargestRequest) {
    return InvalidArgument("the join request has a shape that cannot be");
  }
  MUSTER_ASSIGN_OR_RETURN(const CertificateRow given, request.expired_certificate().empty()
                                                          ? Redeem(peer, request)
                                                          : Readmit(peer, request));
  response.add_chain(given.der);
  response.add_chain(authority_.certificate_der());
  response.set_agent_name(given.name);
  for (const std::string& server : options_.servers()) response.add_servers(server);
  return OkStatus();
}

StatusOr<CertificateRow> EnrollmentService::Redeem(const std::string& peer,
                                                   const v1::JoinRequest& request) {
  if (request.token().size() != kTokenSize) {
    return InvalidArgument("the join request has a shape that cannot be");
  }
  const std::string hash = Sha256(request.token());
  const StatusOr<TokenRow> token = store_.FindToken(hash);
  const absl::Time now = clock_.Now();
  if (!token.ok() && token.status().code() != absl::StatusCode::kNotFound) return token.status();
  if (!token.ok() || token->expires_at <= now) {
    LogWarning("a join was refused", {{"peer", peer}});
    return PermissionDenied(
        "the join token is unknown, expired or used; make another with: musterctl token create");
  }
  MUSTER_ASSIGN_OR_RETURN(const Issued issued,
                          authority_.Issue(v1::ROLE_AGENT, token->agent, request.csr()));
  MUSTER_ASSIGN_OR_RETURN(
      CertificateRow given,
      store_.RedeemToken(hash, issued.row, now,
                         {"agent/" + token->agent, "agent.join", token->agent,
                          fmt::format("from {}, serial {}", peer, issued.row.serial), now}));
  LogInfo("agent joined", {{"agent", given.name}, {"peer", peer}});
  return given;
}

// The agent's row of the certificate that the request shows: ours, an agent's, not denied, within
// the grace, and its key is the caller's.
StatusOr<CertificateRow> EnrollmentService::ExpiredAgent(const v1::JoinRequest& request,
                                                         absl::Time now) {
  const std::string& der = request.expired_certificate();
  MUSTER_ASSIGN_OR_RETURN(const net::CertificateFacts facts, net::ReadCertificate(der));
  MUSTER_RETURN_IF_ERROR(
      net::VerifyChain({der}, {authority_.certificate_der()}, facts.not_after - absl::Seconds(1)));
  MUSTER_RETURN_IF_ERROR(
      net::VerifySignature(der, net::ReadmissionText(request.csr()), request.proof()));
  MUSTER_ASSIGN_OR_RETURN(const std::optional<CertificateRow> row,
                          store_.FindCertificate(facts.fingerprint));
  if (!row.has_value() || row->role != v1::ROLE_AGENT) {
    return PermissionDenied("the certificate was revoked, or is no agent's");
  }
  if (now > row->not_after + options_.expired_agent_grace) {
    return PermissionDenied("the certificate ended {} ago, and the grace is {}",
                            ShortDuration(now - row->not_after),
                            DurationText(options_.expired_agent_grace));
  }
  return *row;
}

StatusOr<CertificateRow> EnrollmentService::Readmit(const std::string& peer,
                                                    const v1::JoinRequest& request) {
  const absl::Time now = clock_.Now();
  const StatusOr<CertificateRow> agent = ExpiredAgent(request, now);
  if (!agent.ok()) {
    LogWarning("an expired agent was refused", {{"peer", peer}, {"reason", agent.status()}});
    if (agent.status().code() == absl::StatusCode::kUnavailable) return agent.status();
    return PermissionDenied("{}; make a token with: musterctl token create, and join again",
                            Message(agent.status()));
  }
  MUSTER_ASSIGN_OR_RETURN(Issued issued,
                          authority_.Issue(v1::ROLE_AGENT, agent->name, request.csr()));
  MUSTER_RETURN_IF_ERROR(store_.SaveCertificate(
      issued.row, {"agent/" + agent->name, "agent.readmit", agent->name,
                   fmt::format("from {}, serial {}", peer, issued.row.serial), now}));
  LogInfo("an agent with an expired certificate is back", {{"agent", agent->name}, {"peer", peer}});
  return std::move(issued.row);
}

}  // namespace muster::control
