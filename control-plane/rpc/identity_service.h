// IdentityService: tokens, certificates, agents, operators and the audit trail.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "control-plane/pki/authority.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "muster/v1/identity.grpc.pb.h"

namespace muster::control {

class IdentityService final : public v1::IdentityService::CallbackService {
 public:
  using Servers = std::function<std::vector<std::string>()>;
  // `on_revoked` is called after a revocation was committed: a hint for other replicas.
  IdentityService(
      Store& store, const Authority& authority, Gate& gate, const Clock& clock, Servers servers,
      std::function<void()> on_revoked = [] {});

  grpc::ServerUnaryReactor* CreateToken(grpc::CallbackServerContext*, const v1::CreateTokenRequest*,
                                        v1::CreateTokenResponse*) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext*, const v1::RenewRequest*,
                                  v1::RenewResponse*) override;
  grpc::ServerUnaryReactor* RevokeAgent(grpc::CallbackServerContext*, const v1::RevokeAgentRequest*,
                                        v1::RevokeAgentResponse*) override;
  grpc::ServerUnaryReactor* CreateOperator(grpc::CallbackServerContext*,
                                           const v1::CreateOperatorRequest*,
                                           v1::CreateOperatorResponse*) override;
  grpc::ServerUnaryReactor* RevokeOperator(grpc::CallbackServerContext*,
                                           const v1::RevokeOperatorRequest*,
                                           v1::RevokeOperatorResponse*) override;
  grpc::ServerUnaryReactor* ListOperators(grpc::CallbackServerContext*,
                                          const v1::ListOperatorsRequest*,
                                          v1::ListOperatorsResponse*) override;
  grpc::ServerUnaryReactor* ListAgents(grpc::CallbackServerContext*, const v1::ListAgentsRequest*,
                                       v1::ListAgentsResponse*) override;
  grpc::ServerUnaryReactor* ListAudit(grpc::CallbackServerContext*, const v1::ListAuditRequest*,
                                      v1::ListAuditResponse*) override;

 private:
  using Identity = net::Identity;
  Status CreateToken(const Identity& caller, const v1::CreateTokenRequest&,
                     v1::CreateTokenResponse&);
  Status Renew(const Identity& caller, const v1::RenewRequest&, v1::RenewResponse&);
  Status RevokeAgent(const Identity& caller, const v1::RevokeAgentRequest&,
                     v1::RevokeAgentResponse&);
  Status CreateOperator(const Identity& caller, const v1::CreateOperatorRequest&,
                        v1::CreateOperatorResponse&);
  Status RevokeOperator(const Identity& caller, const v1::RevokeOperatorRequest&,
                        v1::RevokeOperatorResponse&);
  Status ListOperators(v1::ListOperatorsResponse&);
  Status ListAgents(const v1::ListAgentsRequest&, v1::ListAgentsResponse&);
  Status AddAgent(const AgentRow& row, v1::ListAgentsResponse&);
  Status ListAudit(const v1::ListAuditRequest&, v1::ListAuditResponse&);
  // Here at once, elsewhere soon.
  void Revoked();
  AuditNote Note(const Identity& caller, std::string action, std::string subject,
                 std::string detail) const;

  Store& store_;
  const Authority& authority_;
  Gate& gate_;
  const Clock& clock_;
  const Servers servers_;
  const std::function<void()> on_revoked_;
};

}  // namespace muster::control
