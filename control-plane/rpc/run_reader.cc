#include "control-plane/rpc/run_reader.h"

#include <algorithm>
#include <map>

#include "control-plane/decide/job_schedule.h"
#include "control-plane/rpc/paging.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr uint32_t kDefaultRuns = 200;
constexpr size_t kUpcoming = 5;

StatusOr<RunFilter> FilterOf(const v1::ListRunsRequest& request) {
  RunFilter filter{.job = request.job(), .agent = request.agent(), .own = request.own()};
  for (const int state : request.state()) {
    if (!v1::RunState_IsValid(state) || state == v1::RUN_STATE_UNSPECIFIED) {
      return InvalidArgument("state: {} is none", state);
    }
    filter.state.push_back(static_cast<v1::RunState>(state));
  }
  const std::string& prefix = request.id_prefix();
  if (prefix.find_first_not_of("0123456789abcdef-") != std::string::npos) {
    return InvalidArgument("id_prefix: \"{}\" begins no run's id", prefix);
  }
  filter.id_prefix = prefix;
  return filter;
}

bool NewerFirst(const v1::Run& a, const v1::Run& b) {
  const absl::Time at = wire::FromProto(a.slot());
  const absl::Time other = wire::FromProto(b.slot());
  return at != other ? at > other : a.id() < b.id();
}

// Of one job.
struct OpenRuns {
  uint32_t queued = 0;
  uint32_t running = 0;
};

void SetPause(const std::vector<PauseRow>& pauses, absl::Time now, v1::Job& job) {
  for (const PauseRow& pause : pauses) {
    if (pause.since > now || now >= pause.until) continue;
    job.set_paused(true);
    if (pause.until == absl::InfiniteFuture()) return;
    *job.mutable_paused_until() = wire::ToProto(pause.until);
    return;
  }
}

Status SetUpcoming(const v1::JobSpec& spec, const JobRow* row, absl::Time now, v1::Job& job) {
  MUSTER_ASSIGN_OR_RETURN(std::optional<Schedule> schedule, ScheduleOf(spec));
  if (!schedule.has_value()) return OkStatus();
  ScheduleFacts facts{.job = job.name(), .schedule = *std::move(schedule), .decided_until = now};
  if (row != nullptr) {
    for (const PauseRow& pause : row->pauses) facts.pauses.push_back({pause.since, pause.until});
  }
  for (const Upcoming& next : NextRuns(facts, now, kUpcoming)) {
    v1::UpcomingRun& upcoming = *job.add_next();
    *upcoming.mutable_slot() = wire::ToProto(next.slot);
    *upcoming.mutable_start_at() = wire::ToProto(next.start_at);
    if (next.missed.has_value()) {
      upcoming.set_missed(fmt::format("{}: {}", MissedText(*next.missed), next.why));
    }
  }
  return OkStatus();
}

// The newest of the job's runs and missed slots.
Status SetLast(RunStore& runs, v1::Job& job) {
  const RunFilter filter{.job = job.name(), .own = true};
  const NewestFirst newest;
  MUSTER_ASSIGN_OR_RETURN(const auto last, runs.List(filter, newest.before, newest.id, 1));
  MUSTER_ASSIGN_OR_RETURN(const auto missed, runs.ListMissed(filter, newest.before, newest.id, 1));
  if (!last.empty() && (missed.empty() || last[0].slot >= missed[0].slot)) {
    *job.mutable_last_run() = RunMessage(last[0]);
  } else if (!missed.empty()) {
    *job.mutable_last_run() = MissedMessage(missed[0]);
  }
  return OkStatus();
}

}  // namespace

v1::Run RunMessage(const RunRow& row) {
  v1::Run run;
  run.set_id(row.id);
  run.set_job(row.job);
  run.set_agent(row.agent);
  *run.mutable_slot() = wire::ToProto(row.slot);
  run.set_state(row.state);
  run.set_reason(row.reason);
  if (row.started_at != absl::InfinitePast()) {
    *run.mutable_started_at() = wire::ToProto(row.started_at);
  }
  if (row.phase == RunPhase::kOver && row.finished_at != absl::InfiniteFuture()) {
    *run.mutable_finished_at() = wire::ToProto(row.finished_at);
  }
  run.set_trigger(row.trigger);
  run.set_asked_by(row.asked_by);
  run.set_attempt(static_cast<uint32_t>(row.fence));
  run.set_attempts(std::max(1U, row.spec.retry().attempts()));
  *run.mutable_due_at() = wire::ToProto(row.due_at);
  run.set_exit_code(row.exit_code);
  if (row.progress.ByteSizeLong() > 0) *run.mutable_progress() = row.progress;
  run.set_stopping(row.stop != RunStop::kNo && row.phase != RunPhase::kOver);
  run.set_dropped_lines(row.dropped_lines);
  run.set_slots(1);
  run.set_action(row.action);
  return run;
}

