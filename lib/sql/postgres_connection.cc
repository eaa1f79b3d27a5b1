#include "lib/sql/postgres_connection.h"

#include <algorithm>
#include <charconv>

#include "lib/base/text.h"
#include "lib/sql/changes.h"

namespace muster::sql {

namespace {

using Kind = PostgresConnection::Kind;

// What a transaction may take. A statement, a wait for a lock (another writer's turn too) and a
// pause between two statements last no longer on the server.
struct Bounds {
  absl::Duration statement;
  absl::Duration lock = absl::Seconds(5);
  absl::Duration pause;
};
// Of a writer that falls silent the others are free after three seconds.
constexpr absl::Duration kWritersPause = absl::Seconds(3);
// Beyond the server's own bound: then it is the server, or the way to it, that is silent.
constexpr absl::Duration kGrace = absl::Seconds(5);

Bounds BoundsOf(Kind kind) {
  switch (kind) {
    case Kind::kRead: return {.statement = absl::Seconds(30), .pause = absl::Seconds(30)};
    case Kind::kWrite: return {.statement = absl::Seconds(15), .pause = kWritersPause};
    case Kind::kMigration: return {.statement = absl::Hours(1), .pause = kWritersPause};
  }
  return {};
}

// "muster" as a number, and as the two halves that pg_locks shows.
constexpr int64_t kTurn = 120351215609202;
// Says which server process it is, and its timeline.
constexpr std::string_view kTakeTurn =
    "SELECT pg_advisory_xact_lock(120351215609202), pg_backend_pid() || '-' || "
    "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";

// An operator's synchronous_commit stands, but for "off", which forgets commits.
constexpr std::string_view kDurable =
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'";

// Only warnings and worse are said, so that one during a COMMIT can be told from chatter in any
// language.
std::string Settings(const Bounds& bounds) {
  return fmt::format(
      "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; "
      "SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL client_min_messages = warning",
      absl::ToInt64Milliseconds(bounds.statement), absl::ToInt64Milliseconds(bounds.lock),
      absl::ToInt64Milliseconds(bounds.pause));
}

// One message and one answer.
std::string BeginText(Kind kind) {
  const std::string settings = Settings(BoundsOf(kind));
  if (kind == Kind::kRead)
    return fmt::format("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", settings);
  // Each statement sees what is there when it begins; with the turn taken, that is one world.
  return fmt::format("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}; {}; {}", settings,
                     kDurable, kTakeTurn);
}

const std::string& CachedBeginText(Kind kind) {
  static const std::string texts[] = {BeginText(Kind::kWrite), BeginText(Kind::kRead),
                                      BeginText(Kind::kMigration)};
  return texts[static_cast<size_t>(kind)];
}

// The part of a statement that stands in an error message.
std::string_view Beginning(std::string_view sql) { return sql.substr(0, 80); }

int64_t Affected(const PGresult* result) {
  const std::string_view text(PQcmdTuples(const_cast<PGresult*>(result)));
  int64_t count = 0;
  std::from_chars(text.data(), text.data() + text.size(), count);
  return count;
}

}  // namespace

PostgresConnection::PostgresConnection(const PostgresAddress& address,
                                       std::unique_ptr<PostgresWire> wire)
    : address_(address), wire_(std::move(wire)) {}

StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Open(
    const PostgresAddress& address) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<PostgresWire> wire, PostgresWire::Connect(address));
  return std::unique_ptr<PostgresConnection>(new PostgresConnection(address, std::move(wire)));
}

Status PostgresConnection::Judge(std::string_view doing, const PostgresWire::Answer& answer) {
  if (answer != nullptr) {
    const std::string state = SqlState(answer.get());
    if (state.empty()) return OkStatus();
    return Refusal(doing, state, address_.Clean(PQresultErrorMessage(answer.get())));
  }
  const std::string said = address_.Clean(wire_->lost());
  if (open()) return Internal("{}: {}", doing, said);
  return Unavailable("{}: the connection to {} was lost: {}", doing, name(), said);
}

