#include "control-plane/store/history_store.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "control-plane/store/batch_writer.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/observations.h"
#include "control-plane/store/state_rows.h"

namespace muster::control {
namespace {

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

// Where OK is not wanted it says so once more, in the words of the index states_in_trouble.
std::string StatusList(std::string_view column, const std::vector<v1::CheckStatus>& statuses) {
  std::string list;
  bool trouble = true;
  for (const v1::CheckStatus status : statuses) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", static_cast<int>(status));
    trouble = trouble && status != v1::CHECK_STATUS_OK;
  }
  if (list.empty()) return "";
  return fmt::format("AND {0} IN ({1}) {2}", column, list,
                     trouble ? fmt::format("AND {} <> 1 ", column) : "");
}

// Sets when states were last observed: their agents' logs know it, the rows only since they
// changed.
Status SetObserved(sql::Transaction& t, std::vector<CheckStateRow>& states) {
  if (states.empty()) return OkStatus();
  ManyRows agents("SELECT a.name, l.observations FROM (", 1,
                  ") AS v JOIN agents a ON a.name = v.column1 JOIN logs l ON l.agent_id = a.id "
                  "AND l.log_epoch = a.log_epoch");
  std::string_view last;
  for (const CheckStateRow& state : states) {
    if (state.agent != last) agents.Add({std::string_view(state.agent)});
    last = state.agent;
  }
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, agents.Query(t));
  absl::flat_hash_map<std::string, ObservationsByCheck> of;
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(of[row.Text(0)], UnpackObservations(row.Text(1)));
  }
  for (CheckStateRow& state : states) {
    const ObservationsByCheck& known = of[state.agent];
    const auto found = known.find(state.check_id);
    if (found == known.end() || found->second.at <= state.observed_at) continue;
    state.observed_at = found->second.at;
    state.latency = found->second.latency;
  }
  return OkStatus();
}

constexpr uint32_t kAllStates = 1'000'000;

// By (agent, check_id), after the position.
StatusOr<std::vector<CheckStateRow>> QueryStates(sql::Transaction& t, const StateFilter& filter,
                                                 std::string_view after_agent, uint32_t after_check,
                                                 uint32_t limit) {
  const std::string sql = fmt::format(
      "SELECT {} FROM states WHERE (agent, check_id) > ($1, $2) {}{}{}ORDER BY agent, check_id "
      "LIMIT $3",
      kStateColumns, filter.agent.empty() ? "AND $4 = '' " : "AND agent = $4 ",
      filter.check_id.has_value() ? "AND check_id = $5 " : "AND $5 = 0 ",
      StatusList("status", filter.status));
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(sql, {after_agent, int64_t{after_check}, int64_t{limit},
                    std::string_view(filter.agent), int64_t{filter.check_id.value_or(0)}}));
  MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> states, ReadStates(rows));
  MUSTER_RETURN_IF_ERROR(SetObserved(t, states));
  return states;
}

// The places of the changes whose states are what they were judged by.
StatusOr<std::vector<size_t>> StillSo(sql::Transaction& t,
                                      const std::vector<DecidedState>& changes) {
  std::map<std::string_view, std::map<uint32_t, CheckStateRow>> known;
  std::vector<size_t> still;
  for (size_t i = 0; i < changes.size(); ++i) {
    const CheckStateRow& state = changes[i].state;
    const auto [of, first] = known.try_emplace(state.agent);
    if (first) {
      StateFilter filter;
      filter.agent = state.agent;
      MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> rows,
                              QueryStates(t, filter, "", 0, kAllStates));
      for (CheckStateRow& row : rows) of->second.emplace(row.check_id, std::move(row));
    }
    const auto now = of->second.find(state.check_id);
    if (now != of->second.end() && now->second.revision == state.revision &&
        now->second.observed_at <= state.observed_at) {
      still.push_back(i);
    }
  }
  return still;
}