v1::Run MissedMessage(const MissedRow& row) {
  v1::Run run;
  run.set_id(row.id);
  run.set_job(row.job);
  *run.mutable_slot() = wire::ToProto(row.slot);
  run.set_state(v1::RUN_STATE_MISSED);
  run.set_reason(fmt::format("{}: {}", MissedText(static_cast<MissedReason>(row.reason)), row.why));
  *run.mutable_finished_at() = wire::ToProto(row.recorded_at);
  run.set_trigger(v1::RUN_TRIGGER_SCHEDULE);
  *run.mutable_due_at() = wire::ToProto(row.slot);
  run.set_exit_code(-1);
  run.set_slots(row.slots);
  return run;
}

StatusOr<SpecRow> FindJob(Store& store, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(std::optional<SpecRow> job, store.specs().FindJob(name));
  if (!job.has_value()) return NotFound("there is no job {}; see musterctl get jobs", name);
  return *std::move(job);
}

Status ListRuns(Store& store, const v1::ListRunsRequest& request, v1::ListRunsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const RunFilter filter, FilterOf(request));
  MUSTER_ASSIGN_OR_RETURN(const NewestFirst from, ReadNewestFirst(request.page_token()));
  const uint32_t size = request.page_size() == 0 ? kDefaultRuns : PageSize(request.page_size());
  MUSTER_ASSIGN_OR_RETURN(const auto runs,
                          store.runs().List(filter, from.before, from.id, size + 1));
  MUSTER_ASSIGN_OR_RETURN(const auto missed,
                          store.runs().ListMissed(filter, from.before, from.id, size + 1));
  std::vector<v1::Run> items;
  for (const RunRow& run : runs) items.push_back(RunMessage(run));
  for (const MissedRow& slots : missed) {
    // A slot that was backfilled is shown as the run that it became.
    const bool is_run = std::any_of(runs.begin(), runs.end(),
                                    [&](const RunRow& run) { return run.id == slots.id; });
    if (!is_run) items.push_back(MissedMessage(slots));
  }
  std::sort(items.begin(), items.end(), NewerFirst);
  const bool more = items.size() > size;
  if (more) items.resize(size);
  for (v1::Run& item : items) *response.add_items() = std::move(item);
  if (!more) return OkStatus();
  const v1::Run& last = response.items(response.items_size() - 1);
  response.set_next_page_token(MakePageToken(NewestFirst{wire::FromProto(last.slot()), last.id()}));
  return OkStatus();
}

StatusOr<v1::Run> FindRun(RunStore& runs, const std::string& id) {
  MUSTER_ASSIGN_OR_RETURN(const std::optional<RunRow> run, runs.Find(id));
  if (run.has_value()) return RunMessage(*run);
  MUSTER_ASSIGN_OR_RETURN(const std::optional<MissedRow> missed, runs.FindMissed(id));
  if (missed.has_value()) return MissedMessage(*missed);
  return NotFound("there is no run {}", id);
}

Status GetRun(RunStore& runs, const v1::GetRunRequest& request, v1::GetRunResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(*response.mutable_run(), FindRun(runs, request.id()));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<TrailRow> trail, runs.Trail(request.id()));
  for (const TrailRow& row : trail) {
    v1::RunTrailEntry& entry = *response.add_trail();
    *entry.mutable_at() = wire::ToProto(row.at);
    entry.set_what(row.what);
    entry.set_reason(row.reason);
  }
  return OkStatus();
}

Status ListJobs(Store& store, const v1::ListJobsRequest& request, absl::Time now,
                v1::ListJobsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const auto after, ReadPageToken(request.page_token(), 1));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> specs, store.specs().Jobs());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<JobRow> rows, store.runs().Jobs());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<RunRow> open, store.runs().Open());
  std::map<std::string, const JobRow*> row_of;
  for (const JobRow& row : rows) row_of[row.name] = &row;
  std::map<std::string, OpenRuns> open_of;
  for (const RunRow& run : open) {
    ++(run.state == v1::RUN_STATE_RUNNING ? open_of[run.job].running : open_of[run.job].queued);
  }
  const uint32_t size = PageSize(request.page_size());
  for (const SpecRow& spec : specs) {
    const std::string& name = spec.document.metadata().name();
    if (name <= after[0] || (!request.name().empty() && name != request.name())) continue;
    if (static_cast<uint32_t>(response.items_size()) == size) {
      response.set_next_page_token(
          MakePageToken({response.items(response.items_size() - 1).name()}));
      return OkStatus();
    }
    v1::Job& job = *response.add_items();
    job.set_name(name);
    job.set_schedule(ScheduleText(spec.document.job()));
    const auto row = row_of.find(name);
    const JobRow* known = row == row_of.end() ? nullptr : row->second;
    if (known != nullptr) SetPause(known->pauses, now, job);
    MUSTER_RETURN_IF_ERROR(SetUpcoming(spec.document.job(), known, now, job));
    MUSTER_RETURN_IF_ERROR(SetLast(store.runs(), job));
    job.set_running(open_of[name].running);
    job.set_queued(open_of[name].queued);
  }
  return OkStatus();
}

}  // namespace muster::control
