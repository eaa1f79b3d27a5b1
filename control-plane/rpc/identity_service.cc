#include "control-plane/rpc/identity_service.h"

#include <algorithm>

#include "control-plane/rpc/paging.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/net/context.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr absl::Duration kTokenLifetime = absl::Minutes(10);
constexpr absl::Duration kLongestTokenLifetime = absl::Hours(24);
constexpr size_t kTokenSize = 32;
constexpr size_t kMostLabels = 64;
constexpr size_t kLongestLabel = 63;
constexpr uint32_t kGapsShown = 100;

Status CheckLabels(const google::protobuf::Map<std::string, std::string>& labels) {
  if (labels.size() > kMostLabels)
    return InvalidArgument("at most {} labels are taken", kMostLabels);
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > kLongestLabel || value.size() > kLongestLabel) {
      return InvalidArgument("label \"{}={}\": keys and values have at most {} bytes", key, value,
                             kLongestLabel);
    }
    if (key == "agent")
      return InvalidArgument("the label agent is the agent's own name; choose another key");
  }
  return OkStatus();
}

Status CheckName(std::string_view name) {
  if (net::IsIdentityName(name)) return OkStatus();
  return InvalidArgument(
      "\"{}\" is not a name: use lower-case letters, digits, '-' and '.', at most 63", name);
}

std::string ReasonText(v1::Gap::Reason reason) {
  return v1::Gap::Reason_Name(reason).substr(std::string_view("REASON_").size());
}

}  // namespace

IdentityService::IdentityService(Store& store, const Authority& authority, Gate& gate,
                                 const Clock& clock, Servers servers,
                                 std::function<void()> on_revoked)
    : store_(store),
      authority_(authority),
      gate_(gate),
      clock_(clock),
      servers_(std::move(servers)),
      on_revoked_(std::move(on_revoked)) {}

grpc::ServerUnaryReactor* IdentityService::CreateToken(grpc::CallbackServerContext* context,
                                                       const v1::CreateTokenRequest* request,
                                                       v1::CreateTokenResponse* response) {
  return gate_.Serve(
      context, "muster.v1.IdentityService.CreateToken",
      [=, this](const Identity& caller) { return CreateToken(caller, *request, *response); });
}