// With revision in (after, until], ascending.
StatusOr<std::vector<RemovedState>> QueryRemoved(sql::Transaction& t, uint64_t after,
                                                 uint64_t until, uint32_t limit) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query("SELECT agent, check_id, revision FROM removed_states WHERE revision > $1 "
              "AND revision <= $2 ORDER BY revision LIMIT $3",
              {Signed(after), Signed(until), int64_t{limit}}));
  std::vector<RemovedState> removed;
  for (const sql::Row& row : rows) {
    removed.push_back({row.Text(0), static_cast<uint32_t>(row.Int(1)), Unsigned(row.Int(2))});
  }
  return removed;
}

constexpr size_t kSegmentsAPage = 64;

using Log = SegmentCursor::Log;
using Position = SegmentCursor::Position;

StatusOr<std::vector<Log>> LogsOf(sql::Transaction& t, std::string_view agent) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          t.Query("SELECT l.id, l.log_epoch FROM agents a JOIN logs l "
                                  "ON l.agent_id = a.id WHERE a.name = $1 ORDER BY l.id",
                                  {agent}));
  std::vector<Log> logs;
  for (const sql::Row& row : rows) logs.push_back({row.Int(0), row.Text(1)});
  return logs;
}

// The log's next segments after the position, which moves on.
StatusOr<std::vector<Segment>> ReadPage(sql::Transaction& t, std::string_view agent, const Log& log,
                                        absl::Time until, Position& after) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      // That last_at is at least $2 follows; it lets PostgreSQL leave out the days before.
      t.Query("SELECT first_sequence, last_sequence, payload, last_at FROM segments WHERE "
              "log_id = $1 AND (last_at, first_sequence) > ($2, $3) AND last_at >= $2 AND first_at "
              "<= $4 "
              "ORDER BY last_at, first_sequence LIMIT $5",
              {log.id, after.last_at, after.first_sequence, sql::ToMicros(until),
               int64_t{kSegmentsAPage}}));
  std::vector<Segment> page;
  for (const sql::Row& row : rows) {
    page.push_back(
        {std::string(agent), log.epoch, Unsigned(row.Int(0)), Unsigned(row.Int(1)), row.Text(2)});
    after = {row.Int(3), row.Int(0)};
  }
  return page;
}

}  // namespace

StatusOr<std::vector<Status>> HistoryStore::Commit(const std::vector<BatchCommit>& batches,
                                                   absl::Time now,
                                                   std::vector<RefusedReport>* refused) {
  std::vector<Status> outcomes;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    BatchWriter writer(t, batches, now);
    const Status stored = writer.Store(outcomes);
    if (refused != nullptr) *refused = writer.refused();
    return stored;
  }));
  return outcomes;
}

StatusOr<AgentStates> HistoryStore::SessionStates(std::string_view agent) {
  AgentStates states;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT states_epoch FROM agents WHERE name = $1", {agent}));
    states.epoch = rows.empty() ? 0 : Unsigned(rows[0].Int(0));
    StateFilter filter;
    filter.agent = std::string(agent);
    MUSTER_ASSIGN_OR_RETURN(states.rows, QueryStates(t, filter, "", 0, kAllStates));
    return OkStatus();
  }));
  return states;
}

StatusOr<std::vector<CheckStateRow>> HistoryStore::StatesOf(std::string_view agent) {
  MUSTER_ASSIGN_OR_RETURN(AgentStates states, SessionStates(agent));
  return std::move(states.rows);
}

StatusOr<std::vector<CheckStateRow>> HistoryStore::ListStates(const StateFilter& filter,
                                                              std::string_view after_agent,
                                                              uint32_t after_check,
                                                              uint32_t limit) {
  std::vector<CheckStateRow> states;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(states, QueryStates(t, filter, after_agent, after_check, limit));
    return OkStatus();
  }));
  return states;
}

