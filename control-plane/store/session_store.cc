#include "control-plane/store/session_store.h"

#include <algorithm>

#include "control-plane/store/audit.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"
#include "control-plane/store/recovery.h"

namespace muster::control {
namespace {

// The columns of an AgentSession, of `agents a` and `replicas r`.
constexpr std::string_view kSessionColumns =
    "a.name, a.session_epoch, a.replica, a.connected, a.orphaned, CASE WHEN a.connected = 1 "
    "AND r.seen_at > a.last_seen_at THEN r.seen_at ELSE a.last_seen_at END, a.disconnected_at, "
    "a.revoked, a.last_seen_at";
// Those, and the rest of an AgentRow. To be finished with a condition.
std::string AgentQuery(std::string_view rest) {
  return fmt::format(
      "SELECT {}, a.labels, a.version, a.boot_id, a.log_epoch, coalesce(l.committed, 0), "
      "a.clock_skew_us, a.facts, a.certificate_expires_at FROM agents a "
      "LEFT JOIN logs l ON l.agent_id = a.id AND l.log_epoch = a.log_epoch "
      "LEFT JOIN replicas r ON r.id = a.replica {}",
      kSessionColumns, rest);
}
// Of the agents' rows: their session is held by a replica that is not there any more.
constexpr std::string_view kStray =
    "connected = 1 AND replica NOT IN (SELECT id FROM replicas WHERE lost_at IS NULL)";

void ReadSession(const sql::Row& row, AgentSession& session) {
  session.name = row.Text(0);
  session.session_epoch = Unsigned(row.Int(1));
  session.replica = row.Text(2);
  session.connected = row.Int(3) != 0;
  session.orphaned = row.Int(4) != 0;
  session.last_seen_at = TimeOr(row, 5, absl::InfinitePast());
  session.disconnected_at = TimeOr(row, 6, absl::InfiniteFuture());
  session.revoked = row.Int(7) != 0;
  session.connected_since =
      session.connected ? TimeOr(row, 8, absl::InfinitePast()) : absl::InfiniteFuture();
}

std::vector<AgentSession> ReadSessions(const sql::Rows& rows) {
  std::vector<AgentSession> sessions(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) ReadSession(rows[i], sessions[i]);
  return sessions;
}

AgentRow ReadAgent(const sql::Row& row) {
  AgentRow agent;
  ReadSession(row, agent);
  agent.labels = UnpackMap(row.Text(9));
  agent.version = row.Text(10);
  agent.boot_id = row.Text(11);
  agent.log_epoch = row.Text(12);
  agent.committed_sequence = Unsigned(row.Int(13));
  agent.clock_skew = absl::Microseconds(row.Int(14));
  agent.facts = UnpackMap(row.Text(15));
  agent.certificate_expires_at = TimeOr(row, 16, absl::InfinitePast());
  return agent;
}

// The log's cursor, made at 0 when the log is new.
StatusOr<uint64_t> CursorOf(sql::Transaction& t, int64_t agent_id, std::string_view log_epoch) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query("SELECT committed FROM logs WHERE agent_id = $1 AND log_epoch = $2",
              {agent_id, log_epoch}));
  if (!rows.empty()) return Unsigned(rows[0].Int(0));
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "log"));
  // What was observed under the log before is still the newest there is.
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows before,
      t.Query("SELECT l.observations FROM agents a JOIN logs l ON l.agent_id = a.id "
              "AND l.log_epoch = a.log_epoch WHERE a.id = $1",
              {agent_id}));
  const std::string_view observations = before.empty() ? std::string_view() : before[0].Text(0);
  MUSTER_RETURN_IF_ERROR(
      t.Execute("INSERT INTO logs (agent_id, log_epoch, id, committed, observations) "
                "VALUES ($1, $2, $3, 0, $4)",
                {agent_id, log_epoch, id, sql::Bytes{observations}})
          .status());
  return uint64_t{0};
}

StatusOr<sql::Rows> FindAgent(sql::Transaction& t, std::string_view name) {
  return t.Query("SELECT id, labels, session_epoch, revoked FROM agents WHERE name = $1", {name});
}

