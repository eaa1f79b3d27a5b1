// Who leads, and which replicas are there. Pure: times are the database's, in and out.
//
//             expired, given back, or an earlier life's: TAKE, term + 1
//   somebody leads ─────────────────────────────────────────────► this replica leads
//        ▲                                                          │  ▲
//        │                    its lease ran out, another took it    │  └─ in time: RENEW
//        └──────────────────────────────────────────────────────────┘
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/store/cluster_store.h"
#include "muster/v1/system_service.pb.h"

namespace muster::control {

struct LeadershipPolicy {
  absl::Duration lease = absl::Seconds(3);                // a term lasts so long from each renewal
  absl::Duration longest_lease = absl::Seconds(30);       // however slow the database is
  absl::Duration beat_every = absl::Seconds(1);           // at most, between two heartbeats
  absl::Duration beat_at_least = absl::Milliseconds(50);  // at least, between two heartbeats
  absl::Duration lost_after = absl::Seconds(6);           // not seen for so long, a replica is lost
  absl::Duration forget_after = absl::Hours(24);          // lost for so long, it is forgotten
  // For so long without the database, a replica sends its agents to others: later than most
  // failovers of a database, and before agents whose replica was lost count as silent (absence.h).
  absl::Duration cut_off_after = absl::Seconds(18);
};

// What holds where a heartbeat takes so long: a lease that outlasts the next beat, however slow the
// database is, and patience with replicas that are as slow. A beat of less than two thirds of a
// second changes no lease.
LeadershipPolicy Stretched(LeadershipPolicy policy, absl::Duration beat_takes);

// A lease of its own that has run out is not renewed but taken anew: between the two nobody led,
// and what the old term still has on its way must not be written.
LeaseDecision DecideLease(const LeaseFacts& facts, const LeadershipPolicy& policy);

// When to beat again: before the period is over, if the lease that somebody else holds runs out
// earlier and `self` may take it.
absl::Duration NextBeatIn(const Beat& beat, const std::string& self,
                          const LeadershipPolicy& policy);

// Whether the replica can be told to agents.
bool IsLive(const ReplicaRow& replica, absl::Time now, const LeadershipPolicy& policy);
// Whether it should be declared lost. Silence counts from `watched_since`: the moment since when
// whoever asks has reached the database without a break, because while nobody could, no replica
// could be seen.
bool ShouldBeLost(const ReplicaRow& replica, absl::Time watched_since, absl::Time now,
                  const LeadershipPolicy& policy);

// Whether a replica that has not reached the database for `silent_for` is to send its agents to the
// others, who may have more luck with it. `replicas` as it saw them last, at `seen`; without
// another live one there is nowhere to go.
bool IsCutOff(const std::vector<ReplicaRow>& replicas, const std::string& self, absl::Time seen,
              absl::Duration silent_for, const LeadershipPolicy& policy);

// Since when the cluster has served without a break: the earliest start of those that are here.
absl::Time ServingSince(const std::vector<ReplicaRow>& replicas, absl::Time now,
                        const LeadershipPolicy& policy);

// What agents are told to dial: one's own addresses first, then those of the other live replicas,
// each once.
std::vector<std::string> ServersOf(const std::vector<ReplicaRow>& replicas, const ReplicaRow& self,
                                   absl::Time now, const LeadershipPolicy& policy);

// The API's form of a row.
v1::Replica ReplicaMessage(const ReplicaRow& replica, const LeaseRow& lease, absl::Time now,
                           const LeadershipPolicy& policy);

}  // namespace muster::control
