#include "control-plane/store/run_events.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "control-plane/store/backup_events.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/lost_runs.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/recovery.h"
#include "control-plane/store/reported_runs.h"
#include "control-plane/store/run_rows.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

bool OnHands(const RunRow& run) {
  return run.phase == RunPhase::kAssigned || run.phase == RunPhase::kBegan;
}

// The plane gave the run up, and now its agent tells the truth.
bool GivenUp(const RunRow& run) {
  return run.phase == RunPhase::kOver && run.state == v1::RUN_STATE_UNKNOWN &&
         run.outcome == v1::RUN_OUTCOME_UNSPECIFIED;
}

uint64_t Lines(const std::string& text) {
  return static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

// What an exit code is, where its spec says so and not its agent.
v1::RunOutcome OutcomeOf(const v1::RunEnded& ended, const v1::JobSpec& spec) {
  const bool by_code =
      spec.has_reported() && ended.exit_code() >= 0 && ended.signal() == 0 &&
      (ended.outcome() == v1::RUN_OUTCOME_SUCCEEDED || ended.outcome() == v1::RUN_OUTCOME_FAILED);
  if (!by_code) return ended.outcome();
  const auto& good = spec.reported().success();
  const auto code = static_cast<uint32_t>(ended.exit_code());
  const bool succeeded =
      good.empty() ? code == 0 : std::find(good.begin(), good.end(), code) != good.end();
  return succeeded ? v1::RUN_OUTCOME_SUCCEEDED : v1::RUN_OUTCOME_FAILED;
}

std::string WhatBegan(const v1::RunStarted& started) {
  const std::string what = OneLine(started.what());
  if (!started.has_reported()) return what;
  return fmt::format("{} runs {}", OneLine(started.reported().user()), what);
}

RunStep Started(const AgentRunEvent& event, RunRow& run) {
  if (run.phase != RunPhase::kAssigned) return {};
  run.phase = RunPhase::kBegan;
  run.state = v1::RUN_STATE_RUNNING;
  run.progress.Clear();  // of the attempt before
  if (run.started_at == absl::InfinitePast()) run.started_at = event.at;
  run.reason = WhatBegan(event.event->started());
  return {.changed = true, .what = "started"};
}

RunStep Progressed(const AgentRunEvent& event, RunRow& run) {
  if (!OnHands(run)) return {};
  run.progress = event.event->progress();
  run.progress.set_text(OneLine(run.progress.text()));
  run.progress.set_unit(OneLine(run.progress.unit()));
  return {.changed = true};
}

RunStep Wrote(const AgentRunEvent& event, RunRow& run) {
  const v1::RunOutput& output = event.event->output();
  // A report whose file outlived its telling is told once more.
  if (run.spec.has_reported() && !OnHands(run) && !GivenUp(run)) return {};
  if (run.output_bytes + output.text().size() > kMostRunOutput) {
    run.dropped_lines += Lines(output.text());
    return {.changed = true};
  }
  run.output_bytes += output.text().size();
  return {.changed = true, .keep_output = true};
}

RunStep Ended(const AgentRunEvent& event, RunRow& run) {
  const bool given_up = GivenUp(run);
  if (!OnHands(run) && !given_up) return {};
  const v1::RunEnded& ended = event.event->ended();
  run.outcome = OutcomeOf(ended, run.spec);
  run.exit_code = ended.exit_code();
  run.reason = OneLine(ended.reason());
  run.finished_at = event.at;
  run.dropped_lines += ended.dropped_lines();
  // The leader judges what a host tells late, too: it is the job's health. Of others an attempt
  // might follow, which nobody expects any more.
  if (given_up && !run.spec.has_reported()) {
    run.state = StateOf(run.outcome);
    return {.changed = true, .what = "ended"};
  }
  run.phase = RunPhase::kAttemptOver;
  return {.changed = true, .what = "ended"};
}

Status PutRuns(sql::Transaction& t, const std::vector<const RunRow*>& runs) {
  ManyRows rows(
      fmt::format("UPDATE runs SET phase = v.column2, state = v.column3, reason = v.column4, "
                  "started_at = v.column5, finished_at = v.column6, outcome = v.column7, exit_code "
                  "= v.column8, progress = v.column9, dropped_lines = v.column10, output_bytes = "
                  "v.column11, revision = {} FROM (",
                  kNextRunRevision),
      11, ") AS v WHERE runs.id = v.column1");
  std::deque<std::string> bytes;  // parameters borrow them
  for (const RunRow* run : runs) {
    bytes.push_back(run->progress.SerializeAsString());
    rows.Add({std::string_view(run->id), static_cast<int64_t>(run->phase), int64_t{run->state},
              std::string_view(run->reason), TimeOrZero(run->started_at),
              TimeOrZero(run->finished_at), int64_t{run->outcome}, int64_t{run->exit_code},
              sql::Bytes{bytes.back()}, Signed(run->dropped_lines), Signed(run->output_bytes)});
  }
  return rows.Send(t);
}

// The runs that events are of, by their ids, and by what agents call those that their hosts began.
class RunsTold {
 public:
  explicit RunsTold(sql::Transaction& transaction) : t_(transaction) {}

  Status Read(const std::vector<AgentRunEvent>& events) {
    std::set<std::string_view> ids;
    for (const AgentRunEvent& event : events) ids.insert(event.event->run_id());
    ManyRows wanted(fmt::format("SELECT {} FROM runs JOIN (", kRunColumns), 1,
                    ") AS v ON runs.id = v.column1");
    for (const std::string_view id : ids) wanted.Add({id});
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, wanted.Query(t_));
    MUSTER_ASSIGN_OR_RETURN(std::vector<RunRow> found, ReadRuns(rows));
    for (RunRow& run : found) runs_.emplace(run.id, std::move(run));
    std::vector<const AgentRunEvent*> others;
    for (const AgentRunEvent& event : events)
      if (!runs_.contains(event.event->run_id())) others.push_back(&event);
    MUSTER_ASSIGN_OR_RETURN(found, RunsOfReports(t_, others));
    for (RunRow& run : found) Know(std::move(run));
    return OkStatus();
  }

  RunRow* Of(const AgentRunEvent& event) {
    const std::string& id = event.event->run_id();
    if (const auto run = runs_.find(id); run != runs_.end()) return &run->second;
    const auto report = reports_.find({std::string(event.agent), id});
    return report == reports_.end() ? nullptr : report->second;
  }

  RunRow* Know(RunRow row) {
    RunRow& run = runs_.insert_or_assign(row.id, std::move(row)).first->second;
    reports_[{run.agent, run.reported_id}] = &run;
    return &run;
  }

  const std::map<std::string, RunRow>& all() const { return runs_; }

 private:
  sql::Transaction& t_;
  std::map<std::string, RunRow> runs_;
  std::map<std::pair<std::string, std::string>, RunRow*> reports_;  // agent, its id
};

}  // namespace