// PostgreSQL's documentation, appendix A, lists the states.
Status PostgresConnection::Refusal(std::string_view doing, std::string_view state,
                                   const std::string& said) {
  if (state == "40003" || state == "08007")
    return Unknown("{}: it may or may not have happened on {}: {}", doing, name(), said);
  if (state.starts_with("40")) {
    obstacle_ = Obstacle::kGaveWay;
    return Aborted("{}: {} chose another transaction over this one: {}", doing, name(), said);
  }
  if (state == "23505") return AlreadyExists("{}: {}", doing, said);
  if (state == "42501")
    return FailedPrecondition("{}: {}; see to the user's rights on {}", doing, said, name());
  if (state == "53100") {
    return ResourceExhausted("{}: the disk under {} is full; make room, no restart is needed: {}",
                             doing, name(), said);
  }
  if (state.starts_with("53")) return Unavailable("{}: {} has no room: {}", doing, name(), said);
  // A lock or an answer was too long in coming.
  if (state == "55P03" || state == "57014")
    return Unavailable("{}: {} took too long: {}", doing, name(), said);
  if (state == "58030") return Unavailable("{}: the disk of {} fails: {}", doing, name(), said);
  if (state == "XX001" || state == "XX002")
    return DataLoss("{}: {} is damaged: {}", doing, name(), said);
  if (state == "25006") {
    // It is no primary any more: the next connection looks for the one that is.
    Cut(said);
    return Unavailable("{}: {} takes no writes: {}", doing, name(), said);
  }
  return Internal("{}: {} (SQLSTATE {})", doing, said, state);
}

Status PostgresConnection::Fail(Status status) {
  if (failed_.ok()) failed_ = status;
  return status;
}

StatusOr<PostgresWire::Answer> PostgresConnection::Ask(std::string_view sql,
                                                       std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(failed_);
  const StatusOr<PostgresParameters> taken = PostgresParameters::Make(sql, parameters);
  if (!taken.ok()) return Fail(Annotate(taken.status(), Beginning(sql)));
  return Ask(sql, *taken);
}

StatusOr<PostgresWire::Answer> PostgresConnection::Ask(std::string_view sql,
                                                       const PostgresParameters& parameters) {
  PostgresWire::Answer answer = wire_->Ask(std::string(sql), parameters, patience_);
  MUSTER_RETURN_IF_ERROR(JudgeSent());
  MUSTER_RETURN_IF_ERROR(Fail(Judge(Beginning(sql), answer)));
  return answer;
}

Status PostgresConnection::JudgeSent() {
  const std::vector<Sent> sent = std::exchange(sent_, {});
  const std::vector<PostgresWire::Answer> answers = wire_->TakeEarlier();
  for (size_t i = 0; i < answers.size() && i < sent.size(); ++i) {
    MUSTER_RETURN_IF_ERROR(Fail(Judge(sent[i].doing, answers[i])));
    MUSTER_RETURN_IF_ERROR(
        Fail(CheckChanges(sent[i].doing, Affected(answers[i].get()), sent[i].changes)));
  }
  return OkStatus();
}

Status PostgresConnection::Settle() {
  if (sent_.empty()) return OkStatus();
  const bool settled = wire_->Settle(patience_);
  MUSTER_RETURN_IF_ERROR(JudgeSent());
  return settled ? OkStatus() : Fail(Judge("send statements", nullptr));
}

StatusOr<Rows> PostgresConnection::ReadRows(std::string_view sql,
                                            const PostgresWire::Answer& answer) {
  StatusOr<Rows> rows = ReadPostgresRows(answer.get());
  if (!rows.ok()) return Fail(Annotate(rows.status(), Beginning(sql)));
  return rows;
}

StatusOr<Rows> PostgresConnection::Query(std::string_view sql,
                                         std::span<const Parameter> parameters) {
  MUSTER_ASSIGN_OR_RETURN(const PostgresWire::Answer answer, Ask(sql, parameters));
  return ReadRows(sql, answer);
}

StatusOr<int64_t> PostgresConnection::Execute(std::string_view sql,
                                              std::span<const Parameter> parameters) {
  MUSTER_ASSIGN_OR_RETURN(const PostgresWire::Answer answer, Ask(sql, parameters));
  return Affected(answer.get());
}

StatusOr<std::pair<std::string, PostgresTable>> PostgresConnection::Statement(
    std::string_view head, const Table& rows, std::string_view tail) {
  MUSTER_RETURN_IF_ERROR(failed_);
  StatusOr<PostgresTable> table = PostgresTable::Make(rows);
  if (!table.ok()) return Fail(Annotate(table.status(), Beginning(head)));
  std::string sql = fmt::format("{}{} {}", head, table->query, tail);
  return std::pair(std::move(sql), *std::move(table));
}

StatusOr<PostgresWire::Answer> PostgresConnection::AskRows(std::string_view head, const Table& rows,
                                                           std::string_view tail) {
  MUSTER_ASSIGN_OR_RETURN(const auto statement, Statement(head, rows, tail));
  return Ask(statement.first, statement.second.parameters);
}

