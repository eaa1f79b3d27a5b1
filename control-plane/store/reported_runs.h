// Whose slot it is that a host began by itself (docs/decisions/0061). For run_events.h and
// run_store.h, within their transactions.
//
//   the newest slot of the job up to the begin  becomes
//   waits to be told of                         begun by the report
//   counts as missed                            the same: late, the truth counts
//   is begun, over, or there is none            stays; the report is a run outside of every slot
//   is decided after the report came            the report's run moves into it
//
// A report is known by its agent and the id that the agent gave it, so that what is told again
// finds the run that it made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/run_events.h"
#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"

namespace muster::control {

// A host's clock that goes ahead by less still means the slot.
inline constexpr absl::Duration kEarliestReport = absl::Seconds(5);

// An id that only a report can have: those of the plane's own deciding are of version 5.
bool IsReportId(std::string_view id);

// The run that `told`, a started event with `reported`, begins: assigned to its agent, as stored,
// and to be begun by the event. nullopt where the job is not there, is not run by its host, or does
// not ask for this agent: then `refused` says so.
StatusOr<std::optional<RunRow>> TakeReport(sql::Transaction& transaction, const AgentRunEvent& told,
                                           absl::Time now, std::vector<TrailRow>& trail,
                                           std::vector<RefusedReport>& refused);

// The runs that reports of these events have made, each as the event's agent may know it.
StatusOr<std::vector<RunRow>> RunsOfReports(sql::Transaction& transaction,
                                            const std::vector<const AgentRunEvent*>& events);

// Moves the oldest report of the slot's job that began before `until`, and outside of every slot,
// into the slot of `run`, which is not there yet. Whether there was one.
StatusOr<bool> MoveReportInto(sql::Transaction& transaction, const RunRow& run, absl::Time until,
                              absl::Time now, std::vector<TrailRow>& trail);

}  // namespace muster::control
