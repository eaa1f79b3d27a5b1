// Of the run store: what is read of runs, not changed.
#include <algorithm>

#include "control-plane/store/columns.h"
#include "control-plane/store/run_rows.h"
#include "control-plane/store/run_store.h"

namespace muster::control {
namespace {

std::string Like(std::string_view prefix) { return std::string(prefix) + "%"; }

MissedRow ReadMissed(const sql::Row& row) {
  return {.id = row.Text(0),
          .job = row.Text(1),
          .slot = row.Time(2),
          .last_slot = row.Time(3),
          .slots = Unsigned(row.Int(4)),
          .reason = row.Int(5),
          .why = row.Text(6),
          .recorded_at = row.Time(7)};
}

// The states and actions that a list asks for, as a condition that begins with AND.
std::string MoreConditions(const RunFilter& filter) {
  const std::string own = filter.own ? "AND action = '' " : "";
  if (filter.state.empty()) return own;
  std::string list;
  for (const v1::RunState state : filter.state) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", static_cast<int>(state));
  }
  return fmt::format("AND state IN ({}) {}", list, own);
}

}  // namespace

StatusOr<std::optional<RunRow>> RunStore::Find(std::string_view id) {
  std::optional<RunRow> run;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(run, FindRun(t, id));
    return OkStatus();
  }));
  return run;
}

StatusOr<std::optional<MissedRow>> RunStore::FindMissed(std::string_view id) {
  std::optional<MissedRow> missed;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM missed_slots WHERE id = $1", kMissedColumns), {id}));
    if (!rows.empty()) missed = ReadMissed(rows[0]);
    return OkStatus();
  }));
  return missed;
}

StatusOr<std::vector<RunRow>> RunStore::List(const RunFilter& filter, absl::Time before,
                                             std::string_view before_id, uint32_t limit) {
  std::vector<RunRow> runs;
  const std::string prefix = Like(filter.id_prefix);
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            SelectRuns(fmt::format("WHERE (slot < $1 OR (slot = $2 AND id > $3)) AND ($4 = '' OR "
                                   "job = $5) AND ($6 = '' OR agent = $7) AND id LIKE $8 {}"
                                   "ORDER BY slot DESC, id LIMIT $9",
                                   MoreConditions(filter))),
            {sql::ToMicros(before), sql::ToMicros(before), before_id, std::string_view(filter.job),
             std::string_view(filter.job), std::string_view(filter.agent),
             std::string_view(filter.agent), std::string_view(prefix), int64_t{limit}}));
    MUSTER_ASSIGN_OR_RETURN(runs, ReadRuns(rows));
    return OkStatus();
  }));
  return runs;
}

StatusOr<std::vector<MissedRow>> RunStore::ListMissed(const RunFilter& filter, absl::Time before,
                                                      std::string_view before_id, uint32_t limit) {
  std::vector<MissedRow> missed;
  const bool wanted =
      filter.agent.empty() &&
      (filter.state.empty() || std::find(filter.state.begin(), filter.state.end(),
                                         v1::RUN_STATE_MISSED) != filter.state.end());
  if (!wanted) return missed;
  const std::string prefix = Like(filter.id_prefix);
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    missed.clear();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            fmt::format("SELECT {} FROM missed_slots WHERE (slot < $1 OR (slot = $2 AND id > "
                        "$3)) AND ($4 = '' OR job = $5) AND id LIKE $6 ORDER BY slot DESC, id "
                        "LIMIT $7",
                        kMissedColumns),
            {sql::ToMicros(before), sql::ToMicros(before), before_id, std::string_view(filter.job),
             std::string_view(filter.job), std::string_view(prefix), int64_t{limit}}));
    for (const sql::Row& row : rows) missed.push_back(ReadMissed(row));
    return OkStatus();
  }));
  return missed;
}

StatusOr<std::vector<TrailRow>> RunStore::Trail(std::string_view run) {
  std::vector<TrailRow> trail;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    trail.clear();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT run, at, what, reason FROM run_trail WHERE run = $1 ORDER BY id", {run}));
    for (const sql::Row& row : rows) {
      trail.push_back({row.Text(0), row.Time(1), row.Text(2), row.Text(3)});
    }
    return OkStatus();
  }));
  return trail;
}

StatusOr<std::vector<OutputRow>> RunStore::Output(std::string_view run, const OutputRow& after,
                                                  uint32_t limit) {
  std::vector<OutputRow> output;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    output.clear();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT fence, first_line, at, stream, body FROM run_output WHERE run = $1 AND "
                "(fence > $2 OR (fence = $3 AND (first_line > $4 OR (first_line = $5 AND stream > "
                "$6)))) ORDER BY fence, first_line, stream LIMIT $7",
                {run, Signed(after.fence), Signed(after.fence), Signed(after.first_line),
                 Signed(after.first_line), int64_t{after.stream}, int64_t{limit}}));
    for (const sql::Row& row : rows) {
      output.push_back({Unsigned(row.Int(0)), Unsigned(row.Int(1)), row.Time(2),
                        static_cast<v1::RunOutput::Stream>(row.Int(3)), row.Text(4)});
    }
    return OkStatus();
  }));
  return output;
}

}  // namespace muster::control
