#include "lib/sql/postgres_connection.h"

#include <charconv>
#include <pqxx/pqxx>

#include "lib/base/text.h"

namespace muster::sql {
namespace {

// Of every transaction. A statement, a wait for a lock (another writer's turn too) and a pause
// between two statements last no longer. Only warnings and worse are said, so that one during a
// COMMIT can be told from chatter in any language. An operator's synchronous_commit stands, but for
// "off", which forgets commits.
constexpr std::string_view kSettings =
    "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '10s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL client_min_messages = "
    "warning";
constexpr std::string_view kDurable =
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'";
// "muster" as a number.
constexpr std::string_view kTakeTurn = "SELECT pg_advisory_xact_lock(120351215609202)";

// The part of a statement that stands in an error message.
std::string_view Beginning(std::string_view sql) { return sql.substr(0, 80); }

std::string BeginText(PostgresConnection::Kind kind) {
  using Kind = PostgresConnection::Kind;
  if (kind == Kind::kRead)
    return fmt::format("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", kSettings);
  // Each statement sees what is there when it begins; with the turn taken, that is one world.
  return fmt::format("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}; {}{}; {}", kSettings,
                     kind == Kind::kMigration ? "SET LOCAL statement_timeout = '1h'; " : "",
                     kDurable, kTakeTurn);
}

std::string_view TypeOf(const Parameter& parameter) {
  struct Namer {
    std::string_view operator()(Null) const { return ""; }
    std::string_view operator()(int64_t) const { return "::bigint"; }
    std::string_view operator()(double) const { return "::double precision"; }
    std::string_view operator()(std::string_view) const { return "::text"; }
    std::string_view operator()(Bytes) const { return "::bytea"; }
  };
  return std::visit(Namer{}, parameter);
}

StatusOr<std::string> TextOf(const Parameter& parameter) {
  struct Writer {
    StatusOr<std::string> operator()(Null) const { return ""; }
    StatusOr<std::string> operator()(int64_t value) const { return fmt::format("{}", value); }
    StatusOr<std::string> operator()(double value) const { return fmt::format("{}", value); }
    StatusOr<std::string> operator()(std::string_view value) const {
      if (value.find('\0') == std::string_view::npos) return std::string(value);
      return InvalidArgument("a text with a zero byte in it cannot be stored");
    }
    StatusOr<std::string> operator()(Bytes value) const { return "\\x" + HexEncode(value.view); }
  };
  return std::visit(Writer{}, parameter);
}

// The text with "$2" as "$2::text". Else the server guesses a type from what stands beside it, and
// takes 32 bits beside a bare number.
StatusOr<std::string> WithTypes(std::string_view sql, std::span<const Parameter> parameters) {
  std::string text;
  bool quoted = false;
  size_t most = 0;
  for (size_t i = 0; i < sql.size();) {
    if (sql[i] == '\'') quoted = !quoted;
    size_t number = 0;
    const char* after = sql.data() + i + 1;
    if (sql[i] == '$' && !quoted)
      after = std::from_chars(after, sql.data() + sql.size(), number).ptr;
    const auto end = static_cast<size_t>(after - sql.data());
    text += sql.substr(i, end - i);
    if (number > 0 && number <= parameters.size()) text += TypeOf(parameters[number - 1]);
    most = std::max(most, number);
    i = end;
  }
  if (most == parameters.size()) return text;
  return Internal("{} parameters given, {} wanted: {}", parameters.size(), most, Beginning(sql));
}

// The types' numbers, as in pg_type.
Row::Cell ReadCell(const pqxx::field& field) {
  if (field.is_null()) return Null{};
  const std::string_view text(field.c_str(), field.size());
  switch (field.type()) {
    case 16: return int64_t{text == "t"};
    case 17: return pqxx::binarystring(field).str();
    case 20:
    case 21:
    case 23:
    case 26: return field.as<int64_t>();
    case 700:
    case 701: return field.as<double>();
    case 1700:  // numeric: a sum of whole numbers is one too
      if (text.find_first_not_of("-0123456789") == std::string_view::npos)
        return field.as<int64_t>();
      return field.as<double>();
    default: return std::string(text);
  }
}

Rows ReadRows(const pqxx::result& result) {
  Rows rows;
  rows.reserve(result.size());
  for (const pqxx::row& row : result) {
    std::vector<Row::Cell> cells;
    cells.reserve(row.size());
    for (const pqxx::field& field : row) cells.push_back(ReadCell(field));
    rows.emplace_back(std::move(cells));
  }
  return rows;
}

// Keeps the last of what the server said beside its answers.
class Listener final : public pqxx::errorhandler {
 public:
  using pqxx::errorhandler::errorhandler;
  bool operator()(const char said[]) noexcept override {
    said_ = said;
    return false;
  }
  std::string Take() { return std::exchange(said_, std::string()); }