// An agent whose joining was acknowledged and lost has a good certificate and no row. What it keeps
// is taken; its labels are lost with the token that gave them. Its number, which is new, also
// stands beyond every session epoch that was lost.
Status Readmit(sql::Transaction& t, const SessionOpening& opening) {
  MUSTER_ASSIGN_OR_RETURN(const bool recovered, WasRecovered(t));
  if (!recovered) return NotFound("agent {} is not known to this control plane", opening.agent);
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "agent"));
  MUSTER_RETURN_IF_ERROR(
      t.Execute("INSERT INTO agents (id, name, labels, revoked, session_epoch, replica, connected, "
                "version, boot_id, log_epoch, clock_skew_us, facts, states_epoch) "
                "VALUES ($1, $2, '{}', 0, $1, '', 0, '', '', '', 0, '{}', 0)",
                {id, std::string_view(opening.agent)})
          .status());
  return AppendAudit(t, {.actor = "control",
                         .action = "agent.readmit",
                         .subject = opening.agent,
                         .detail = "its row was lost with an older epoch of the store; it has no "
                                   "labels until it joins again",
                         .at = opening.now});
}

}  // namespace

StatusOr<OpenedSession> SessionStore::Open(const SessionOpening& opening) {
  OpenedSession opened;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(sql::Rows rows, FindAgent(t, opening.agent));
    if (rows.empty()) {
      MUSTER_RETURN_IF_ERROR(Readmit(t, opening));
      MUSTER_ASSIGN_OR_RETURN(rows, FindAgent(t, opening.agent));
    }
    if (rows[0].Int(3) != 0) return PermissionDenied("agent {} was revoked", opening.agent);
    MUSTER_ASSIGN_OR_RETURN(opened.committed_sequence,
                            CursorOf(t, rows[0].Int(0), opening.log_epoch));
    opened.labels = UnpackMap(rows[0].Text(1));
    opened.epoch = Unsigned(rows[0].Int(2)) + 1;
    const std::string facts = PackMap(opening.facts);
    return t
        .Execute(
            "UPDATE agents SET session_epoch = $1, replica = $2, connected = 1, orphaned = 0, "
            "last_seen_at = $3, "
            "disconnected_at = NULL, version = $4, boot_id = $5, log_epoch = $6, clock_skew_us = "
            "$7, "
            "facts = $8 WHERE id = $9",
            {Signed(opened.epoch), std::string_view(opening.replica), sql::ToMicros(opening.now),
             std::string_view(opening.version), std::string_view(opening.boot_id),
             std::string_view(opening.log_epoch), absl::ToInt64Microseconds(opening.clock_skew),
             std::string_view(facts), rows[0].Int(0)})
        .status();
  }));
  return opened;
}

Status SessionStore::Close(const std::vector<SessionEnd>& ends) {
  // One that was orphaned before keeps the moment that it ended at, and is not reclaimed.
  ManyRows rows(
      "UPDATE agents SET replica = '', "
      "last_seen_at = CASE WHEN connected = 1 THEN v.column3 ELSE last_seen_at END, "
      "disconnected_at = CASE WHEN connected = 1 THEN v.column4 ELSE disconnected_at END, "
      "orphaned = CASE WHEN connected = 1 THEN v.column5 ELSE orphaned END, connected = 0 FROM (",
      5,
      ") AS v WHERE agents.name = v.column1 AND agents.session_epoch = v.column2 "
      "AND (agents.connected = 1 OR agents.orphaned = 1)");
  for (const SessionEnd& end : ends) {
    rows.Add({std::string_view(end.agent), Signed(end.epoch),
              sql::ToMicros(std::min(end.heard_at, end.at)), sql::ToMicros(end.at),
              int64_t{end.parting == SessionEnd::Parting::kReplicas}});
  }
  if (rows.empty()) return OkStatus();
  return database_.Write([&](sql::Transaction& t) { return rows.Send(t); });
}

