#include "control-plane/store/run_store.h"

#include <deque>
#include <map>
#include <set>

#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/recovery.h"
#include "control-plane/store/reported_runs.h"
#include "control-plane/store/run_rows.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr std::string_view kPauseColumns = "job, since, until, reason, by";
constexpr int64_t kOver = static_cast<int64_t>(RunPhase::kOver);
constexpr int64_t kMissed = v1::RUN_STATE_MISSED;

Status PutMissed(sql::Transaction& t, const MissedRow& missed) {
  return t
      .Execute(fmt::format("INSERT INTO missed_slots ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
                           "ON CONFLICT (id) DO UPDATE SET last_slot = excluded.last_slot, slots = "
                           "excluded.slots, why = excluded.why, recorded_at = excluded.recorded_at",
                           kMissedColumns),
               {std::string_view(missed.id), std::string_view(missed.job),
                sql::ToMicros(missed.slot), sql::ToMicros(missed.last_slot), Signed(missed.slots),
                missed.reason, std::string_view(missed.why), sql::ToMicros(missed.recorded_at)})
      .status();
}

PauseRow ReadPause(const sql::Row& row) {
  return {.job = row.Text(0),
          .since = row.Time(1),
          .until = TimeOr(row, 2, absl::InfiniteFuture()),
          .reason = row.Text(3),
          .by = row.Text(4)};
}

// An older slot that ends late changes nothing.
Status NoteHealth(sql::Transaction& t, std::string_view job, const JobHealth& health) {
  return t
      .Execute(
          "UPDATE jobs SET last_run = $1, last_slot = $2, last_state = $3, last_reason = $4, "
          "last_at = $5 WHERE name = $6 AND last_slot <= $7",
          {std::string_view(health.run), sql::ToMicros(health.slot), int64_t{health.state},
           std::string_view(health.reason), sql::ToMicros(health.at), job,
           sql::ToMicros(health.slot)})
      .status();
}

// What is known of a job once one of its runs is over.
Status NoteOver(sql::Transaction& t, const RunRow& run, absl::Time now) {
  if (run.action.empty())
    return NoteHealth(t, run.job, {run.id, run.slot, run.state, run.reason, now});
  if (run.action != "forget" || run.state == v1::RUN_STATE_CANCELLED) return OkStatus();
  const std::string_view problem =
      run.state == v1::RUN_STATE_SUCCEEDED ? "" : std::string_view(run.reason);
  return t
      .Execute("UPDATE jobs SET keep_problem = $1 WHERE name = $2",
               {problem, std::string_view(run.job)})
      .status();
}

// Those that are new, and those that stand where the decision saw them: all, or Aborted.
Status PutJobs(sql::Transaction& t, const std::vector<JobDecision>& decisions) {
  ManyRows made(
      "INSERT INTO jobs (name, spec, generation, decided_until, last_run, last_slot, "
      "last_state, last_reason, last_at) SELECT column1, column2, column3, column4, '', "
      "0, 0, '', 0 FROM (",
      4, ") AS v WHERE true ON CONFLICT DO NOTHING");
  ManyRows moved(
      "UPDATE jobs SET spec = v.column2, generation = v.column3, decided_until = "
      "v.column4 FROM (",
      5, ") AS v WHERE jobs.name = v.column1 AND jobs.decided_until = v.column5");
  std::deque<std::string> specs;  // parameters borrow them
  int64_t wanted_new = 0;
  int64_t wanted = 0;
  for (const JobDecision& decision : decisions) {
    const JobRow& job = decision.row;
    specs.push_back(job.spec.SerializeAsString());
    const sql::Parameter name = std::string_view(job.name);
    const sql::Parameter spec = sql::Bytes{specs.back()};
    const int64_t until = sql::ToMicros(job.decided_until);
    if (decision.expected_until.has_value()) {
      ++wanted;
      moved.Add(
          {name, spec, Signed(job.generation), until, sql::ToMicros(*decision.expected_until)});
    } else {
      ++wanted_new;
      made.Add({name, spec, Signed(job.generation), until});
    }
  }
  const Status taken = Aborted("slots were decided by somebody else meanwhile");
  if (wanted_new > 0) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t rows, made.Execute(t));
    if (rows != wanted_new) return taken;
  }
  if (wanted == 0) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const int64_t rows, moved.Execute(t));
  return rows == wanted ? OkStatus() : taken;
}