 private:
  std::string said_;
};

}  // namespace

struct PostgresConnection::Wire {
  explicit Wire(const std::string& words)
      : connection(words), listener(connection), work(connection) {
    connection.set_verbosity(pqxx::connection_base::terse);
    // Else libpqxx opens a second one behind our back, which knows nothing of our transaction.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    connection.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  }

  pqxx::connection connection;
  Listener listener;
  // libpqxx's own transactions cannot begin with settings, nor hear a warning during the commit:
  // BEGIN and COMMIT are ours.
  pqxx::nontransaction work;
  pqxx::result result;  // of the last statement
};

PostgresConnection::PostgresConnection(const PostgresAddress& address, std::unique_ptr<Wire> wire)
    : address_(address), wire_(std::move(wire)) {}

PostgresConnection::~PostgresConnection() = default;

StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Open(
    const PostgresAddress& address) {
  try {
    auto wire = std::make_unique<Wire>(std::string(address.RevealWords()));
    return std::unique_ptr<PostgresConnection>(new PostgresConnection(address, std::move(wire)));
  } catch (const std::exception& error) {
    return Unavailable("{} cannot be reached: {}", address.name(), address.Clean(error.what()));
  }
}

bool PostgresConnection::open() const { return wire_->connection.is_open(); }

// Called while an exception is being handled; the one place that knows what libpqxx's mean.
Status PostgresConnection::Failure(std::string_view doing) {
  std::string said;
  try {
    throw;
  } catch (const pqxx::in_doubt_error& error) {
    return InDoubt(doing, error.what());
  } catch (const pqxx::statement_completion_unknown& error) {
    return InDoubt(doing, error.what());
  } catch (const std::exception& error) {
    said = address_.Clean(error.what());
  }
  if (!open()) return Unavailable("{}: the connection to {} was lost: {}", doing, name(), said);
  try {
    throw;
  } catch (const pqxx::transaction_rollback&) {
    again_ = true;
    return Aborted("{}: {} chose another transaction over this one: {}", doing, name(), said);
  } catch (const pqxx::too_many_connections&) {
    return Unavailable("{}: {} has no room: {}", doing, name(), said);
  } catch (const pqxx::insufficient_privilege&) {
    // The one that libpqxx leaves without its state.
    return FailedPrecondition("{}: {}; see to the user's rights on {}", doing, said, name());
  } catch (const pqxx::sql_error& error) {
    return Refusal(doing, error.sqlstate(), said);
  } catch (const std::exception&) {
    return Internal("{}: {}", doing, said);
  }
}

Status PostgresConnection::InDoubt(std::string_view doing, std::string_view said) const {
  return Unknown("{}: it may or may not have happened on {}: {}", doing, name(),
                 address_.Clean(said));
}

// PostgreSQL's documentation, appendix A, lists the states.
Status PostgresConnection::Refusal(std::string_view doing, std::string_view state,
                                   std::string_view said) const {
  if (state == "23505") return AlreadyExists("{}: {}", doing, said);
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
  return Internal("{}: {} (SQLSTATE {})", doing, said, state);
}

template <typename Call>
Status PostgresConnection::Guarded(std::string_view doing, Call call) {
  try {
    call();
    return OkStatus();
  } catch (const std::exception&) {
    return Failure(doing);
  }
}

Status PostgresConnection::Fail(Status status) {
  if (failed_.ok()) failed_ = status;
  return status;
}

Status PostgresConnection::Ask(std::string_view sql, std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(failed_);
  const StatusOr<std::string> typed = WithTypes(sql, parameters);
  if (!typed.ok()) return Fail(typed.status());
  std::vector<std::string> texts(parameters.size());
  std::vector<const char*> values(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    StatusOr<std::string> text = TextOf(parameters[i]);
    if (!text.ok()) return Fail(Annotate(text.status(), Beginning(sql)));
    texts[i] = *std::move(text);
    if (!std::holds_alternative<Null>(parameters[i])) values[i] = texts[i].c_str();
  }
  return Fail(Guarded(Beginning(sql), [&] {
    wire_->result = wire_->work.exec_params(*typed, pqxx::prepare::make_dynamic_params(values));
  }));
}

StatusOr<Rows> PostgresConnection::Query(std::string_view sql,
                                         std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(Ask(sql, parameters));
  Rows rows;
  const Status read = Guarded(Beginning(sql), [&] { rows = ReadRows(wire_->result); });
  wire_->result.clear();
  if (!read.ok()) return Fail(read);
  return rows;
}

StatusOr<int64_t> PostgresConnection::Execute(std::string_view sql,
                                              std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(Ask(sql, parameters));
  const auto changed = static_cast<int64_t>(wire_->result.affected_rows());
  wire_->result.clear();
  return changed;
}

Status PostgresConnection::Script(const std::string& sql) {
  MUSTER_RETURN_IF_ERROR(failed_);
  return Fail(Guarded(Beginning(sql), [&] { wire_->work.exec(sql); }));
}

Status PostgresConnection::Begin(Kind kind) {
  const Status begun = Guarded("begin a transaction", [&] { wire_->work.exec(BeginText(kind)); });
  if (!open()) again_ = true;
  return begun;
}

Status PostgresConnection::Commit() {
  wire_->listener.Take();
  const Status status = Guarded("commit", [&] { wire_->work.exec("COMMIT"); });
  if (!open()) return Unknown("it may or may not have been stored: {}", Message(status));
  // The wait for a standby was given up: the commit is here, and a failover may forget it.
  const std::string warning = wire_->listener.Take();
  if (!status.ok() || warning.empty()) return status;
  return InDoubt("commit", warning);
}

void PostgresConnection::Rollback() {
  const Status status = Guarded("roll back", [&] { wire_->work.exec("ROLLBACK"); });
  if (!status.ok()) wire_->connection.disconnect();
}

StatusOr<absl::Time> PostgresConnection::Now() {
  MUSTER_ASSIGN_OR_RETURN(
      const Rows rows,
      Query("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"));
  return rows[0].Time(0);
}

Status PostgresConnection::Run(Kind kind, Database::Body body) {
  again_ = false;
  failed_ = OkStatus();
  Status status = Begin(kind);
  if (status.ok()) status = body(*this);
  if (status.ok()) status = failed_;
  if (status.ok() && kind != Kind::kRead) return Commit();
  Rollback();
  return status;
}

}  // namespace muster::sql