StatusOr<StateChanges> HistoryStore::ChangesAfter(uint64_t after, uint32_t limit) {
  StateChanges found;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    // Revisions are given out in the order of commits: none at or below this one is yet to come.
    MUSTER_ASSIGN_OR_RETURN(const int64_t newest, LastValue(t, kStateRevision));
    found = {.through = std::max(after, Unsigned(newest)), .newest = Unsigned(newest)};
    if (found.newest <= after) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM states WHERE revision > $1 AND revision <= $2 "
                            "ORDER BY revision LIMIT $3",
                            kStateColumns),
                {Signed(after), newest, int64_t{limit}}));
    MUSTER_ASSIGN_OR_RETURN(std::vector<CheckStateRow> states, ReadStates(rows));
    MUSTER_ASSIGN_OR_RETURN(const std::vector<RemovedState> removed,
                            QueryRemoved(t, after, found.newest, limit));
    if (states.size() == limit) found.through = states.back().revision;
    if (removed.size() == limit) found.through = std::min(found.through, removed.back().revision);
    for (CheckStateRow& state : states) found.changes.push_back({.row = std::move(state)});
    for (const RemovedState& state : removed) {
      StateChange& change = found.changes.emplace_back();
      change.removed = true;
      change.row.agent = state.agent;
      change.row.check_id = state.check_id;
      change.row.revision = state.revision;
      change.row.since = change.row.observed_at = absl::UnixEpoch();
    }
    return OkStatus();
  }));
  std::erase_if(found.changes,
                [&](const StateChange& change) { return change.row.revision > found.through; });
  std::sort(
      found.changes.begin(), found.changes.end(),
      [](const StateChange& a, const StateChange& b) { return a.row.revision < b.row.revision; });
  return found;
}

StatusOr<std::vector<RemovedState>> HistoryStore::RemovedStates(uint64_t after, uint32_t limit) {
  std::vector<RemovedState> removed;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(removed,
                            QueryRemoved(t, after, std::numeric_limits<int64_t>::max(), limit));
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

StatusOr<uint32_t> HistoryStore::KeepOnly(std::string_view agent,
                                          const std::vector<uint32_t>& check_ids, absl::Time now) {
  const std::set<int64_t> kept(check_ids.begin(), check_ids.end());
  std::vector<int64_t> gone;
  const auto look = [&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT check_id FROM states WHERE agent = $1", {agent}));
    gone.clear();
    for (const sql::Row& row : rows) {
      if (!kept.contains(row.Int(0))) gone.push_back(row.Int(0));
    }
    return OkStatus();
  };
  // Most of the time nothing goes, and then nothing is written.
  MUSTER_RETURN_IF_ERROR(database_.Read(look));
  if (gone.empty()) return 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(look(t));
    for (const int64_t id : gone) MUSTER_RETURN_IF_ERROR(RemoveState(t, agent, id, now));
    return OkStatus();
  }));
  return static_cast<uint32_t>(gone.size());
}

StatusOr<std::vector<size_t>> HistoryStore::ApplyTransitions(
    LeaderEpoch epoch, const std::vector<DecidedState>& changes) {
  std::vector<size_t> applied;
  if (changes.empty()) return applied;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(applied, StillSo(t, changes));
    if (applied.empty()) return OkStatus();
    std::set<std::string_view> agents;
    std::vector<const CheckStateRow*> states;
    std::vector<const TransitionRow*> transitions;
    for (const size_t i : applied) {
      agents.insert(changes[i].state.agent);
      states.push_back(&changes[i].state);
      transitions.push_back(&changes[i].transition);
    }
    for (const std::string_view agent : agents) {
      // A batch that is on its way was judged by what was so before.
      MUSTER_RETURN_IF_ERROR(
          t.Execute("UPDATE agents SET states_epoch = states_epoch + 1 WHERE name = $1", {agent})
              .status());
    }
    return PutStatesAndTransitions(t, states, transitions);
  }));
  return applied;
}

StatusOr<std::vector<TransitionRow>> HistoryStore::TransitionsAfter(uint64_t after,
                                                                    uint32_t limit) {
  std::vector<TransitionRow> transitions;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM transitions WHERE id > $1 ORDER BY id LIMIT $2",
                            kTransitionColumns),
                {Signed(after), int64_t{limit}}));
    transitions = ReadTransitions(rows);
    return OkStatus();
  }));
  return transitions;
}

