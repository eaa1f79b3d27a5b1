#include "control-plane/decide/leadership.h"

#include <algorithm>

#include <fmt/format.h>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

LeaseDecision Take(const LeaseFacts& facts, const LeadershipPolicy& policy, std::string reason) {
  return {LeaseAct::kTake,
          {{facts.lease.epoch.value + 1},
           facts.self.id,
           facts.self.incarnation,
           facts.now + policy.lease},
          std::move(reason)};
}

LeaseDecision Leave(const LeaseFacts& facts, std::string reason) {
  return {LeaseAct::kLeave, facts.lease, std::move(reason)};
}

}  // namespace

LeadershipPolicy Stretched(LeadershipPolicy policy, absl::Duration beat_takes) {
  // Between two renewals lie the wait and a beat; one more beat is to spare.
  const absl::Duration needed = std::min(policy.beat_every + 3 * beat_takes, policy.longest_lease);
  const absl::Duration longer = std::max(needed - policy.lease, absl::ZeroDuration());
  policy.lost_after += longer;
  policy.cut_off_after += longer;
  policy.lease = std::max(policy.lease, needed);
  return policy;
}

LeaseDecision DecideLease(const LeaseFacts& facts, const LeadershipPolicy& policy) {
  const LeaseRow& lease = facts.lease;
  const bool ran_out = lease.until <= facts.now;
  const bool own = lease.holder == facts.self.id;
  if (facts.self.draining) return Leave(facts, "draining");
  if (lease.holder.empty()) return Take(facts, policy, "nobody led");
  if (own && lease.incarnation != facts.self.incarnation) {
    return Take(facts, policy, fmt::format("{} led before it was started anew", lease.holder));
  }
  if (ran_out) {
    return Take(facts, policy,
                fmt::format("the lease of {} ran out at {}", lease.holder, TimeText(lease.until)));
  }
  if (!own &&
      facts.unchanged_for >= 2 * std::clamp(facts.length, policy.lease, policy.longest_lease)) {
    return Take(
        facts, policy,
        fmt::format("{} has not renewed its lease for {}, whatever the database's clock says",
                    lease.holder, ShortDuration(facts.unchanged_for)));
  }
  if (!own) return Leave(facts, fmt::format("{} leads", lease.holder));
  LeaseDecision renewed{LeaseAct::kRenew, lease, "in time"};
  renewed.lease.until = facts.now + policy.lease;
  return renewed;
}

absl::Duration NextBeatIn(const Beat& beat, const std::string& self,
                          const LeadershipPolicy& policy) {
  const LeaseRow& lease = beat.decision.lease;
  const bool draining =
      std::any_of(beat.replicas.begin(), beat.replicas.end(),
                  [&](const ReplicaRow& one) { return one.id == self && one.draining; });
  if (lease.holder == self || draining) return policy.beat_every;
  return std::clamp(lease.until - beat.now, policy.beat_at_least, policy.beat_every);
}

bool IsLive(const ReplicaRow& replica, absl::Time now, const LeadershipPolicy& policy) {
  return !replica.lost() && !replica.draining && replica.seen_at + policy.lost_after > now;
}

bool ShouldBeLost(const ReplicaRow& replica, absl::Time watched_since, absl::Time now,
                  const LeadershipPolicy& policy) {
  return !replica.lost() && std::max(replica.seen_at, watched_since) + policy.lost_after <= now;
}

bool IsCutOff(const std::vector<ReplicaRow>& replicas, const std::string& self, absl::Time seen,
              absl::Duration silent_for, const LeadershipPolicy& policy) {
  return silent_for >= policy.cut_off_after &&
         std::any_of(replicas.begin(), replicas.end(), [&](const ReplicaRow& replica) {
           return replica.id != self && IsLive(replica, seen, policy);
         });
}

absl::Time ServingSince(const std::vector<ReplicaRow>& replicas, absl::Time now,
                        const LeadershipPolicy& policy) {
  absl::Time since = now;
  for (const ReplicaRow& replica : replicas) {
    const bool here = !replica.lost() && replica.seen_at + policy.lost_after > now;
    if (here) since = std::min(since, replica.started_at);
  }
  return since;
}

v1::Replica ReplicaMessage(const ReplicaRow& replica, const LeaseRow& lease, absl::Time now,
                           const LeadershipPolicy& policy) {
  v1::Replica message;
  message.set_id(replica.id);
  const bool silent = replica.seen_at + policy.lost_after <= now;
  message.set_state(replica.lost() || silent ? v1::Replica::STATE_LOST
                    : replica.draining       ? v1::Replica::STATE_DRAINING
                                             : v1::Replica::STATE_LIVE);
  message.set_leader(lease.holder == replica.id && lease.until > now);
  if (message.leader()) message.set_epoch(lease.epoch.value);
  for (const std::string& address : replica.addresses) message.add_addresses(address);
  message.set_version(replica.version);
  *message.mutable_started_at() = wire::ToProto(replica.started_at);
  *message.mutable_seen_at() = wire::ToProto(replica.seen_at);
  message.set_incarnation(replica.incarnation);
  message.set_agents(static_cast<uint32_t>(replica.agents));
  return message;
}

std::vector<std::string> ServersOf(const std::vector<ReplicaRow>& replicas, const ReplicaRow& self,
                                   absl::Time now, const LeadershipPolicy& policy) {
  std::vector<std::string> servers;
  const auto add = [&](const ReplicaRow& replica) {
    for (const std::string& address : replica.addresses) {
      if (std::find(servers.begin(), servers.end(), address) == servers.end())
        servers.push_back(address);
    }
  };
  add(self);
  for (const ReplicaRow& replica : replicas) {
    if (replica.id != self.id && IsLive(replica, now, policy)) add(replica);
  }
  return servers;
}

}  // namespace muster::control
