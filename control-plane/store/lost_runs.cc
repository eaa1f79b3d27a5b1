#include "control-plane/store/lost_runs.h"

#include <algorithm>

#include "control-plane/store/asked_job.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/reported_runs.h"
#include "control-plane/store/run_rows.h"
#include "lib/wire/columns.h"
#include "lib/wire/run_id.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

// No store lags by more, and an agent keeps nothing for so long.
constexpr absl::Duration kLongestLost = absl::Hours(7 * 24);

// Its slot: the id says so, or somebody asked for it at that moment.
RunRow Remade(const AgentRunEvent& told, v1::JobSpec spec, absl::Time slot) {
  const std::string& id = told.event->run_id();
  const std::string& job = told.event->started().assigned().job();
  return {
      .id = id,
      .job = job,
      .slot = slot,
      .trigger = wire::RunId(job, slot) == id ? v1::RUN_TRIGGER_SCHEDULE : v1::RUN_TRIGGER_MANUAL,
      .spec = std::move(spec),
      .due_at = slot};
}

// An agent that came back after slots had been decided again: this one was counted as missed.
Status CountAsRun(sql::Transaction& t, const RunRow& run) {
  const std::initializer_list<sql::Parameter> slot = {std::string_view(run.job),
                                                      sql::ToMicros(run.slot)};
  MUSTER_RETURN_IF_ERROR(
      t.Execute("UPDATE missed_slots SET slots = slots - 1 WHERE job = $1 AND slot <= $2 AND "
                "last_slot >= $2",
                slot)
          .status());
  return t.Execute("DELETE FROM missed_slots WHERE job = $1 AND slot <= $2 AND slots = 0", slot)
      .status();
}

}  // namespace

bool WasNeverGiven(const RunRow& run) {
  const bool missed = run.phase == RunPhase::kOver && run.state == v1::RUN_STATE_MISSED;
  return run.fence == 0 && !run.spec.has_reported() && run.action.empty() &&
         (missed || run.phase == RunPhase::kWaiting);
}

StatusOr<std::optional<RunRow>> TakeLost(sql::Transaction& t, const AgentRunEvent& told,
                                         const RunRow* known, absl::Time lost_until, absl::Time now,
                                         std::vector<TrailRow>& trail) {
  const std::string& id = told.event->run_id();
  const v1::AssignedRun& assigned = told.event->started().assigned();
  const absl::Time slot = wire::FromProto(assigned.slot());
  if (told.at >= lost_until + kClockSlack || !wire::IsUuid(id) || IsReportId(id) ||
      told.event->fence() == 0 || slot > lost_until + kClockSlack ||
      slot < lost_until - kLongestLost) {
    return std::optional<RunRow>();
  }
  StatusOr<v1::JobSpec> spec = JobAskedOf(t, assigned.job(), told.agent);
  if (absl::IsNotFound(spec.status()) || absl::IsPermissionDenied(spec.status()))
    return std::optional<RunRow>();
  MUSTER_RETURN_IF_ERROR(spec.status());
  if (spec->has_reported() || (known != nullptr && known->job != assigned.job()))
    return std::optional<RunRow>();
  RunRow run = known != nullptr ? *known : Remade(told, *std::move(spec), slot);
  if (known == nullptr) {
    MUSTER_ASSIGN_OR_RETURN(const bool made, InsertRun(t, run));
    if (!made) return std::optional<RunRow>();
    if (run.trigger == v1::RUN_TRIGGER_SCHEDULE) MUSTER_RETURN_IF_ERROR(CountAsRun(t, run));
  }
  run.phase = RunPhase::kAssigned;
  run.state = v1::RUN_STATE_QUEUED;
  run.agent = told.agent;
  run.fence = told.event->fence();
  run.assigned_at = std::clamp(told.at, absl::UnixEpoch() + absl::Seconds(1), now);
  run.finished_at = absl::InfiniteFuture();
  MUSTER_RETURN_IF_ERROR(
      t.Execute(fmt::format("UPDATE runs SET agent = $1, fence = $2, assigned_at = $3, revision = "
                            "{} WHERE id = $4",
                            kNextRunRevision),
                {std::string_view(run.agent), Signed(run.fence), sql::ToMicros(run.assigned_at),
                 std::string_view(run.id)})
          .status());
  trail.push_back({run.id, now, "recovered",
                   fmt::format("agent {} had been given it by a store that was lost", run.agent)});
  return run;
}

}  // namespace muster::control
