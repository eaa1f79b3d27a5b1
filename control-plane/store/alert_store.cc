#include "control-plane/store/alert_store.h"

#include "control-plane/store/columns.h"
#include "lib/base/seeded_bugs.h"

namespace muster::control {
namespace {

constexpr std::string_view kAlertColumns =
    "id, key, name, severity, state, check_name, agent, started_at, fired_at, resolved_at, "
    "summary, "
    "description, runbook, inhibited_by, told";
constexpr std::string_view kOutboxColumns =
    "id, alert_id, receiver, event, payload, state, attempts, created_at, next_attempt_at, "
    "delivered_at, last_error";
// Of the rows of one (alert, receiver) that wait; $1 is the state of waiting.
constexpr std::string_view kFirstOfItsPair =
    "NOT EXISTS (SELECT 1 FROM outbox e WHERE e.alert_id = o.alert_id AND e.receiver = o.receiver "
    "AND e.id < o.id AND e.state = $1)";
constexpr std::string_view kCursor = "alert_cursor";
constexpr int64_t kWaiting = static_cast<int64_t>(OutboxState::kWaiting);
constexpr int64_t kResolved = v1::ALERT_STATE_RESOLVED;

AlertRow ReadAlert(const sql::Row& row) {
  AlertRow alert;
  alert.id = row.Text(0);
  alert.key = row.Text(1);
  alert.name = row.Text(2);
  alert.severity = static_cast<v1::Severity>(row.Int(3));
  alert.state = static_cast<v1::AlertState>(row.Int(4));
  alert.check = row.Text(5);
  alert.agent = row.Text(6);
  alert.started_at = row.Time(7);
  alert.fired_at = TimeOr(row, 8, absl::InfinitePast());
  alert.resolved_at = TimeOr(row, 9, absl::InfiniteFuture());
  alert.summary = row.Text(10);
  alert.description = row.Text(11);
  alert.runbook = row.Text(12);
  alert.inhibited_by = row.Text(13);
  alert.told = row.Int(14) != 0;
  return alert;
}

OutboxRow ReadOutbox(const sql::Row& row) {
  OutboxRow outbox;
  outbox.id = Unsigned(row.Int(0));
  outbox.alert_id = row.Text(1);
  outbox.receiver = row.Text(2);
  outbox.event = row.Text(3);
  outbox.payload = row.Text(4);
  outbox.state = static_cast<OutboxState>(row.Int(5));
  outbox.attempts = static_cast<uint32_t>(row.Int(6));
  outbox.created_at = row.Time(7);
  outbox.next_attempt_at = row.Time(8);
  outbox.delivered_at = TimeOr(row, 9, absl::InfinitePast());
  outbox.last_error = row.Text(10);
  return outbox;
}

Status PutAlert(sql::Transaction& t, const AlertRow& alert) {
  return t
      .Execute(
          "INSERT INTO alerts (id, key, name, severity, state, check_name, agent, started_at, "
          "fired_at, "
          "resolved_at, summary, description, runbook, inhibited_by, told) "
          "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
          "ON CONFLICT (id) DO UPDATE SET name = excluded.name, severity = excluded.severity, "
          "state = excluded.state, fired_at = excluded.fired_at, resolved_at = "
          "excluded.resolved_at, "
          "summary = excluded.summary, description = excluded.description, runbook = "
          "excluded.runbook, "
          "inhibited_by = excluded.inhibited_by, told = excluded.told",
          {std::string_view(alert.id), std::string_view(alert.key), std::string_view(alert.name),
           int64_t{alert.severity}, int64_t{alert.state}, std::string_view(alert.check),
           std::string_view(alert.agent), sql::ToMicros(alert.started_at),
           TimeOrNull(alert.fired_at), TimeOrNull(alert.resolved_at),
           std::string_view(alert.summary), std::string_view(alert.description),
           std::string_view(alert.runbook), std::string_view(alert.inhibited_by),
           int64_t{alert.told}})
      .status();
}

Status PutEvent(sql::Transaction& t, const AlertEventRow& event) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "alert_event"));
  return t
      .Execute(
          "INSERT INTO alert_events (id, alert_id, at, what, reason) VALUES ($1, $2, $3, $4, $5)",
          {id, std::string_view(event.alert_id), sql::ToMicros(event.at),
           std::string_view(event.what), std::string_view(event.reason)})
      .status();
}