grpc::ServerUnaryReactor* IdentityService::Renew(grpc::CallbackServerContext* context,
                                                 const v1::RenewRequest* request,
                                                 v1::RenewResponse* response) {
  return gate_.Serve(context, "muster.v1.IdentityService.Renew", [=, this](const Identity& caller) {
    return Renew(caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* IdentityService::RevokeAgent(grpc::CallbackServerContext* context,
                                                       const v1::RevokeAgentRequest* request,
                                                       v1::RevokeAgentResponse* response) {
  return gate_.Serve(
      context, "muster.v1.IdentityService.RevokeAgent",
      [=, this](const Identity& caller) { return RevokeAgent(caller, *request, *response); });
}

grpc::ServerUnaryReactor* IdentityService::CreateOperator(grpc::CallbackServerContext* context,
                                                          const v1::CreateOperatorRequest* request,
                                                          v1::CreateOperatorResponse* response) {
  return gate_.Serve(
      context, "muster.v1.IdentityService.CreateOperator",
      [=, this](const Identity& caller) { return CreateOperator(caller, *request, *response); });
}

grpc::ServerUnaryReactor* IdentityService::RevokeOperator(grpc::CallbackServerContext* context,
                                                          const v1::RevokeOperatorRequest* request,
                                                          v1::RevokeOperatorResponse* response) {
  return gate_.Serve(
      context, "muster.v1.IdentityService.RevokeOperator",
      [=, this](const Identity& caller) { return RevokeOperator(caller, *request, *response); });
}

grpc::ServerUnaryReactor* IdentityService::ListOperators(grpc::CallbackServerContext* context,
                                                         const v1::ListOperatorsRequest*,
                                                         v1::ListOperatorsResponse* response) {
  return gate_.Serve(context, "muster.v1.IdentityService.ListOperators",
                     [=, this](const Identity&) { return ListOperators(*response); });
}

grpc::ServerUnaryReactor* IdentityService::ListAgents(grpc::CallbackServerContext* context,
                                                      const v1::ListAgentsRequest* request,
                                                      v1::ListAgentsResponse* response) {
  return gate_.Serve(context, "muster.v1.IdentityService.ListAgents",
                     [=, this](const Identity&) { return ListAgents(*request, *response); });
}

grpc::ServerUnaryReactor* IdentityService::ListAudit(grpc::CallbackServerContext* context,
                                                     const v1::ListAuditRequest* request,
                                                     v1::ListAuditResponse* response) {
  return gate_.Serve(context, "muster.v1.IdentityService.ListAudit",
                     [=, this](const Identity&) { return ListAudit(*request, *response); });
}

void IdentityService::Revoked() {
  gate_.RefreshDenied();
  on_revoked_();
}

AuditNote IdentityService::Note(const Identity& caller, std::string action, std::string subject,
                                std::string detail) const {
  return {net::Text(caller), std::move(action), std::move(subject), std::move(detail),
          clock_.Now()};
}

Status IdentityService::CreateToken(const Identity& caller, const v1::CreateTokenRequest& request,
                                    v1::CreateTokenResponse& response) {
  MUSTER_RETURN_IF_ERROR(CheckName(request.agent()));
  MUSTER_RETURN_IF_ERROR(CheckLabels(request.labels()));
  const absl::Duration ttl = request.has_ttl() ? wire::FromProto(request.ttl()) : kTokenLifetime;
  if (ttl < absl::Seconds(1) || ttl > kLongestTokenLifetime) {
    return InvalidArgument("a join token is good for 1s to 24h, not for {}", DurationText(ttl));
  }
  std::string token = RandomBytes(kTokenSize);
  TokenRow row;
  row.hash = Sha256(token);
  row.agent = request.agent();
  row.labels.insert(request.labels().begin(), request.labels().end());
  row.expires_at = clock_.Now() + ttl;
  MUSTER_RETURN_IF_ERROR(store_.identity().SaveToken(
      row, Note(caller, "token.create", row.agent,
                fmt::format("good until {}", TimeText(row.expires_at)))));
  response.set_join_string(net::FormatJoinString({authority_.Pin(), token}));
  *response.mutable_expires_at() = wire::ToProto(row.expires_at);
  WipeText(token);
  return OkStatus();
}

Status IdentityService::Renew(const Identity& caller, const v1::RenewRequest& request,
                              v1::RenewResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const Issued issued,
                          authority_.Issue(caller.role, caller.name, request.csr()));
  MUSTER_RETURN_IF_ERROR(store_.identity().SaveCertificate(
      issued.row,
      Note(caller, "certificate.renew", net::Text(caller), "serial " + issued.row.serial)));
  for (const std::string& der : issued.chain_der) response.add_chain(der);
  for (const std::string& server : servers_()) response.add_servers(server);
  return OkStatus();
}

Status IdentityService::RevokeAgent(const Identity& caller, const v1::RevokeAgentRequest& request,
                                    v1::RevokeAgentResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(
      const uint32_t denied,
      store_.identity().Revoke(v1::ROLE_AGENT, request.agent(), clock_.Now(),
                               Note(caller, "agent.revoke", request.agent(), request.reason())));
  response.set_certificates(denied);
  Revoked();
  return OkStatus();
}

Status IdentityService::CreateOperator(const Identity& caller,
                                       const v1::CreateOperatorRequest& request,
                                       v1::CreateOperatorResponse& response) {
  MUSTER_RETURN_IF_ERROR(CheckName(request.name()));
  const v1::Role role = request.role();
  if (role != v1::ROLE_VIEWER && role != v1::ROLE_OPERATOR && role != v1::ROLE_ADMIN) {
    return InvalidArgument("an operator is a viewer, an operator or an admin");
  }
  MUSTER_ASSIGN_OR_RETURN(const Issued issued,
                          authority_.Issue(role, request.name(), request.csr()));
  MUSTER_RETURN_IF_ERROR(store_.identity().SaveCertificate(
      issued.row,
      Note(caller, "operator.create", request.name(), std::string(net::RoleName(role)))));
  for (const std::string& der : issued.chain_der) response.add_chain(der);
  return OkStatus();
}

Status IdentityService::RevokeOperator(const Identity& caller,
                                       const v1::RevokeOperatorRequest& request,
                                       v1::RevokeOperatorResponse& response) {
  if (request.name() == caller.name && caller.role == v1::ROLE_ADMIN) {
    return FailedPrecondition("an admin cannot revoke itself; let another admin do it");
  }
  MUSTER_ASSIGN_OR_RETURN(const uint32_t denied,
                          store_.identity().RevokeOperator(
                              request.name(), clock_.Now(),
                              Note(caller, "operator.revoke", request.name(), request.reason())));
  response.set_certificates(denied);
  Revoked();
  return OkStatus();
}

Status IdentityService::ListOperators(v1::ListOperatorsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<OperatorRow> operators,
                          store_.identity().ListOperators());
  for (const OperatorRow& row : operators) {
    v1::Operator& item = *response.add_items();
    item.set_name(row.name);
    item.set_role(row.role);
    *item.mutable_expires_at() = wire::ToProto(row.expires_at);
    item.set_revoked(row.revoked);
  }
  return OkStatus();
}

Status IdentityService::ListAgents(const v1::ListAgentsRequest& request,
                                   v1::ListAgentsResponse& response) {
  if (!request.name().empty()) {
    MUSTER_ASSIGN_OR_RETURN(const auto agent, store_.sessions().Find(request.name()));
    if (!agent.has_value()) return NotFound("there is no agent named {}", request.name());
    return AddAgent(*agent, response);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> after,
                          ReadPageToken(request.page_token(), 1));
  const uint32_t limit = PageSize(request.page_size());
  MUSTER_ASSIGN_OR_RETURN(std::vector<AgentRow> agents,
                          store_.sessions().List(after[0], limit + 1));
  const bool more = agents.size() > limit;
  if (more) agents.resize(limit);
  for (const AgentRow& agent : agents) MUSTER_RETURN_IF_ERROR(AddAgent(agent, response));
  if (more) response.set_next_page_token(MakePageToken({agents.back().name}));
  return OkStatus();
}

Status IdentityService::AddAgent(const AgentRow& row, v1::ListAgentsResponse& response) {
  v1::Agent& item = *response.add_items();
  item.set_name(row.name);
  item.mutable_labels()->insert(row.labels.begin(), row.labels.end());
  item.set_connected(row.connected);
  if (row.last_seen_at != absl::InfinitePast())
    *item.mutable_last_seen_at() = wire::ToProto(row.last_seen_at);
  item.set_version(row.version);
  item.set_log_epoch(row.log_epoch);
  item.set_committed_seq(row.committed_sequence);
  *item.mutable_certificate_expires_at() = wire::ToProto(row.certificate_expires_at);
  item.set_revoked(row.revoked);
  *item.mutable_clock_skew() = wire::ToProto(row.clock_skew);
  item.mutable_facts()->insert(row.facts.begin(), row.facts.end());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<GapRow> gaps,
                          store_.sessions().Gaps(row.name, kGapsShown));
  for (const GapRow& gap : gaps) {
    v1::AgentGap& shown = *item.add_gaps();
    shown.set_first(gap.gap.first());
    shown.set_last(gap.gap.last());
    shown.set_reason(ReasonText(gap.gap.reason()));
    *shown.mutable_from() = gap.gap.from();
    *shown.mutable_until() = gap.gap.until();
    shown.set_log_epoch(gap.log_epoch);
  }
  return OkStatus();
}

Status IdentityService::ListAudit(const v1::ListAuditRequest& request,
                                  v1::ListAuditResponse& response) {
  const uint32_t limit = request.limit() == 0 ? 100 : std::min(request.limit(), kLargestPage);
  MUSTER_ASSIGN_OR_RETURN(const std::vector<AuditRow> entries,
                          store_.audit().List(request.after(), limit));
  for (const AuditRow& row : entries) {
    v1::AuditEntry& item = *response.add_items();
    item.set_sequence(row.sequence);
    *item.mutable_at() = wire::ToProto(row.note.at);
    item.set_actor(row.note.actor);
    item.set_action(row.note.action);
    item.set_subject(row.note.subject);
    item.set_detail(row.note.detail);
    item.set_hash(row.hash);
  }
  return OkStatus();
}

}  // namespace muster::control
