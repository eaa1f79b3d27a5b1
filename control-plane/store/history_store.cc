#include "control-plane/store/history_store.h"

#include "control-plane/store/columns.h"

namespace muster::control {
namespace {

constexpr std::string_view kStateColumns =
    "agent, check_id, status, hard, seen, needed, hard_status, since, observed_at, latency_us, summary, "
    "last_failure_at, detail, revision";
constexpr std::string_view kTransitionColumns =
    "id, agent, check_id, from_status, to_status, hard, at, recorded_at, summary, reason";
constexpr std::string_view kStateRevision = "state_revision";

StatusOr<CheckStateRow> ReadState(const sql::Row& row) {
  CheckStateRow state;
  state.agent = row.Text(0);
  state.check_id = static_cast<uint32_t>(row.Int(1));
  state.status = static_cast<v1::CheckStatus>(row.Int(2));
  state.hard = row.Int(3) != 0;
  state.seen = static_cast<uint32_t>(row.Int(4));
  state.needed = static_cast<uint32_t>(row.Int(5));
  state.hard_status = static_cast<v1::CheckStatus>(row.Int(6));
  state.since = row.Time(7);
  state.observed_at = row.Time(8);
  state.latency = absl::Microseconds(row.Int(9));
  state.summary = row.Text(10);
  state.last_failure_at = TimeOr(row, 11, absl::InfinitePast());
  if (!state.detail.ParseFromString(row.Text(12))) {
    return DataLoss("the state of check {} on {} is damaged", state.check_id, state.agent);
  }
  state.revision = Unsigned(row.Int(13));
  return state;
}

StatusOr<std::vector<CheckStateRow>> ReadStates(const sql::Rows& rows) {
  std::vector<CheckStateRow> states;
  states.reserve(rows.size());
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(CheckStateRow state, ReadState(row));
    states.push_back(std::move(state));
  }
  return states;
}

std::vector<TransitionRow> ReadTransitions(const sql::Rows& rows) {
  std::vector<TransitionRow> transitions;
  for (const sql::Row& row : rows) {
    TransitionRow transition;
    transition.id = Unsigned(row.Int(0));
    transition.agent = row.Text(1);
    transition.check_id = static_cast<uint32_t>(row.Int(2));
    transition.from = static_cast<v1::CheckStatus>(row.Int(3));
    transition.to = static_cast<v1::CheckStatus>(row.Int(4));
    transition.hard = row.Int(5) != 0;
    transition.at = row.Time(6);
    transition.recorded_at = row.Time(7);
    transition.summary = row.Text(8);
    transition.reason = row.Text(9);
    transitions.push_back(std::move(transition));
  }
  return transitions;
}

// A state that never was has no time.
int64_t MicrosOf(absl::Time time) {
  return time == absl::InfinitePast() ? 0 : sql::ToMicros(time);
}

Status PutState(sql::Transaction& t, const CheckStateRow& state, int64_t revision) {
  const std::string detail = state.detail.SerializeAsString();
  return t
      .Execute("INSERT INTO states (agent, check_id, status, hard, seen, needed, hard_status, since, observed_at, "
               "latency_us, summary, last_failure_at, detail, revision) "
               "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
               "ON CONFLICT (agent, check_id) DO UPDATE SET status = excluded.status, hard = excluded.hard, "
               "seen = excluded.seen, needed = excluded.needed, hard_status = excluded.hard_status, "
               "since = excluded.since, observed_at = excluded.observed_at, latency_us = excluded.latency_us, "
               "summary = excluded.summary, last_failure_at = excluded.last_failure_at, "
               "detail = excluded.detail, revision = excluded.revision",
               {std::string_view(state.agent), int64_t{state.check_id}, int64_t{state.status},
                int64_t{state.hard}, int64_t{state.seen}, int64_t{state.needed}, int64_t{state.hard_status},
                MicrosOf(state.since), MicrosOf(state.observed_at), absl::ToInt64Microseconds(state.latency),
                std::string_view(state.summary), TimeOrNull(state.last_failure_at), sql::Bytes{detail}, revision})
      .status();
}

Status PutTransition(sql::Transaction& t, const TransitionRow& transition, int64_t id) {
  return t
      .Execute("INSERT INTO transitions (id, agent, check_id, from_status, to_status, hard, at, recorded_at, "
               "summary, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
               {id, std::string_view(transition.agent), int64_t{transition.check_id}, int64_t{transition.from},
                int64_t{transition.to}, int64_t{transition.hard}, sql::ToMicros(transition.at),
                sql::ToMicros(transition.recorded_at), std::string_view(transition.summary),
                std::string_view(transition.reason)})
      .status();
}

// Stores batches within one transaction, each only if its cursor and session epoch are the expected ones.
class Writer {
 public:
  Writer(sql::Transaction& transaction, absl::Time now) : t_(transaction), now_(now) {}

