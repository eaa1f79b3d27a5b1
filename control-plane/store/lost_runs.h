// Runs that a store lost with its last acknowledged commits (recovery.h), and that their agents
// tell of again: each becomes what it was, so that nothing that happened counts as missed or
// happens again (promises C2 to C4, docs/decisions/0070). For run_events.h, within its transaction.
#pragma once

#include <optional>
#include <vector>

#include "control-plane/store/run_events.h"
#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"

namespace muster::control {

// An agent's clock may be corrected by so much too little.
inline constexpr absl::Duration kClockSlack = absl::Minutes(1);

// Whether the agent may tell of it: nobody had it yet, as far as this store knows.
bool WasNeverGiven(const RunRow& run);

// The run that `told`, a started event with `assigned`, began before `lost_until`: as stored, on
// the hands of its agent, to be begun by the event. `known` is the run of that id, or null. nullopt
// if it began later, if its slot is a week older, if its job is not there, does not ask for this
// agent or is reported, or if the id is none that a control plane gives.
StatusOr<std::optional<RunRow>> TakeLost(sql::Transaction& transaction, const AgentRunEvent& told,
                                         const RunRow* known, absl::Time lost_until, absl::Time now,
                                         std::vector<TrailRow>& trail);

}  // namespace muster::control