// Of a job's new runs, oldest slot first, those that are no report's yet.
StatusOr<std::vector<const RunRow*>> NotReported(sql::Transaction& t,
                                                 const std::vector<RunRow>& runs, absl::Time now,
                                                 std::vector<TrailRow>& trail) {
  std::vector<const RunRow*> left;
  absl::Time until = now + kEarliestReport;
  // A report is of the newest slot before it.
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    bool moved = false;
    if (run->spec.has_reported()) {
      MUSTER_ASSIGN_OR_RETURN(moved, MoveReportInto(t, *run, until, now, trail));
      until = run->slot - kEarliestReport;
    }
    if (!moved) left.push_back(&*run);
  }
  return left;
}

// The new runs of all decisions; of those that were not there already the trail begins. Whether one
// is a report's that came before it.
StatusOr<bool> InsertRuns(sql::Transaction& t, const std::vector<JobDecision>& decisions,
                          absl::Time now, std::vector<TrailRow>& trail) {
  std::vector<const RunRow*> runs;
  size_t wanted = 0;
  for (const JobDecision& decision : decisions) {
    wanted += decision.runs.size();
    MUSTER_ASSIGN_OR_RETURN(const auto left, NotReported(t, decision.runs, now, trail));
    runs.insert(runs.end(), left.begin(), left.end());
  }
  MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> made, InsertRuns(t, runs));
  for (const RunRow* run : runs) {
    if (!made.contains(run->id)) continue;
    trail.push_back({run->id, now, run->phase == RunPhase::kOver ? "missed" : "due", run->reason});
  }
  return runs.size() < wanted;
}

// By id, those that were made.
StatusOr<std::set<std::string>> ChangeAll(sql::Transaction& t,
                                          const std::vector<RunChange>& changes) {
  ManyRows rows(
      fmt::format("UPDATE runs SET phase = v.column2, state = v.column3, reason = v.column4, "
                  "due_at = v.column5, start_by = v.column6, agent = v.column7, fence = v.column8, "
                  "assigned_at = v.column9, finished_at = v.column10, outcome = v.column11, "
                  "exit_code = v.column12, spec = CASE WHEN length(v.column15) > 0 THEN "
                  "v.column15 ELSE runs.spec END, revision = {} FROM (",
                  kNextRunRevision),
      15,
      ") AS v WHERE runs.id = v.column1 AND runs.phase = v.column13 AND runs.fence = v.column14 "
      "RETURNING runs.id");
  std::deque<std::string> specs;  // parameters borrow them
  for (const RunChange& change : changes) {
    const RunRow& run = change.row;
    specs.push_back(change.new_spec ? run.spec.SerializeAsString() : "");
    rows.Add({std::string_view(run.id), static_cast<int64_t>(run.phase), int64_t{run.state},
              std::string_view(run.reason), sql::ToMicros(run.due_at), TimeOrZero(run.start_by),
              std::string_view(run.agent), Signed(run.fence), TimeOrZero(run.assigned_at),
              TimeOrZero(run.finished_at), int64_t{run.outcome}, int64_t{run.exit_code},
              static_cast<int64_t>(change.expected_phase), Signed(change.expected_fence),
              sql::Bytes{specs.back()}});
  }
  std::set<std::string> made;
  if (changes.empty()) return made;
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, rows.Query(t));
  for (const sql::Row& row : found) made.insert(row.Text(0));
  return made;
}

StatusOr<uint64_t> NextRevision(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> next,
                          NextValues(t, {{kRunRevision, 1}, {kAssignmentRevision, 1}}));
  return Unsigned(next[0]);
}

// Asked to end stays asked, and does not become less.
Status PutStop(sql::Transaction& t, std::string_view id, RunStop stop, std::string_view reason) {
  return t
      .Execute(
          fmt::format("UPDATE runs SET stop = $1, stop_reason = $2, revision = {} WHERE id = $3 "
                      "AND stop < $4 AND phase < 5",
                      kNextRunRevision),
          {static_cast<int64_t>(stop), reason, id, static_cast<int64_t>(stop)})
      .status();
}

