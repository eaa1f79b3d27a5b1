#include "control-plane/rpc/enrollment_service.h"

#include <algorithm>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr size_t kTokenSize = 32;
constexpr size_t kLargestRequest = 8192;
constexpr size_t kMostBuckets = 10'000;

// "ipv4:10.0.0.1:4711" → "ipv4:10.0.0.1".
std::string AddressOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

bool RateLimit::Allow(const std::string& who, absl::Duration uptime) {
  absl::MutexLock lock(&mutex_);
  if (buckets_.size() >= kMostBuckets && !buckets_.contains(who)) {
    std::erase_if(buckets_,
                  [&](const auto& entry) { return uptime - entry.second.at > absl::Minutes(1); });
    if (buckets_.size() >= kMostBuckets) return false;
  }
  const auto [at, fresh] = buckets_.try_emplace(who, Bucket{burst_, uptime});
  Bucket& bucket = at->second;
  bucket.left =
      std::min(burst_, bucket.left + absl::ToDoubleMinutes(uptime - bucket.at) * per_minute_);
  bucket.at = uptime;
  if (bucket.left < 1) return false;
  bucket.left -= 1;
  return true;
}

EnrollmentService::EnrollmentService(IdentityStore& store, const Authority& authority, Gate& gate,
                                     const Clock& clock, Servers servers)
    : store_(store),
      authority_(authority),
      gate_(gate),
      clock_(clock),
      servers_(std::move(servers)) {}

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
  if (!limit_.Allow(peer, clock_.Uptime())) {
    return ResourceExhausted("too many attempts to join from this address; wait a minute");
  }
  if (request.token().size() != kTokenSize || request.csr().size() > kLargestRequest) {
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
  AuditNote note;
  note.actor = "agent/" + token->agent;
  note.action = "agent.join";
  note.subject = token->agent;
  note.detail = fmt::format("from {}, serial {}", peer, issued.row.serial);
  note.at = now;
  MUSTER_ASSIGN_OR_RETURN(const CertificateRow given,
                          store_.RedeemToken(hash, issued.row, now, note));
  response.add_chain(given.der);
  response.add_chain(authority_.certificate_der());
  response.set_agent_name(given.name);
  for (const std::string& server : servers_()) response.add_servers(server);
  LogInfo("agent joined", {{"agent", given.name}, {"peer", peer}});
  return OkStatus();
}

}  // namespace muster::control