StatusOr<std::vector<TransitionRow>> HistoryStore::ListTransitions(const StateFilter& filter,
                                                                   absl::Time since,
                                                                   uint32_t limit) {
  std::vector<TransitionRow> transitions;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format(
                    "SELECT {} FROM transitions WHERE at >= $1 {}{}{}ORDER BY id DESC LIMIT $2",
                    kTransitionColumns, filter.agent.empty() ? "AND $3 = '' " : "AND agent = $3 ",
                    filter.check_id.has_value() ? "AND check_id = $4 " : "AND $4 = 0 ",
                    StatusList("to_status", filter.status)),
                {sql::ToMicros(since), int64_t{limit}, std::string_view(filter.agent),
                 int64_t{filter.check_id.value_or(0)}}));
    transitions = ReadTransitions(rows);
    return OkStatus();
  }));
  return transitions;
}

StatusOr<std::vector<Segment>> HistoryStore::NextSegments(SegmentCursor& cursor) {
  const Position begin{sql::ToMicros(cursor.since), -1};
  std::vector<Segment> page;
  SegmentCursor next;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    page.clear();
    next = cursor;
    if (!next.logs.has_value()) {
      MUSTER_ASSIGN_OR_RETURN(next.logs, LogsOf(t, next.agent));
      next.after = begin;
    }
    while (page.empty() && next.log < next.logs->size()) {
      MUSTER_ASSIGN_OR_RETURN(
          page, ReadPage(t, next.agent, (*next.logs)[next.log], next.until, next.after));
      if (page.size() == kSegmentsAPage) break;
      ++next.log;
      next.after = begin;
    }
    return OkStatus();
  }));
  cursor = std::move(next);
  return page;
}

Status HistoryStore::ReadSegments(std::string_view agent, absl::Time since, absl::Time until,
                                  const std::function<bool(const Segment&)>& take) {
  SegmentCursor cursor{.agent = std::string(agent), .since = since, .until = until};
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<Segment> page, NextSegments(cursor));
    if (page.empty()) return OkStatus();
    for (const Segment& segment : page) {
      if (!take(segment)) return OkStatus();
    }
  }
}

StatusOr<int64_t> HistoryStore::MakeDays(absl::Time from, absl::Time until) {
  return database_.MakeDays("segments", from, until);
}

StatusOr<uint64_t> HistoryStore::DropSegmentsBefore(LeaderEpoch epoch, absl::Time cutoff,
                                                    uint32_t limit) {
  MUSTER_RETURN_IF_ERROR(
      database_.Write([&](sql::Transaction& t) { return CheckLeader(t, epoch); }));
  MUSTER_ASSIGN_OR_RETURN(const std::optional<int> days, database_.DropDays("segments", cutoff));
  const std::string_view table = days.has_value() ? "segments_other" : "segments";
  uint64_t dropped = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    // Log by log, each from its oldest end: never through the whole history.
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT s.log_id, s.last_at, s.first_sequence FROM logs l "
                            "CROSS JOIN {} s WHERE s.log_id = l.id AND s.last_at < $1 LIMIT $2",
                            table),
                {sql::ToMicros(cutoff), int64_t{limit}}));
    dropped = rows.size();
    for (const sql::Row& row : rows) {
      MUSTER_RETURN_IF_ERROR(
          t.Execute(fmt::format("DELETE FROM {} WHERE log_id = $1 AND last_at = $2 AND "
                                "first_sequence = $3",
                                table),
                    {row.Int(0), row.Int(1), row.Int(2)})
              .status());
    }
    return OkStatus();
  }));
  return dropped;
}

StatusOr<HistoryStore::Size> HistoryStore::HistorySize() {
  Size size;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT count(*), coalesce(sum(results), 0), coalesce(sum(length(payload)), 0) "
                "FROM segments"));
    size = {Unsigned(rows[0].Int(0)), Unsigned(rows[0].Int(1)), Unsigned(rows[0].Int(2))};
    return OkStatus();
  }));
  return size;
}

}  // namespace muster::control