// What is rare: one by one.
Status DecideRest(sql::Transaction& t, const JobDecision& decision, absl::Time now,
                  std::vector<TrailRow>& trail) {
  for (const MissedRow& missed : decision.missed) MUSTER_RETURN_IF_ERROR(PutMissed(t, missed));
  MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> changed, ChangeAll(t, decision.changes));
  for (const RunChange& change : decision.changes) {
    if (changed.contains(change.row.id))
      trail.push_back({change.row.id, now, change.what, change.row.reason});
  }
  for (const StopRow& stop : decision.stops) {
    MUSTER_RETURN_IF_ERROR(PutStop(t, stop.id, stop.stop, stop.reason));
    trail.push_back({stop.id, now, "stop", stop.reason});
  }
  for (const JobHealth& health : decision.health) {
    MUSTER_RETURN_IF_ERROR(NoteHealth(t, decision.row.name, health));
  }
  return OkStatus();
}

// A job whose slots nobody has decided yet may be paused, too, if it is there.
StatusOr<std::vector<PauseRow>> PausesOf(sql::Transaction& t, std::string_view job) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM job_pauses WHERE job = $1 ORDER BY id", kPauseColumns),
              {job}));
  std::vector<PauseRow> pauses;
  for (const sql::Row& row : rows) pauses.push_back(ReadPause(row));
  return pauses;
}

}  // namespace

StatusOr<std::vector<JobRow>> RunStore::Jobs() {
  std::vector<JobRow> jobs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    jobs.clear();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT name, spec, generation, decided_until, last_run, last_slot, last_state, "
                "last_reason, last_at, keep_problem FROM jobs ORDER BY name"));
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows pauses,
        t.Query(fmt::format("SELECT {} FROM job_pauses ORDER BY job, id", kPauseColumns)));
    std::map<std::string, std::vector<PauseRow>> paused;
    for (const sql::Row& row : pauses) {
      paused[row.Text(0)].push_back(ReadPause(row));
    }
    for (const sql::Row& row : rows) {
      JobRow& job = jobs.emplace_back();
      job.name = row.Text(0);
      if (!job.spec.ParseFromString(row.Text(1))) {
        return DataLoss("the stored schedule of {} is damaged", job.name);
      }
      job.generation = Unsigned(row.Int(2));
      job.decided_until = row.Time(3);
      job.health = {row.Text(4), row.Time(5), static_cast<v1::RunState>(row.Int(6)), row.Text(7),
                    row.Time(8)};
      job.keep_problem = row.Text(9);
      job.pauses = std::move(paused[job.name]);
    }
    return OkStatus();
  }));
  return jobs;
}

StatusOr<std::vector<RunRow>> RunStore::Open() {
  std::vector<RunRow> runs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query(SelectRuns("WHERE phase < 5 ORDER BY due_at, id")));
    MUSTER_ASSIGN_OR_RETURN(runs, ReadRuns(rows));
    return OkStatus();
  }));
  return runs;
}

StatusOr<std::vector<RunRow>> RunStore::ChangedSince(uint64_t revision) {
  std::vector<RunRow> runs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query(SelectRuns("WHERE revision > $1"), {Signed(revision)}));
    MUSTER_ASSIGN_OR_RETURN(runs, ReadRuns(rows));
    return OkStatus();
  }));
  return runs;
}

StatusOr<std::vector<RunRow>> RunStore::OnHands() {
  std::vector<RunRow> runs;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(SelectRuns("WHERE phase < 5 AND phase IN (2, 3) AND reported_id = '' ORDER BY "
                           "assigned_at, id")));
    MUSTER_ASSIGN_OR_RETURN(runs, ReadRuns(rows));
    return OkStatus();
  }));
  return runs;
}

StatusOr<uint64_t> RunStore::AssignmentRevision() { return ReadLast(kAssignmentRevision); }
StatusOr<uint64_t> RunStore::Revision() { return ReadLast(kRunRevision); }
StatusOr<uint64_t> RunStore::PauseRevision() { return ReadLast(kPauseRevision); }

StatusOr<uint64_t> RunStore::ReadLast(std::string_view counter) {
  int64_t revision = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(revision, LastValue(t, counter));
    return OkStatus();
  }));
  return Unsigned(revision);
}