RunStep ApplyRunEvent(const AgentRunEvent& told, RunRow& run) {
  if (told.agent != run.agent || told.event->fence() != run.fence) return {};
  // Whatever the agent's clock says, nothing happened before it was given the run.
  AgentRunEvent event = told;
  event.at = std::max(told.at, run.assigned_at);
  switch (event.event->event_case()) {
    case v1::RunEvent::kStarted: return Started(event, run);
    case v1::RunEvent::kProgress: return Progressed(event, run);
    case v1::RunEvent::kOutput: return Wrote(event, run);
    case v1::RunEvent::kEnded: return Ended(event, run);
    case v1::RunEvent::kArtifact:  // the run itself does not change by it
    case v1::RunEvent::EVENT_NOT_SET: break;
  }
  return {};
}

Status StoreRunEvents(sql::Transaction& transaction, const std::vector<AgentRunEvent>& events,
                      absl::Time now, std::vector<RefusedReport>* refused) {
  if (events.empty()) return OkStatus();
  RunsTold runs(transaction);
  MUSTER_RETURN_IF_ERROR(runs.Read(events));
  std::vector<RefusedReport> not_stored;
  std::set<const RunRow*> changed;
  std::vector<TrailRow> trail;
  ManyRows output("INSERT INTO run_output (run, fence, first_line, at, stream, body) ", 6,
                  "ON CONFLICT DO NOTHING");
  for (const AgentRunEvent& event : events) {
    RunRow* run = runs.Of(event);
    if (run == nullptr && event.event->started().has_reported()) {
      MUSTER_ASSIGN_OR_RETURN(std::optional<RunRow> begun,
                              TakeReport(transaction, event, now, trail, not_stored));
      if (begun.has_value()) run = runs.Know(*std::move(begun));
    }
    if (event.event->started().has_assigned() && (run == nullptr || WasNeverGiven(*run))) {
      MUSTER_ASSIGN_OR_RETURN(const absl::Time lost_until, LostUntil(transaction));
      MUSTER_ASSIGN_OR_RETURN(std::optional<RunRow> lost,
                              TakeLost(transaction, event, run, lost_until, now, trail));
      if (lost.has_value()) run = runs.Know(*std::move(lost));
    }
    if (run == nullptr) continue;
    const RunStep step = ApplyRunEvent(event, *run);
    if (step.changed) changed.insert(run);
    if (!step.what.empty()) trail.push_back({run->id, now, step.what, run->reason});
    if (!step.keep_output) continue;
    const v1::RunOutput& written = event.event->output();
    output.Add({std::string_view(run->id), Signed(event.event->fence()),
                Signed(written.first_line()), sql::ToMicros(event.at), int64_t{written.stream()},
                sql::Bytes{written.text()}});
  }
  MUSTER_RETURN_IF_ERROR(StoreArtifacts(transaction, events, runs.all(), now));
  if (refused != nullptr) refused->insert(refused->end(), not_stored.begin(), not_stored.end());
  if (changed.empty()) return OkStatus();
  MUSTER_RETURN_IF_ERROR(PutRuns(transaction, {changed.begin(), changed.end()}));
  if (!output.empty()) MUSTER_RETURN_IF_ERROR(output.Send(transaction));
  if (trail.empty()) return OkStatus();
  MUSTER_RETURN_IF_ERROR(
      NextValues(transaction, {{kRunRevision, 1}, {kAssignmentRevision, 1}}).status());
  return AppendTrail(transaction, trail);
}

}  // namespace muster::control
