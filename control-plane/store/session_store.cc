#include "control-plane/store/session_store.h"

#include <algorithm>
#include <deque>

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

// One transaction's openings: reads all of them, then writes all of them.
class Openings {
 public:
  Openings(sql::Transaction& t, const std::vector<const SessionOpening*>& openings)
      : t_(t), openings_(openings), found_(openings.size()) {}

  Status Run(std::vector<StatusOr<OpenedSession>>& answers) {
    MUSTER_RETURN_IF_ERROR(ReadAll());
    answers.clear();
    for (size_t i = 0; i < openings_.size(); ++i) {
      MUSTER_RETURN_IF_ERROR(TakeIn(i));
      answers.push_back(found_[i].answer);
    }
    MUSTER_RETURN_IF_ERROR(BeginLogs());
    return WriteAll();
  }

 private:
  struct Found {
    int64_t agent_id = 0;
    bool has_log = false;
    std::string observations;  // of the log before, which are still the newest there are
    StatusOr<OpenedSession> answer = NotFound("no such agent");
  };

  Status ReadAll() {
    ManyRows rows(
        "SELECT v.column1, a.id, a.labels, a.session_epoch, a.revoked, l.committed, p.observations "
        "FROM (",
        2,
        ") AS v JOIN agents a ON a.name = v.column1 "
        "LEFT JOIN logs l ON l.agent_id = a.id AND l.log_epoch = v.column2 "
        "LEFT JOIN logs p ON p.agent_id = a.id AND p.log_epoch = a.log_epoch");
    std::map<std::string, size_t, std::less<>> places;
    for (size_t i = 0; i < openings_.size(); ++i) {
      places[openings_[i]->agent] = i;
      rows.Add({std::string_view(openings_[i]->agent), std::string_view(openings_[i]->log_epoch)});
    }
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows read, rows.Query(t_));
    for (const sql::Row& row : read) Take(row, found_[places.at(row.Text(0))]);
    return OkStatus();
  }

  static void Take(const sql::Row& row, Found& found) {
    found.agent_id = row.Int(1);
    if (row.Int(4) != 0) {
      found.answer = PermissionDenied("agent {} was revoked", row.Text(0));
      return;
    }
    found.has_log = !row.IsNull(5);
    if (!row.IsNull(6)) found.observations = row.Text(6);
    found.answer = OpenedSession{.epoch = Unsigned(row.Int(3)) + 1,
                                 .committed_sequence = found.has_log ? Unsigned(row.Int(5)) : 0,
                                 .labels = UnpackMap(row.Text(2))};
  }

  // Who is not known, unless a failover forgot him, gets an answer of his own.
  Status TakeIn(size_t i) {
    if (found_[i].agent_id != 0) return OkStatus();
    const Status readmitted = Readmit(t_, *openings_[i]);
    if (absl::IsNotFound(readmitted)) {
      found_[i].answer = readmitted;
      return OkStatus();
    }
    MUSTER_RETURN_IF_ERROR(readmitted);
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t_.Query("SELECT id, session_epoch FROM agents WHERE name = $1",
                                     {std::string_view(openings_[i]->agent)}));
    found_[i].agent_id = rows[0].Int(0);
    found_[i].answer = OpenedSession{.epoch = Unsigned(rows[0].Int(1)) + 1};
    return OkStatus();
  }

  // Logs that were never seen, at 0.
  Status BeginLogs() {
    int64_t wanted = 0;
    for (const Found& found : found_) wanted += found.answer.ok() && !found.has_log ? 1 : 0;
    if (wanted == 0) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(int64_t id, NextValue(t_, "log", wanted));
    ManyRows rows("INSERT INTO logs (agent_id, log_epoch, id, committed, observations) ", 5);
    for (size_t i = 0; i < openings_.size(); ++i) {
      const Found& found = found_[i];
      if (!found.answer.ok() || found.has_log) continue;
      rows.Add({found.agent_id, std::string_view(openings_[i]->log_epoch), id++, int64_t{0},
                sql::Bytes{found.observations}});
    }
    return rows.Send(t_);
  }

  Status WriteAll() {
    ManyRows rows(
        "UPDATE agents SET session_epoch = v.column2, replica = v.column3, connected = 1, "
        "orphaned = 0, last_seen_at = v.column4, disconnected_at = NULL, version = v.column5, "
        "boot_id = v.column6, log_epoch = v.column7, clock_skew_us = v.column8, facts = v.column9 "
        "FROM (",
        9, ") AS v WHERE agents.id = v.column1");
    std::deque<std::string> facts;  // parameters borrow them
    for (size_t i = 0; i < openings_.size(); ++i) {
      if (!found_[i].answer.ok()) continue;
      const SessionOpening& opening = *openings_[i];
      facts.push_back(PackMap(opening.facts));
      rows.Add({found_[i].agent_id, Signed(found_[i].answer->epoch),
                std::string_view(opening.replica), sql::ToMicros(opening.now),
                std::string_view(opening.version), std::string_view(opening.boot_id),
                std::string_view(opening.log_epoch), absl::ToInt64Microseconds(opening.clock_skew),
                std::string_view(facts.back())});
    }
    if (rows.empty()) return OkStatus();
    return rows.Send(t_);
  }

  sql::Transaction& t_;
  const std::vector<const SessionOpening*>& openings_;
  std::vector<Found> found_;
};

}  // namespace

StatusOr<OpenedSession> SessionStore::Open(const SessionOpening& opening) {
  MUSTER_ASSIGN_OR_RETURN(auto answers, OpenMany({&opening}));
  return std::move(answers.front());
}

StatusOr<std::vector<StatusOr<OpenedSession>>> SessionStore::OpenMany(
    const std::vector<const SessionOpening*>& openings) {
  std::vector<StatusOr<OpenedSession>> answers;
  if (openings.empty()) return answers;
  MUSTER_RETURN_IF_ERROR(
      database_.Write([&](sql::Transaction& t) { return Openings(t, openings).Run(answers); }));
  return answers;
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
        t.Query(
            fmt::format("SELECT {} FROM agents a LEFT JOIN replicas r ON r.id = a.replica "
                        "WHERE a.connected = 0 AND a.revoked = 0 AND a.last_seen_at IS NOT NULL "
                        "ORDER BY a.name",
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