StatusOr<absl::Time> RunStore::LostUntil() {
  absl::Time until = absl::InfinitePast();
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(until, control::LostUntil(t));
    return OkStatus();
  }));
  return until;
}

StatusOr<std::vector<absl::Time>> RunStore::SlotsAfter(std::string_view job, absl::Time after) {
  std::vector<absl::Time> slots;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT slot FROM runs WHERE job = $1 AND slot > $2 AND action = '' ORDER BY slot",
                {job, sql::ToMicros(after)}));
    slots.clear();
    for (const sql::Row& row : rows) slots.push_back(row.Time(0));
    return OkStatus();
  }));
  return slots;
}

StatusOr<uint64_t> RunStore::Decide(LeaderEpoch epoch, const std::vector<JobDecision>& decisions,
                                    absl::Time now) {
  uint64_t revision = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    std::vector<TrailRow> trail;
    MUSTER_RETURN_IF_ERROR(PutJobs(t, decisions));
    MUSTER_ASSIGN_OR_RETURN(const bool moved, InsertRuns(t, decisions, now, trail));
    // What is stored is not what the caller decided: it has to read it.
    if (moved) MUSTER_RETURN_IF_ERROR(NextRevision(t).status());
    for (const JobDecision& decision : decisions) {
      MUSTER_RETURN_IF_ERROR(DecideRest(t, decision, now, trail));
    }
    MUSTER_ASSIGN_OR_RETURN(revision, NextRevision(t));
    return AppendTrail(t, trail);
  }));
  return revision;
}

StatusOr<RunStore::Changed> RunStore::Change(LeaderEpoch epoch,
                                             const std::vector<RunChange>& changes,
                                             absl::Time now) {
  Changed changed;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> made, ChangeAll(t, changes));
    changed.made = made.size();
    if (made.empty()) return OkStatus();
    std::vector<TrailRow> trail;
    for (const RunChange& change : changes) {
      const RunRow& run = change.row;
      if (!made.contains(run.id)) continue;
      if (!change.what.empty()) trail.push_back({run.id, now, change.what, run.reason});
      if (change.concludes) MUSTER_RETURN_IF_ERROR(NoteOver(t, run, now));
    }
    MUSTER_ASSIGN_OR_RETURN(changed.revision, NextRevision(t));
    return AppendTrail(t, trail);
  }));
  return changed;
}

Status RunStore::Forget(LeaderEpoch epoch, const std::vector<std::string>& jobs) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    for (const std::string& job : jobs) {
      const std::string_view name = job;
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM jobs WHERE name = $1", {name}).status());
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM job_pauses WHERE job = $1", {name}).status());
    }
    return t
        .Execute(
            "DELETE FROM job_pauses WHERE until IS NOT NULL AND until < (SELECT "
            "j.decided_until FROM jobs j WHERE j.name = job_pauses.job)")
        .status();
  });
}

StatusOr<uint64_t> RunStore::DropBefore(LeaderEpoch epoch, absl::Time cutoff, uint32_t limit) {
  uint64_t dropped = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows old,
        t.Query("SELECT id FROM runs WHERE phase = $1 AND slot < $2 AND finished_at < $3 "
                "ORDER BY slot LIMIT $4",
                {kOver, sql::ToMicros(cutoff), sql::ToMicros(cutoff), int64_t{limit}}));
    for (const sql::Row& row : old) {
      const std::string_view id = row.Text(0);
      for (const std::string_view sql :
           {"DELETE FROM run_trail WHERE run = $1", "DELETE FROM run_output WHERE run = $1",
            "DELETE FROM runs WHERE id = $1"}) {
        MUSTER_RETURN_IF_ERROR(t.Execute(sql, {id}).status());
      }
    }
    dropped = old.size();
    return t.Execute("DELETE FROM missed_slots WHERE last_slot < $1", {sql::ToMicros(cutoff)})
        .status();
  }));
  return dropped;
}

StatusOr<RunRow> RunStore::Start(RunRow run, const AuditNote& note) {
  MUSTER_RETURN_IF_ERROR(database_.Write(
      [&](sql::Transaction& t) -> Status { return AddRun(t, run, "asked", note).status(); }));
  return run;
}