StatusOr<std::map<std::string, uint64_t>> SessionStore::Reclaim(std::string_view replica,
                                                                absl::Time now) {
  std::map<std::string, uint64_t> epochs;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(
        t.Execute("UPDATE agents SET connected = 1, orphaned = 0, disconnected_at = NULL, "
                  "last_seen_at = $2 "
                  "WHERE replica = $1 AND connected = 0 AND orphaned = 1 AND revoked = 0",
                  {replica, sql::ToMicros(now)})
            .status());
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT name, session_epoch FROM agents"));
    epochs.clear();
    for (const sql::Row& row : rows) epochs.emplace(row.Text(0), Unsigned(row.Int(1)));
    return OkStatus();
  }));
  return epochs;
}

StatusOr<uint64_t> SessionStore::CloseStrays(LeaderEpoch epoch, absl::Time now) {
  bool any = false;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query(fmt::format("SELECT 1 FROM agents WHERE {} LIMIT 1", kStray)));
    any = !rows.empty();
    return OkStatus();
  }));
  if (!any) return uint64_t{0};
  uint64_t closed = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t changed,
        t.Execute(fmt::format("UPDATE agents SET connected = 0, orphaned = 1, disconnected_at = "
                              "coalesce(last_seen_at, $1) WHERE {}",
                              kStray),
                  {sql::ToMicros(now)}));
    closed = Unsigned(changed);
    return OkStatus();
  }));
  return closed;
}

StatusOr<std::optional<AgentRow>> SessionStore::Find(std::string_view agent) {
  std::optional<AgentRow> found;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query(AgentQuery("WHERE a.name = $1"), {agent}));
    if (!rows.empty()) found = ReadAgent(rows[0]);
    return OkStatus();
  }));
  return found;
}

StatusOr<std::vector<AgentRow>> SessionStore::List(std::string_view after, uint32_t limit) {
  std::vector<AgentRow> agents;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(AgentQuery("WHERE a.name > $1 ORDER BY a.name LIMIT $2"), {after, int64_t{limit}}));
    agents.clear();
    for (const sql::Row& row : rows) agents.push_back(ReadAgent(row));
    return OkStatus();
  }));
  return agents;
}

StatusOr<Away> SessionStore::WithoutSession() {
  Away away;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM agents a LEFT JOIN replicas r ON r.id = a.replica "
                            "WHERE a.connected = 0 ORDER BY a.name",
                            kSessionColumns)));
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows count,
                            t.Query("SELECT count(*) FROM agents WHERE connected = 1"));
    away = {ReadSessions(rows), Unsigned(count[0].Int(0))};
    return OkStatus();
  }));
  return away;
}

StatusOr<std::vector<AgentSession>> SessionStore::Of(const std::set<std::string>& agents) {
  std::vector<AgentSession> sessions;
  if (agents.empty()) return sessions;
  ManyRows names(fmt::format("SELECT {} FROM (", kSessionColumns), 1,
                 ") AS v JOIN agents a ON a.name = v.column1 "
                 "LEFT JOIN replicas r ON r.id = a.replica ORDER BY a.name");
  for (const std::string& agent : agents) names.Add({std::string_view(agent)});
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, names.Query(t));
    sessions = ReadSessions(rows);
    return OkStatus();
  }));
  return sessions;
}

StatusOr<std::vector<GapRow>> SessionStore::Gaps(std::string_view agent, uint32_t limit) {
  std::vector<GapRow> gaps;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT g.log_epoch, g.gap, g.recorded_at FROM gaps g JOIN "
                                    "agents a ON a.id = g.agent_id "
                                    "WHERE a.name = $1 ORDER BY g.id DESC LIMIT $2",
                                    {agent, int64_t{limit}}));
    gaps.clear();
    for (const sql::Row& row : rows) {
      GapRow gap{std::string(agent), row.Text(0), {}, row.Time(2)};
      if (!gap.gap.ParseFromString(row.Text(1)))
        return DataLoss("a gap of agent {} is damaged", agent);
      gaps.push_back(std::move(gap));
    }
    return OkStatus();
  }));
  return gaps;
}

}  // namespace muster::control