  // The outer status is the transaction's; `outcome` the batch's.
  Status Store(const BatchCommit& batch, Status& outcome) {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t_.Query("SELECT a.id, a.session_epoch, l.id, l.committed FROM agents a LEFT JOIN logs l "
                 "ON l.agent_id = a.id AND l.log_epoch = $1 WHERE a.name = $2",
                 {std::string_view(batch.log_epoch), std::string_view(batch.agent)}));
    outcome = Expected(batch, rows);
    if (!outcome.ok()) return OkStatus();
    const int64_t agent_id = rows[0].Int(0);
    const int64_t log_id = rows[0].Int(2);
    MUSTER_RETURN_IF_ERROR(t_.Execute("UPDATE logs SET committed = $1 WHERE id = $2",
                                      {Signed(batch.last_sequence), log_id})
                               .status());
    MUSTER_RETURN_IF_ERROR(PutSegment(batch, log_id));
    for (const CheckStateRow& state : batch.states) {
      MUSTER_ASSIGN_OR_RETURN(const int64_t revision, NextValue(t_, kStateRevision));
      MUSTER_RETURN_IF_ERROR(PutState(t_, state, revision));
    }
    for (const TransitionRow& transition : batch.transitions) {
      MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t_, "transition"));
      MUSTER_RETURN_IF_ERROR(PutTransition(t_, transition, id));
    }
    for (const v1::Gap& gap : batch.gaps) MUSTER_RETURN_IF_ERROR(PutGap(batch, agent_id, gap));
    return OkStatus();
  }

 private:
  static Status Expected(const BatchCommit& batch, const sql::Rows& rows) {
    if (rows.empty() || rows[0].IsNull(2)) {
      return Aborted("agent {} has no log {} here; say Hello again", batch.agent, batch.log_epoch);
    }
    if (Unsigned(rows[0].Int(1)) != batch.session_epoch) {
      return Aborted("a newer session of {} has taken over", batch.agent);
    }
    if (Unsigned(rows[0].Int(3)) != batch.expected_committed) {
      return Aborted("the log of {} is stored up to {}, the batch expects {}", batch.agent, rows[0].Int(3),
                     batch.expected_committed);
    }
    return OkStatus();
  }

  Status PutSegment(const BatchCommit& batch, int64_t log_id) {
    // A segment without results is found by the time it came.
    const absl::Time first = batch.results > 0 ? batch.first_observed_at : now_;
    const absl::Time last = batch.results > 0 ? batch.last_observed_at : now_;
    return t_
        .Execute("INSERT INTO segments (log_id, first_sequence, last_sequence, first_at, last_at, results, payload) "
                 "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                 {log_id, Signed(batch.first_sequence), Signed(batch.last_sequence), sql::ToMicros(first),
                  sql::ToMicros(last), int64_t{batch.results}, sql::Bytes{batch.payload}})
        .status();
  }

  Status PutGap(const BatchCommit& batch, int64_t agent_id, const v1::Gap& gap) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t_, "gap"));
    const std::string bytes = gap.SerializeAsString();
    return t_
        .Execute("INSERT INTO gaps (id, agent_id, log_epoch, gap, recorded_at) VALUES ($1, $2, $3, $4, $5)",
                 {id, agent_id, std::string_view(batch.log_epoch), sql::Bytes{bytes}, sql::ToMicros(now_)})
        .status();
  }

  sql::Transaction& t_;
  const absl::Time now_;
};

Status RemoveState(sql::Transaction& t, std::string_view agent, int64_t check_id, absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t revision, NextValue(t, kStateRevision));
  MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO removed_states (revision, agent, check_id, at) VALUES ($1, $2, $3, $4)",
                                   {revision, agent, check_id, sql::ToMicros(now)})
                             .status());
  return t.Execute("DELETE FROM states WHERE agent = $1 AND check_id = $2", {agent, check_id}).status();
}

