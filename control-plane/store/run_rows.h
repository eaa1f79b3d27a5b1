// Runs as rows: the columns, and how they are read and written. For the stores of this folder.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"

namespace muster::control {

inline constexpr std::string_view kRunColumns =
    "id, job, slot, trigger_kind, asked_by, spec, phase, state, reason, due_at, start_by, agent, "
    "fence, assigned_at, started_at, finished_at, outcome, exit_code, stop, stop_reason, progress, "
    "dropped_lines, output_bytes, action, reported_id";
inline constexpr std::string_view kMissedColumns =
    "id, job, slot, last_slot, slots, reason, why, recorded_at";

// What agents are to have on their hands; what the leader may have to act on.
inline constexpr std::string_view kAssignmentRevision = "assignment_revision";
inline constexpr std::string_view kRunRevision = "run_revision";
inline constexpr std::string_view kPauseRevision = "pause_revision";
// What a statement writes into runs.revision: the run_revision that its transaction will have given
// out. Writers take turns, so whoever has read all up to N sees the rest above N.
inline constexpr std::string_view kNextRunRevision =
    "(SELECT coalesce(max(value), 0) + 1 FROM counters WHERE name = 'run_revision')";
inline constexpr std::string_view kRunTrail = "run_trail";

// The statement that reads runs, for ReadRuns: `where` begins with WHERE.
std::string SelectRuns(std::string_view where);
StatusOr<std::vector<RunRow>> ReadRuns(const sql::Rows& rows);
StatusOr<std::optional<RunRow>> FindRun(sql::Transaction& transaction, std::string_view id);
// False if a run has its id or its slot already: that one stays.
StatusOr<bool> InsertRun(sql::Transaction& transaction, const RunRow& run);
// Where another run of the job has the slot it takes a later one, by microseconds.
Status InsertBeside(sql::Transaction& transaction, RunRow& run);
// As InsertRun, of many: the ids of those that were not there.
StatusOr<std::set<std::string>> InsertRuns(sql::Transaction& transaction,
                                           const std::vector<const RunRow*>& runs);
// A run besides the schedule's, with its entries in trail and audit chain; `run` is as it is
// stored. One that is there already stays: false. Where another has the slot it takes a later one.
StatusOr<bool> AddRun(sql::Transaction& transaction, RunRow& run, std::string_view what,
                      const AuditNote& note);
Status AppendTrail(sql::Transaction& transaction, const std::vector<TrailRow>& entries);

}  // namespace muster::control