Status PostgresConnection::SendRows(std::string_view head, const Table& rows, std::string_view tail,
                                    std::optional<int64_t> changes) {
  if (rows.values.empty()) return Fail(CheckChanges(head, 0, changes));
  MUSTER_ASSIGN_OR_RETURN(const auto statement, Statement(head, rows, tail));
  if (!wire_->Send(statement.first, statement.second.parameters))
    return Fail(Judge(Beginning(head), nullptr));
  sent_.push_back({std::string(Beginning(head)), changes});
  return OkStatus();
}

StatusOr<Rows> PostgresConnection::QueryRows(std::string_view head, const Table& rows,
                                             std::string_view tail) {
  if (rows.values.empty()) return Rows();
  MUSTER_ASSIGN_OR_RETURN(const PostgresWire::Answer answer, AskRows(head, rows, tail));
  return ReadRows(head, answer);
}

StatusOr<int64_t> PostgresConnection::ExecuteRows(std::string_view head, const Table& rows,
                                                  std::string_view tail) {
  if (rows.values.empty()) return 0;
  MUSTER_ASSIGN_OR_RETURN(const PostgresWire::Answer answer, AskRows(head, rows, tail));
  return Affected(answer.get());
}

Status PostgresConnection::Script(const std::string& sql) {
  MUSTER_RETURN_IF_ERROR(Settle());
  MUSTER_RETURN_IF_ERROR(failed_);
  return Fail(Judge(Beginning(sql), wire_->Run(sql, patience_)));
}

Status PostgresConnection::Begin(Kind kind) {
  patience_ = BoundsOf(kind).statement + kGrace;
  const PostgresWire::Answer answer = wire_->Run(CachedBeginText(kind), patience_);
  const Status begun = Judge("begin a transaction", answer);
  if (!open()) obstacle_ = Obstacle::kLost;
  if (answer != nullptr && SqlState(answer.get()) == "55P03") obstacle_ = Obstacle::kNoTurn;
  if (begun.ok() && kind != Kind::kRead) server_ = PQgetvalue(answer.get(), 0, 1);
  return begun;
}

// What was sent goes with it; a refusal of that keeps the server from committing. What must change
// so many rows is looked at first.
Status PostgresConnection::Commit() {
  const bool counted = std::any_of(sent_.begin(), sent_.end(),
                                   [](const Sent& sent) { return sent.changes.has_value(); });
  if (counted) MUSTER_RETURN_IF_ERROR(Settle());
  wire_->TakeWarning();
  const PostgresWire::Answer answer = sent_.empty()
                                          ? wire_->Run("COMMIT", patience_)
                                          : wire_->Ask("COMMIT", PostgresParameters(), patience_);
  MUSTER_RETURN_IF_ERROR(JudgeSent());
  const Status status = Judge("commit", answer);
  if (answer == nullptr) return Unknown("it may or may not have been stored: {}", Message(status));
  // A commit that fails is a rollback; one that only seems to succeed says ROLLBACK.
  if (status.ok() && std::string_view(PQcmdStatus(answer.get())) != "COMMIT")
    return Internal("commit: {} rolled back", name());
  // The wait for a standby was given up: the commit is here, and a failover may forget it.
  const std::string warning = address_.Clean(wire_->TakeWarning());
  if (status.ok() && warning.empty() && !proving_.empty()) proven_ = proving_;
  if (!status.ok() || warning.empty()) return status;
  return Unknown("commit: it may or may not have happened on {}: {}", name(), warning);
}

void PostgresConnection::Rollback() {
  if (open()) Settle().IgnoreError();
  if (!open()) return;
  if (!Judge("roll back", wire_->Run("ROLLBACK", kGrace)).ok() && open())
    Cut("it could not roll back");
}

StatusOr<absl::Time> PostgresConnection::Now() {
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      Query("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"));
  return rows[0].Time(0);
}

Status PostgresConnection::Run(Kind kind, Body body) {
  obstacle_ = Obstacle::kNone;
  failed_ = OkStatus();
  sent_.clear();
  proving_.clear();
  Status status = Begin(kind);
  if (status.ok()) status = body(*this);
  if (status.ok()) status = failed_;
  if (status.ok() && kind != Kind::kRead) {
    status = Commit();
    // Unless it was a statement that went with it which was refused, that was the end.
    if (failed_.ok()) return status;
  }
  Rollback();
  return status;
}

void PostgresConnection::EndSilentWriters() {
  if (!open()) return;
  const std::string end = fmt::format(
      "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
      "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = {} AND "
      "l.objid = {} AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND "
      "a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - interval '{} ms'",
      kTurn >> 32, kTurn & 0xffffffff, absl::ToInt64Milliseconds(kWritersPause));
  wire_->Run(end, kGrace);
}

}  // namespace muster::sql