std::string StatusList(const std::vector<v1::CheckStatus>& statuses) {
  std::string list;
  for (const v1::CheckStatus status : statuses) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", static_cast<int>(status));
  }
  return list.empty() ? "" : fmt::format("AND status IN ({}) ", list);
}

}  // namespace

StatusOr<std::vector<Status>> HistoryStore::Commit(const std::vector<BatchCommit>& batches, absl::Time now) {
  std::vector<Status> outcomes;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    outcomes.assign(batches.size(), OkStatus());
    Writer writer(t, now);
    for (size_t i = 0; i < batches.size(); ++i) {
      MUSTER_RETURN_IF_ERROR(writer.Store(batches[i], outcomes[i]));
    }
    return OkStatus();
  }));
  return outcomes;
}

StatusOr<std::vector<CheckStateRow>> HistoryStore::StatesOf(std::string_view agent) {
  StateFilter filter;
  filter.agent = std::string(agent);
  return ListStates(filter, "", 0, 1'000'000);
}

StatusOr<std::vector<CheckStateRow>> HistoryStore::ListStates(const StateFilter& filter,
                                                              std::string_view after_agent,
                                                              uint32_t after_check, uint32_t limit) {
  std::vector<CheckStateRow> states;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    const std::string sql = fmt::format(
        "SELECT {} FROM states WHERE (agent, check_id) > ($1, $2) {}{}{}ORDER BY agent, check_id LIMIT $3",
        kStateColumns, filter.agent.empty() ? "AND $4 = '' " : "AND agent = $4 ",
        filter.check_id.has_value() ? "AND check_id = $5 " : "AND $5 = 0 ", StatusList(filter.status));
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query(sql, {after_agent, int64_t{after_check}, int64_t{limit},
                                          std::string_view(filter.agent), int64_t{filter.check_id.value_or(0)}}));
    MUSTER_ASSIGN_OR_RETURN(states, ReadStates(rows));
    return OkStatus();
  }));
  return states;
}

StatusOr<std::vector<CheckStateRow>> HistoryStore::ChangedStates(uint64_t after, uint32_t limit) {
  std::vector<CheckStateRow> states;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM states WHERE revision > $1 ORDER BY revision LIMIT $2", kStateColumns),
                {Signed(after), int64_t{limit}}));
    MUSTER_ASSIGN_OR_RETURN(states, ReadStates(rows));
    return OkStatus();
  }));
  return states;
}

StatusOr<std::vector<HistoryStore::RemovedState>> HistoryStore::RemovedStates(uint64_t after, uint32_t limit) {
  std::vector<RemovedState> removed;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT agent, check_id, revision FROM removed_states WHERE revision > $1 "
                                    "ORDER BY revision LIMIT $2",
                                    {Signed(after), int64_t{limit}}));
    removed.clear();
    for (const sql::Row& row : rows) {
      removed.push_back({row.Text(0), static_cast<uint32_t>(row.Int(1)), Unsigned(row.Int(2))});
    }
    return OkStatus();
  }));
  return removed;
}

StatusOr<uint64_t> HistoryStore::StateRevision() {
  int64_t revision = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(revision, LastValue(t, kStateRevision));
    return OkStatus();
  }));
  return Unsigned(revision);
}

StatusOr<uint32_t> HistoryStore::KeepOnly(std::string_view agent, const std::vector<uint32_t>& check_ids,
                                          absl::Time now) {
  uint32_t removed = 0;
  std::string kept = "0";
  for (const uint32_t id : check_ids) kept += fmt::format(", {}", id);
  const std::string sql = fmt::format("SELECT check_id FROM states WHERE agent = $1 AND check_id NOT IN ({})", kept);
  bool any = false;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query(sql, {agent}));
    any = !rows.empty();
    return OkStatus();
  }));
  if (!any) return removed;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query(sql, {agent}));
    removed = static_cast<uint32_t>(rows.size());
    for (const sql::Row& row : rows) MUSTER_RETURN_IF_ERROR(RemoveState(t, agent, row.Int(0), now));
    return OkStatus();
  }));
  return removed;
}

