#include "control-plane/rpc/system_service.h"

#include "control-plane/decide/leadership.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr uint32_t kAgentPage = 1000;

v1::Finding AuditFinding(const Status& verified) {
  v1::Finding finding;
  finding.set_subject("audit chain");
  finding.set_level(verified.ok() ? v1::Finding::LEVEL_OK : v1::Finding::LEVEL_FAILED);
  finding.set_message(verified.ok() ? "every entry follows from the one before"
                                    : std::string(Message(verified)));
  if (!verified.ok()) {
    finding.set_remedy(
        "somebody changed the store by hand: compare it with a backup before trusting it");
  }
  return finding;
}

}  // namespace

grpc::ServerUnaryReactor* SystemService::Version(grpc::CallbackServerContext* context,
                                                 const v1::VersionRequest*,
                                                 v1::VersionResponse* response) {
  return gate_.Serve(
      context, "muster.v1.SystemService.Version", [=, this](const net::Identity& caller) -> Status {
        response->set_version(MUSTER_VERSION);
        *response->mutable_server_time() = wire::ToProto(clock_.Now());
        response->set_caller(net::Text(caller));
        MUSTER_ASSIGN_OR_RETURN(*response->mutable_store_epoch(), store_.database().StoreEpoch());
        return OkStatus();
      });
}

grpc::ServerUnaryReactor* SystemService::Doctor(grpc::CallbackServerContext* context,
                                                const v1::DoctorRequest*,
                                                v1::DoctorResponse* response) {
  return gate_.Serve(context, "muster.v1.SystemService.Doctor",
                     [=, this](const net::Identity&) { return Examine(*response); });
}

grpc::ServerUnaryReactor* SystemService::ListReplicas(grpc::CallbackServerContext* context,
                                                      const v1::ListReplicasRequest*,
                                                      v1::ListReplicasResponse* response) {
  return gate_.Serve(context, "muster.v1.SystemService.ListReplicas",
                     [=, this](const net::Identity&) { return List(*response); });
}

grpc::ServerUnaryReactor* SystemService::DeleteReplica(grpc::CallbackServerContext* context,
                                                       const v1::DeleteReplicaRequest* request,
                                                       v1::DeleteReplicaResponse*) {
  return gate_.Serve(
      context, "muster.v1.SystemService.DeleteReplica", [=, this](const net::Identity& caller) {
        return store_.cluster().Forget(
            request->id(), {net::Text(caller), "replica.delete", request->id(), "", clock_.Now()});
      });
}

Status SystemService::List(v1::ListReplicasResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<ReplicaRow> replicas, store_.cluster().List());
  MUSTER_ASSIGN_OR_RETURN(const LeaseRow lease, store_.cluster().Lease());
  MUSTER_ASSIGN_OR_RETURN(const absl::Time now, store_.cluster().Now());
  const LeadershipPolicy policy = facts_().leadership;
  for (const ReplicaRow& replica : replicas) {
    *response.add_items() = ReplicaMessage(replica, lease, now, policy);
  }
  return OkStatus();
}

StatusOr<DoctorFacts> SystemService::Facts() {
  DoctorFacts facts = facts_();
  MUSTER_ASSIGN_OR_RETURN(facts.replicas, store_.cluster().List());
  MUSTER_ASSIGN_OR_RETURN(facts.lease, store_.cluster().Lease());
  MUSTER_ASSIGN_OR_RETURN(facts.database_now, store_.cluster().Now());
  std::string after;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(std::vector<AgentRow> agents,
                            store_.sessions().List(after, kAgentPage));
    if (!agents.empty()) after = agents.back().name;
    const bool last = agents.size() < kAgentPage;
    std::move(agents.begin(), agents.end(), std::back_inserter(facts.agents));
    if (last) break;
  }
  MUSTER_ASSIGN_OR_RETURN(facts.witnesses, witnesses_.Facts());
  MUSTER_ASSIGN_OR_RETURN(facts.outbox, store_.alerts().Counts());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> receivers, store_.specs().Receivers());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> checks, store_.specs().Checks());
  facts.receivers = receivers.size();
  facts.checks = checks.size();
  return facts;
}

Status SystemService::Examine(v1::DoctorResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const DoctorFacts facts, Facts());
  for (v1::Finding& finding : Diagnose(facts, clock_.Now()))
    *response.add_items() = std::move(finding);
  *response.add_items() = AuditFinding(store_.audit().Verify());
  return OkStatus();
}

}  // namespace muster::control
