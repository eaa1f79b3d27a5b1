// Runs as rows: the columns, and how they are read and written. For the stores of this folder.
#pragma once

#include <string_view>
#include <vector>

#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"

namespace muster::control {

inline constexpr std::string_view kRunColumns =
    "id, job, slot, trigger_kind, asked_by, spec, phase, state, reason, due_at, start_by, agent, "
    "fence, assigned_at, started_at, finished_at, outcome, exit_code, stop, stop_reason, progress, "
    "dropped_lines, output_bytes";

// What agents are to have on their hands; what the leader may have to act on.
inline constexpr std::string_view kAssignmentRevision = "assignment_revision";
inline constexpr std::string_view kRunRevision = "run_revision";
inline constexpr std::string_view kRunTrail = "run_trail";

StatusOr<std::vector<RunRow>> ReadRuns(const sql::Rows& rows);
Status AppendTrail(sql::Transaction& transaction, const std::vector<TrailRow>& entries);

}  // namespace muster::control
