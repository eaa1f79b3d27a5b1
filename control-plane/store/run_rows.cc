#include "control-plane/store/run_rows.h"

#include <deque>

#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"

namespace muster::control {

std::string SelectRuns(std::string_view where) {
  return fmt::format("SELECT {} FROM runs {}", kRunColumns, where);
}

StatusOr<std::vector<RunRow>> ReadRuns(const sql::Rows& rows) {
  std::vector<RunRow> runs;
  runs.reserve(rows.size());
  for (const sql::Row& row : rows) {
    RunRow& run = runs.emplace_back();
    run.id = row.Text(0);
    run.job = row.Text(1);
    run.slot = row.Time(2);
    run.trigger = static_cast<v1::RunTrigger>(row.Int(3));
    run.asked_by = row.Text(4);
    if (!run.spec.ParseFromString(row.Text(5)) || !run.progress.ParseFromString(row.Text(20))) {
      return DataLoss("the stored run {} of {} is damaged", run.id, run.job);
    }
    run.phase = static_cast<RunPhase>(row.Int(6));
    run.state = static_cast<v1::RunState>(row.Int(7));
    run.reason = row.Text(8);
    run.due_at = row.Time(9);
    run.start_by = ZeroOr(row, 10, absl::InfiniteFuture());
    run.agent = row.Text(11);
    run.fence = Unsigned(row.Int(12));
    run.assigned_at = ZeroOr(row, 13, absl::InfinitePast());
    run.started_at = ZeroOr(row, 14, absl::InfinitePast());
    run.finished_at = ZeroOr(row, 15, absl::InfiniteFuture());
    run.outcome = static_cast<v1::RunOutcome>(row.Int(16));
    run.exit_code = static_cast<int32_t>(row.Int(17));
    run.stop = static_cast<RunStop>(row.Int(18));
    run.stop_reason = row.Text(19);
    run.dropped_lines = Unsigned(row.Int(21));
    run.output_bytes = Unsigned(row.Int(22));
    run.action = row.Text(23);
    run.reported_id = row.Text(24);
  }
  return runs;
}

Status AppendTrail(sql::Transaction& transaction, const std::vector<TrailRow>& entries) {
  if (entries.empty()) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(int64_t id,
                          NextValue(transaction, kRunTrail, static_cast<int64_t>(entries.size())));
  ManyRows rows("INSERT INTO run_trail (id, run, at, what, reason) ", 5);
  for (const TrailRow& entry : entries) {
    rows.Add({id++, std::string_view(entry.run), sql::ToMicros(entry.at),
              std::string_view(entry.what), std::string_view(entry.reason)});
  }
  return rows.Send(transaction);
}

StatusOr<std::optional<RunRow>> FindRun(sql::Transaction& t, std::string_view id) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query(SelectRuns("WHERE id = $1"), {id}));
  MUSTER_ASSIGN_OR_RETURN(std::vector<RunRow> runs, ReadRuns(rows));
  if (runs.empty()) return std::optional<RunRow>();
  return std::optional<RunRow>(std::move(runs[0]));
}

StatusOr<bool> InsertRun(sql::Transaction& t, const RunRow& run) {
  MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> made, InsertRuns(t, {&run}));
  return !made.empty();
}

StatusOr<std::set<std::string>> InsertRuns(sql::Transaction& t,
                                           const std::vector<const RunRow*>& runs) {
  std::set<std::string> made;
  if (runs.empty()) return made;
  ManyRows rows(fmt::format("INSERT INTO runs ({}, revision) SELECT column1, column2, column3, "
                            "column4, column5, column6, column7, column8, column9, column10, "
                            "column11, '', 0, 0, 0, column12, 0, -1, 0, '', column13, 0, 0, "
                            "column14, '', {} FROM (",
                            kRunColumns, kNextRunRevision),
                14, ") AS v WHERE true ON CONFLICT DO NOTHING RETURNING id");
  std::deque<std::string> specs;  // parameters borrow them
  for (const RunRow* run : runs) {
    specs.push_back(run->spec.SerializeAsString());
    rows.Add({std::string_view(run->id), std::string_view(run->job), sql::ToMicros(run->slot),
              int64_t{run->trigger}, std::string_view(run->asked_by), sql::Bytes{specs.back()},
              static_cast<int64_t>(run->phase), int64_t{run->state}, std::string_view(run->reason),
              sql::ToMicros(run->due_at), TimeOrZero(run->start_by), TimeOrZero(run->finished_at),
              sql::Bytes{""}, std::string_view(run->action)});
  }
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows found, rows.Query(t));
  for (const sql::Row& row : found) made.insert(row.Text(0));
  return made;
}

Status InsertBeside(sql::Transaction& t, RunRow& run) {
  for (int i = 0; i < 1000; ++i) {
    MUSTER_ASSIGN_OR_RETURN(const bool made, InsertRun(t, run));
    if (made) return OkStatus();
    run.slot += absl::Microseconds(1);
  }
  return Aborted("a thousand runs of {} begin at this moment; try again", run.job);
}

StatusOr<bool> AddRun(sql::Transaction& t, RunRow& run, std::string_view what,
                      const AuditNote& note) {
  MUSTER_ASSIGN_OR_RETURN(std::optional<RunRow> known, FindRun(t, run.id));
  if (known.has_value()) {
    run = *std::move(known);
    return false;
  }
  MUSTER_RETURN_IF_ERROR(InsertBeside(t, run));
  MUSTER_RETURN_IF_ERROR(NextValue(t, kRunRevision).status());
  MUSTER_RETURN_IF_ERROR(AppendTrail(t, {{run.id, note.at, std::string(what), run.reason}}));
  MUSTER_RETURN_IF_ERROR(AppendAudit(t, note));
  return true;
}

}  // namespace muster::control
