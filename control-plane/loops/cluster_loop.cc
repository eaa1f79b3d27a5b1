#include "control-plane/loops/cluster_loop.h"

#include "lib/base/log.h"
#include "lib/base/text.h"

namespace muster::control {

Status ClusterLoop::Tick(absl::Time now) {
  const absl::Time watched_since = options_.watched_since();
  MUSTER_ASSIGN_OR_RETURN(const absl::Time database_now, store_.cluster().Now());
  MUSTER_RETURN_IF_ERROR(DeclareLost(watched_since, database_now));
  MUSTER_RETURN_IF_ERROR(Forget(database_now));
  if (ticks_++ % options_.strays_every != 0) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const uint64_t strays, store_.sessions().CloseStrays(epoch_, now));
  if (strays > 0) LogWarning("closed sessions that no replica holds", {{"sessions", strays}});
  return OkStatus();
}

Status ClusterLoop::DeclareLost(absl::Time watched_since, absl::Time database_now) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<ReplicaRow> replicas, store_.cluster().List());
  const LeadershipPolicy policy = options_.policy();
  for (const ReplicaRow& replica : replicas) {
    if (!ShouldBeLost(replica, watched_since, database_now, policy)) continue;
    MUSTER_ASSIGN_OR_RETURN(const bool lost, store_.cluster().DeclareLost(epoch_, replica));
    if (!lost) continue;
    LogError("replica lost", {{"replica", replica.id},
                              {"seen_at", TimeText(replica.seen_at)},
                              {"agents", replica.agents}});
    options_.on_lost();
  }
  return OkStatus();
}

Status ClusterLoop::Forget(absl::Time database_now) {
  const absl::Duration patience = options_.policy().forget_after;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> forgotten,
                          store_.cluster().ForgetLostBefore(epoch_, database_now - patience));
  for (const std::string& id : forgotten) {
    LogWarning("replica forgotten", {{"replica", id}, {"lost_for", patience}});
  }
  if (!forgotten.empty()) options_.on_lost();
  return OkStatus();
}

}  // namespace muster::control
