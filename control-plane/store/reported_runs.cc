#include "control-plane/store/reported_runs.h"

#include <algorithm>
#include <set>
#include <utility>

#include "control-plane/store/asked_job.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/run_rows.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"

namespace muster::control {
namespace {

constexpr size_t kVersionAt = 14;

// The job's spec, or why the agent may not report it.
StatusOr<v1::JobSpec> SpecFor(sql::Transaction& t, const std::string& job, std::string_view agent) {
  MUSTER_ASSIGN_OR_RETURN(v1::JobSpec spec, JobAskedOf(t, job, agent));
  if (!spec.has_reported()) {
    return FailedPrecondition("the job is not reported: write reported: {{}} for its task");
  }
  return spec;
}

bool IsRefusal(const Status& status) {
  return status.code() == absl::StatusCode::kNotFound ||
         status.code() == absl::StatusCode::kFailedPrecondition ||
         status.code() == absl::StatusCode::kPermissionDenied;
}

bool MayBeBegun(const RunRow& run) {
  const bool missed = run.phase == RunPhase::kOver && run.state == v1::RUN_STATE_MISSED;
  return run.spec.has_reported() && run.reported_id.empty() &&
         (missed || run.phase == RunPhase::kWaiting);
}

// The newest slot that waits; else the newest, if it is missed.
StatusOr<std::optional<RunRow>> SlotFor(sql::Transaction& t, const std::string& job,
                                        absl::Time began) {
  for (const std::string_view which : {"phase < 5 AND phase = 1 AND reported_id = '' AND", ""}) {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM runs WHERE {} job = $1 AND action = '' AND slot <= $2 "
                            "ORDER BY slot DESC LIMIT 1",
                            kRunColumns, which),
                {std::string_view(job), sql::ToMicros(began + kEarliestReport)}));
    MUSTER_ASSIGN_OR_RETURN(std::vector<RunRow> found, ReadRuns(rows));
    if (!found.empty() && MayBeBegun(found[0])) return std::optional(std::move(found[0]));
  }
  return std::optional<RunRow>();
}

RunRow OutsideOfSlots(const AgentRunEvent& told, v1::JobSpec spec, absl::Time began) {
  return {.id = told.event->run_id(),
          .job = told.event->started().reported().job(),
          .slot = began,
          .trigger = v1::RUN_TRIGGER_REPORTED,
          .spec = std::move(spec),
          .due_at = began};
}

void GiveTo(std::string_view agent, absl::Time began, const std::string& id, RunRow& run) {
  run.phase = RunPhase::kAssigned;
  run.state = v1::RUN_STATE_QUEUED;
  run.agent = agent;
  run.fence = 1;
  run.assigned_at = began;
  run.finished_at = absl::InfiniteFuture();
  run.reported_id = id;
}

Status PutTaken(sql::Transaction& t, const RunRow& run) {
  return t
      .Execute(
          fmt::format("UPDATE runs SET agent = $1, fence = 1, assigned_at = $2, reported_id = $3, "
                      "revision = {} WHERE id = $4",
                      kNextRunRevision),
          {std::string_view(run.agent), sql::ToMicros(run.assigned_at),
           std::string_view(run.reported_id), std::string_view(run.id)})
      .status();
}

}  // namespace

bool IsReportId(std::string_view id) { return wire::IsUuid(id) && id[kVersionAt] == '4'; }

StatusOr<std::optional<RunRow>> TakeReport(sql::Transaction& t, const AgentRunEvent& told,
                                           absl::Time now, std::vector<TrailRow>& trail,
                                           std::vector<RefusedReport>& refused) {
  const std::string& id = told.event->run_id();
  const std::string& job = told.event->started().reported().job();
  if (!IsReportId(id) || told.event->fence() != 1) {
    refused.push_back({std::string(told.agent), job, "its id is none that a report has"});
    return std::optional<RunRow>();
  }
  const StatusOr<v1::JobSpec> spec = SpecFor(t, job, told.agent);
  if (!spec.ok() && !IsRefusal(spec.status())) return spec.status();
  if (!spec.ok()) {
    refused.push_back({std::string(told.agent), job, std::string(Message(spec.status()))});
    return std::optional<RunRow>();
  }
  // The store writes 0 for "never".
  const absl::Time began = std::clamp(told.at, absl::UnixEpoch() + absl::Seconds(1), now);
  MUSTER_ASSIGN_OR_RETURN(std::optional<RunRow> run, SlotFor(t, job, began));
  if (!run.has_value()) {
    run = OutsideOfSlots(told, *spec, began);
    MUSTER_RETURN_IF_ERROR(InsertBeside(t, *run));
  }
  GiveTo(told.agent, began, id, *run);
  MUSTER_RETURN_IF_ERROR(PutTaken(t, *run));
  trail.push_back(
      {run->id, now, "reported",
       fmt::format("agent {} tells that its host began it at {}", told.agent, TimeText(began))});
  return run;
}

StatusOr<std::vector<RunRow>> RunsOfReports(sql::Transaction& t,
                                            const std::vector<const AgentRunEvent*>& events) {
  std::set<std::pair<std::string_view, std::string_view>> keys;
  for (const AgentRunEvent* event : events) {
    if (IsReportId(event->event->run_id())) keys.emplace(event->agent, event->event->run_id());
  }
  if (keys.empty()) return std::vector<RunRow>();
  ManyRows wanted(fmt::format("SELECT {} FROM runs JOIN (", kRunColumns), 2,
                  ") AS v ON runs.reported_id <> '' AND runs.agent = v.column1 AND "
                  "runs.reported_id = v.column2");
  for (const auto& [agent, id] : keys) wanted.Add({agent, id});
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, wanted.Query(t));
  return ReadRuns(rows);
}

StatusOr<bool> MoveReportInto(sql::Transaction& t, const RunRow& run, absl::Time until,
                              absl::Time now, std::vector<TrailRow>& trail) {
  const std::string_view job = run.job;
  const int64_t slot = sql::ToMicros(run.slot);
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows there,
                          t.Query("SELECT id FROM runs WHERE job = $1 AND slot = $2", {job, slot}));
  if (!there.empty()) return false;
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows found,
      t.Query("SELECT id FROM runs WHERE job = $1 AND trigger_kind = $2 AND slot >= $3 AND slot < "
              "$4 ORDER BY slot LIMIT 1",
              {job, int64_t{v1::RUN_TRIGGER_REPORTED}, sql::ToMicros(run.slot - kEarliestReport),
               sql::ToMicros(until)}));
  if (found.empty()) return false;
  const std::string& id = found[0].Text(0);
  MUSTER_RETURN_IF_ERROR(
      t.Execute(fmt::format("UPDATE runs SET slot = $1, due_at = $2, trigger_kind = $3, revision = "
                            "{} WHERE id = $4",
                            kNextRunRevision),
                {slot, slot, int64_t{v1::RUN_TRIGGER_SCHEDULE}, std::string_view(id)})
          .status());
  trail.push_back(
      {id, now, "due", fmt::format("it had begun when its slot {} was due", TimeText(run.slot))});
  return true;
}

}  // namespace muster::control
