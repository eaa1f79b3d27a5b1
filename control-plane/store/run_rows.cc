#include "control-plane/store/run_rows.h"

#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"

namespace muster::control {

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

}  // namespace muster::control