StatusOr<RunRow> RunStore::Stop(std::string_view id, RunStop stop, std::string_view reason,
                                const AuditNote& note) {
  RunRow stopped;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(std::optional<RunRow> run, FindRun(t, id));
    if (!run.has_value()) return NotFound("there is no run {}", id);
    if (run->phase == RunPhase::kOver) {
      return FailedPrecondition("run {} of {} is over: {}", id, run->job, run->reason);
    }
    if (run->spec.has_reported()) {
      return FailedPrecondition(
          "run {} of {} is its host's: muster has not begun it and cannot end "
          "it; end it on {}",
          id, run->job, run->agent.empty() ? "its host" : run->agent);
    }
    run->stop = std::max(run->stop, stop);
    run->stop_reason = reason;
    stopped = *run;
    MUSTER_RETURN_IF_ERROR(PutStop(t, id, stop, reason));
    MUSTER_RETURN_IF_ERROR(NextValues(t, {{kRunRevision, 1}, {kAssignmentRevision, 1}}).status());
    MUSTER_RETURN_IF_ERROR(
        AppendTrail(t, {{std::string(id), note.at, "stop", std::string(reason)}}));
    return AppendAudit(t, note);
  }));
  return stopped;
}

StatusOr<std::vector<RunRow>> RunStore::Backfill(const std::vector<RunRow>& runs,
                                                 const AuditNote& note) {
  std::vector<RunRow> made;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    made.clear();
    std::vector<TrailRow> trail;
    for (const RunRow& run : runs) {
      MUSTER_ASSIGN_OR_RETURN(bool begins, InsertRun(t, run));
      if (!begins) {
        MUSTER_ASSIGN_OR_RETURN(
            const int64_t again,
            t.Execute(fmt::format("UPDATE runs SET phase = 1, state = $1, trigger_kind = $2, "
                                  "asked_by = $3, reason = $4, due_at = $5, start_by = 0, "
                                  "finished_at = 0, stop = 0, revision = {} WHERE id = $6 AND "
                                  "phase = $7 AND state = $8",
                                  kNextRunRevision),
                      {int64_t{run.state}, int64_t{run.trigger}, std::string_view(run.asked_by),
                       std::string_view(run.reason), sql::ToMicros(run.due_at),
                       std::string_view(run.id), kOver, kMissed}));
        begins = again == 1;
      }
      if (!begins) continue;
      made.push_back(run);
      trail.push_back({run.id, note.at, "backfill", run.reason});
    }
    MUSTER_RETURN_IF_ERROR(NextValue(t, kRunRevision).status());
    MUSTER_RETURN_IF_ERROR(AppendTrail(t, trail));
    return AppendAudit(t, note);
  }));
  return made;
}

Status RunStore::Pause(const PauseRow& pause, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<PauseRow> pauses, PausesOf(t, pause.job));
    for (const PauseRow& earlier : pauses) {
      if (earlier.until <= pause.since) continue;
      return FailedPrecondition("{} is paused already, by {}; resume it first: musterctl resume {}",
                                pause.job, earlier.by, pause.job);
    }
    MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "job_pause"));
    MUSTER_RETURN_IF_ERROR(
        t.Execute(
             "INSERT INTO job_pauses (id, job, since, until, reason, by) VALUES ($1, $2, $3, "
             "$4, $5, $6)",
             {id, std::string_view(pause.job), sql::ToMicros(pause.since), TimeOrNull(pause.until),
              std::string_view(pause.reason), std::string_view(pause.by)})
            .status());
    MUSTER_RETURN_IF_ERROR(NextValues(t, {{kRunRevision, 1}, {kPauseRevision, 1}}).status());
    return AppendAudit(t, note);
  });
}

Status RunStore::Resume(std::string_view job, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t ended,
        t.Execute("UPDATE job_pauses SET until = $1 WHERE job = $2 AND (until IS NULL OR until > "
                  "$3)",
                  {sql::ToMicros(note.at), job, sql::ToMicros(note.at)}));
    if (ended == 0) return FailedPrecondition("{} is not paused", job);
    MUSTER_RETURN_IF_ERROR(NextValues(t, {{kRunRevision, 1}, {kPauseRevision, 1}}).status());
    return AppendAudit(t, note);
  });
}

}  // namespace muster::control
