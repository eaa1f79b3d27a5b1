// Check states and transitions as rows: the columns, and how they are written. For the stores of
// this folder.
#pragma once

#include <string_view>
#include <vector>

#include "control-plane/store/history_store.h"
#include "lib/sql/database.h"

namespace muster::control {

inline constexpr std::string_view kStateColumns =
    "agent, check_id, status, hard, seen, needed, hard_status, since, observed_at, latency_us, "
    "summary, last_failure_at, detail, revision";
inline constexpr std::string_view kTransitionColumns =
    "id, agent, check_id, from_status, to_status, hard, at, recorded_at, summary, reason";

// Each row gets the next number: revisions, ids. A state may stand in `states` once.
Status PutStatesAndTransitions(sql::Transaction& transaction,
                               const std::vector<const CheckStateRow*>& states,
                               const std::vector<const TransitionRow*>& transitions);

}  // namespace muster::control