Status PutOutbox(sql::Transaction& t, const OutboxRow& row) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t id, NextValue(t, "outbox"));
  return t
      .Execute(
          "INSERT INTO outbox (id, alert_id, receiver, event, payload, state, attempts, "
          "created_at, "
          "next_attempt_at, delivered_at, last_error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
          "$10, $11)",
          {id, std::string_view(row.alert_id), std::string_view(row.receiver),
           std::string_view(row.event), sql::Bytes{row.payload}, static_cast<int64_t>(row.state),
           int64_t{row.attempts}, sql::ToMicros(row.created_at), sql::ToMicros(row.next_attempt_at),
           TimeOrNull(row.delivered_at), std::string_view(row.last_error)})
      .status();
}

}  // namespace

StatusOr<uint64_t> AlertStore::Cursor() {
  int64_t cursor = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(cursor, LastValue(t, kCursor));
    return OkStatus();
  }));
  return Unsigned(cursor);
}

Status AlertStore::Apply(LeaderEpoch epoch, const AlertDecision& decision) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(const int64_t cursor, LastValue(t, kCursor));
    if (Unsigned(cursor) != decision.expected_cursor) {
      return Aborted("the alerts were decided from transition {}, the store is at {}",
                     decision.expected_cursor, cursor);
    }
    if (decision.new_cursor != decision.expected_cursor) {
      MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO counters (name, value) VALUES ($1, $2) "
                                       "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                                       {kCursor, Signed(decision.new_cursor)})
                                 .status());
    }
    // Those that end make room for those that begin: at most one is open a key.
    for (const bool resolved : {true, false}) {
      for (const AlertRow& alert : decision.alerts) {
        if ((alert.state == v1::ALERT_STATE_RESOLVED) != resolved) continue;
        MUSTER_RETURN_IF_ERROR(PutAlert(t, alert));
      }
    }
    for (const AlertEventRow& event : decision.events) MUSTER_RETURN_IF_ERROR(PutEvent(t, event));
    if (Seeded(SeededBug::kForgetOutbox)) return OkStatus();
    for (const OutboxRow& row : decision.outbox) MUSTER_RETURN_IF_ERROR(PutOutbox(t, row));
    return OkStatus();
  });
}

StatusOr<std::vector<AlertRow>> AlertStore::Open() {
  std::vector<AlertRow> alerts;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM alerts WHERE state < $1 ORDER BY started_at, id",
                            kAlertColumns),
                {kResolved}));
    alerts.clear();
    for (const sql::Row& row : rows) alerts.push_back(ReadAlert(row));
    return OkStatus();
  }));
  return alerts;
}

StatusOr<std::vector<AlertRow>> AlertStore::List(const AlertFilter& filter, absl::Time before,
                                                 std::string_view before_id, uint32_t limit) {
  std::string states;
  for (const v1::AlertState state : filter.state) {
    states += fmt::format("{}{}", states.empty() ? "" : ", ", static_cast<int>(state));
  }
  if (states.empty()) states = "1, 2, 3";
  std::vector<AlertRow> alerts;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    const int64_t start = before == absl::InfiniteFuture() ? INT64_MAX : sql::ToMicros(before);
    const int64_t since = filter.resolved_since == absl::InfinitePast()
                              ? INT64_MIN
                              : sql::ToMicros(filter.resolved_since);
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            fmt::format("SELECT {} FROM alerts WHERE (started_at, id) < ($1, $2) AND state IN ({}) "
                        "AND (resolved_at IS NULL OR resolved_at >= $3) "
                        "ORDER BY started_at DESC, id DESC LIMIT $4",
                        kAlertColumns, states),
            {start, before_id, since, int64_t{limit}}));
    alerts.clear();
    for (const sql::Row& row : rows) alerts.push_back(ReadAlert(row));
    return OkStatus();
  }));
  return alerts;
}

StatusOr<std::optional<AlertRow>> AlertStore::Find(std::string_view id) {
  std::optional<AlertRow> found;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM alerts WHERE id = $1", kAlertColumns), {id}));
    if (!rows.empty()) found = ReadAlert(rows[0]);
    return OkStatus();
  }));
  return found;
}