Status HistoryStore::ApplyTransition(const CheckStateRow& row, const TransitionRow& transition) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT revision FROM states WHERE agent = $1 AND check_id = $2",
                                    {std::string_view(row.agent), int64_t{row.check_id}}));
    if (rows.empty() || Unsigned(rows[0].Int(0)) != row.revision) {
      return Aborted("the state of check {} on {} has changed meanwhile", row.check_id, row.agent);
    }
    MUSTER_ASSIGN_OR_RETURN(const int64_t revision, NextValue(t, kStateRevision));
    MUSTER_RETURN_IF_ERROR(PutState(t, row, revision));
    MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "transition"));
    return PutTransition(t, transition, id);
  });
}

StatusOr<std::vector<TransitionRow>> HistoryStore::TransitionsAfter(uint64_t after, uint32_t limit) {
  std::vector<TransitionRow> transitions;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM transitions WHERE id > $1 ORDER BY id LIMIT $2", kTransitionColumns),
                {Signed(after), int64_t{limit}}));
    transitions = ReadTransitions(rows);
    return OkStatus();
  }));
  return transitions;
}

StatusOr<std::vector<TransitionRow>> HistoryStore::ListTransitions(const StateFilter& filter, absl::Time since,
                                                                   uint32_t limit) {
  std::vector<TransitionRow> transitions;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM transitions WHERE at >= $1 {}{}ORDER BY id DESC LIMIT $2",
                            kTransitionColumns, filter.agent.empty() ? "AND $3 = '' " : "AND agent = $3 ",
                            filter.check_id.has_value() ? "AND check_id = $4 " : "AND $4 = 0 "),
                {sql::ToMicros(since), int64_t{limit}, std::string_view(filter.agent),
                 int64_t{filter.check_id.value_or(0)}}));
    transitions = ReadTransitions(rows);
    return OkStatus();
  }));
  return transitions;
}

Status HistoryStore::ReadSegments(std::string_view agent, absl::Time since, absl::Time until,
                                  const std::function<bool(const Segment&)>& take) {
  constexpr int64_t kPage = 64;
  int64_t after_log = 0;
  int64_t after_sequence = 0;
  // Page by page, so that no transaction stays open while a reader takes its time.
  while (true) {
    std::vector<Segment> segments;
    MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(
          const sql::Rows rows,
          t.Query("SELECT l.log_epoch, s.first_sequence, s.last_sequence, s.payload, s.log_id FROM agents a "
                  "JOIN logs l ON l.agent_id = a.id JOIN segments s ON s.log_id = l.id "
                  "WHERE a.name = $1 AND (s.log_id, s.first_sequence) > ($2, $3) AND s.last_at >= $4 "
                  "AND s.first_at <= $5 ORDER BY s.log_id, s.first_sequence LIMIT $6",
                  {agent, after_log, after_sequence, sql::ToMicros(since), sql::ToMicros(until), kPage}));
      segments.clear();
      for (const sql::Row& row : rows) {
        segments.push_back({std::string(agent), row.Text(0), Unsigned(row.Int(1)), Unsigned(row.Int(2)), row.Text(3)});
        after_log = row.Int(4);
        after_sequence = row.Int(1);
      }
      return OkStatus();
    }));
    for (const Segment& segment : segments) {
      if (!take(segment)) return OkStatus();
    }
    if (segments.size() < static_cast<size_t>(kPage)) return OkStatus();
  }
}

StatusOr<uint64_t> HistoryStore::DropSegmentsBefore(absl::Time cutoff, uint32_t limit) {
  int64_t dropped = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT log_id, first_sequence FROM segments WHERE last_at < $1 LIMIT $2",
                                    {sql::ToMicros(cutoff), int64_t{limit}}));
    dropped = static_cast<int64_t>(rows.size());
    for (const sql::Row& row : rows) {
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM segments WHERE log_id = $1 AND first_sequence = $2",
                                       {row.Int(0), row.Int(1)})
                                 .status());
    }
    return OkStatus();
  }));
  return Unsigned(dropped);
}

StatusOr<HistoryStore::Size> HistoryStore::HistorySize() {
  Size size;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT count(*), coalesce(sum(results), 0), coalesce(sum(length(payload)), 0) "
                                    "FROM segments"));
    size = {Unsigned(rows[0].Int(0)), Unsigned(rows[0].Int(1)), Unsigned(rows[0].Int(2))};
    return OkStatus();
  }));
  return size;
}

}  // namespace muster::control
