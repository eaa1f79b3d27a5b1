// Which agents are absent and which checks are late: who has stopped talking, and since when. Pure.
//
// Silence becomes a NO_DATA transition as of the last observation, and nothing more: whether
// somebody is told is alert.h's decision.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/store/history_store.h"
#include "control-plane/store/session_store.h"
#include "muster/v1/check.pb.h"

namespace muster::control {

struct AbsencePolicy {
  // Of an agent without a session that was silent for this long states become NO_DATA.
  absl::Duration states_after = absl::Seconds(7);
  // Of one that was for this long, somebody is told: it is absent.
  absl::Duration alert_after = absl::Seconds(30);
  // What agents get on top to come back after the control plane itself, or the replica that they
  // were connected to, was away.
  absl::Duration settle = absl::Seconds(15);
  // Where so many come back in a second they keep one another waiting at the door: `settle` then
  // begins when they no longer do, but no later than `crowd_at_most` after what they lost.
  size_t crowd = 10;
  absl::Duration crowd_at_most = absl::Minutes(5);
  // The longest that an agent may gather results before it sends them, and some for the way.
  absl::Duration flush_grace = absl::Seconds(10);
};

// When many agents last went, and last came, within a short time.
class Crowd {
 public:
  explicit Crowd(const AbsencePolicy& policy) : policy_(policy) {}
  // How many are connected; each second or so.
  void Look(size_t connected, absl::Time now);
  // When those are back that were lost at `since`, as far as others tell: the end of the crowd that
  // began within `settle` of it, at most `crowd_at_most` later; else `since` itself.
  absl::Time BackFrom(absl::Time since) const;
  // Whether many were lost when one was lost at `since`.
  bool FellWith(absl::Time since) const;

 private:
  struct Rush {
    absl::Time begin = absl::InfinitePast();
    absl::Time end = absl::InfinitePast();
  };
  void Extend(Rush& rush, absl::Time now) const;

  const AbsencePolicy policy_;
  std::optional<size_t> connected_;
  absl::Time looked_;
  Rush went_;
  Rush came_;
};

// What agents can have known to come back to.
struct Serving {
  absl::Time since;  // of the whole cluster
  Crowd crowd;
};

// When an agent without a session was last heard: one whose session ended for its silence had been
// silent before.
absl::Time LastHeard(const AgentSession& agent);

// Since when the agent is silent of its own doing, as far as we could have known: silence while
// nobody served does not count, an agent that was orphaned by its replica gets the time to
// find another one, and one that was lost with many waits in line with them. InfiniteFuture for
// agents that are connected, revoked, or never had a session.
absl::Time SilentSince(const AgentSession& agent, const Serving& serving,
                       const AbsencePolicy& policy);
bool IsAbsent(const AgentSession& agent, const Serving& serving, const AbsencePolicy& policy,
              absl::Time now);

using NoData = DecidedState;

// Nothing if the state is NO_DATA already or the agent's silence is shorter than states_after.
std::optional<NoData> NoDataOfSilent(const CheckStateRow& state, const AgentSession& agent,
                                     const Serving& serving, const AbsencePolicy& policy,
                                     absl::Time now);
// The check's data is late although its agent is connected: nothing was observed for three periods,
// a timeout and the flush grace, nor has the agent come back since. Nothing otherwise.
// `connected_since`: as far as the agent's data could be on time since.
std::optional<NoData> NoDataOfLate(const CheckStateRow& state, const v1::CheckSpec& spec,
                                   const AgentSession& agent, absl::Time connected_since,
                                   const AbsencePolicy& policy, absl::Time now);

// Whether a NO_DATA transition came from NoDataOfLate. The reason's first word carries it.
bool IsLate(const TransitionRow& transition);

}  // namespace muster::control