StatusOr<std::vector<AlertEventRow>> AlertStore::Events(std::string_view id) {
  std::vector<AlertEventRow> events;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            "SELECT alert_id, at, what, reason FROM alert_events WHERE alert_id = $1 ORDER BY id",
            {id}));
    events.clear();
    for (const sql::Row& row : rows)
      events.push_back({row.Text(0), row.Time(1), row.Text(2), row.Text(3)});
    return OkStatus();
  }));
  return events;
}

StatusOr<std::vector<OutboxRow>> AlertStore::Deliveries(std::string_view id) {
  std::vector<OutboxRow> deliveries;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            fmt::format("SELECT {} FROM outbox WHERE alert_id = $1 ORDER BY id", kOutboxColumns),
            {id}));
    deliveries.clear();
    for (const sql::Row& row : rows) deliveries.push_back(ReadOutbox(row));
    return OkStatus();
  }));
  return deliveries;
}

StatusOr<std::vector<OutboxRow>> AlertStore::Due(absl::Time now, uint32_t limit) {
  std::vector<OutboxRow> due;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            fmt::format("SELECT {} FROM outbox o WHERE state = $1 AND next_attempt_at <= $2 AND {} "
                        "ORDER BY id LIMIT $3",
                        kOutboxColumns, kFirstOfItsPair),
            {kWaiting, sql::ToMicros(now), int64_t{limit}}));
    due.clear();
    for (const sql::Row& row : rows) due.push_back(ReadOutbox(row));
    return OkStatus();
  }));
  return due;
}

StatusOr<absl::Time> AlertStore::NextDue() {
  absl::Time next = absl::InfiniteFuture();
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT min(next_attempt_at) FROM outbox o WHERE state = $1 AND {}",
                            kFirstOfItsPair),
                {kWaiting}));
    next = TimeOr(rows[0], 0, absl::InfiniteFuture());
    return OkStatus();
  }));
  return next;
}

Status AlertStore::RecordAttempt(LeaderEpoch epoch, const OutboxRow& row) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    return t
        .Execute(
            "UPDATE outbox SET state = $1, attempts = $2, next_attempt_at = $3, delivered_at = $4, "
            "last_error = $5 WHERE id = $6 AND state <> $7",
            {static_cast<int64_t>(row.state), int64_t{row.attempts},
             sql::ToMicros(row.next_attempt_at), TimeOrNull(row.delivered_at),
             std::string_view(row.last_error), Signed(row.id),
             static_cast<int64_t>(OutboxState::kDelivered)})
        .status();
  });
}

StatusOr<AlertStore::OutboxCounts> AlertStore::Counts() {
  OutboxCounts counts;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(
            "SELECT state, count(*), min(created_at) FROM outbox WHERE state <> $1 GROUP BY state",
            {static_cast<int64_t>(OutboxState::kDelivered)}));
    counts = {0, 0, absl::InfiniteFuture()};
    for (const sql::Row& row : rows) {
      if (row.Int(0) == kWaiting) {
        counts.waiting = Unsigned(row.Int(1));
        counts.oldest_waiting = row.Time(2);
      } else {
        counts.failed = Unsigned(row.Int(1));
      }
    }
    return OkStatus();
  }));
  return counts;
}

StatusOr<uint64_t> AlertStore::DropResolvedBefore(LeaderEpoch epoch, absl::Time cutoff,
                                                  uint32_t limit) {
  uint64_t dropped = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT id FROM alerts WHERE state = $1 AND resolved_at < $2 LIMIT $3",
                {kResolved, sql::ToMicros(cutoff), int64_t{limit}}));
    dropped = rows.size();
    for (const sql::Row& row : rows) {
      const std::string_view id = row.Text(0);
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM outbox WHERE alert_id = $1", {id}).status());
      MUSTER_RETURN_IF_ERROR(
          t.Execute("DELETE FROM alert_events WHERE alert_id = $1", {id}).status());
      MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM alerts WHERE id = $1", {id}).status());
    }
    return OkStatus();
  }));
  return dropped;
}

}  // namespace muster::control
