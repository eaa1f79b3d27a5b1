#include "lib/sql/sqlite_connection.h"

#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <numeric>

#include "lib/base/clock.h"
#include "lib/sql/changes.h"

namespace muster::sql {
namespace {

constexpr int kBusyTimeoutMs = 5000;
// Texts are few and fixed; a bound all the same, for those that are put together.
constexpr size_t kMostStatements = 256;

// The part of a statement that stands in an error message.
std::string_view Beginning(std::string_view sql) { return sql.substr(0, 80); }

bool NoRoom(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

void Bind(sqlite3_stmt* statement, int index, const Parameter& parameter) {
  struct Binder {
    sqlite3_stmt* statement;
    int index;
    void operator()(Null) const { sqlite3_bind_null(statement, index); }
    void operator()(int64_t value) const { sqlite3_bind_int64(statement, index, value); }
    void operator()(double value) const { sqlite3_bind_double(statement, index, value); }
    void operator()(std::string_view value) const {
      const char* text = value.data() == nullptr ? "" : value.data();
      sqlite3_bind_text64(statement, index, text, value.size(), SQLITE_STATIC, SQLITE_UTF8);
    }
    void operator()(Bytes value) const {
      const char* bytes = value.view.data() == nullptr ? "" : value.view.data();
      sqlite3_bind_blob64(statement, index, bytes, value.view.size(), SQLITE_STATIC);
    }
  };
  std::visit(Binder{statement, index}, parameter);
}

Row::Cell ReadCell(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL: return Null{};
    case SQLITE_INTEGER: return int64_t{sqlite3_column_int64(statement, column)};
    case SQLITE_FLOAT: return sqlite3_column_double(statement, column);
    default: break;
  }
  const void* bytes = sqlite3_column_blob(statement, column);
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement, column));
  return bytes == nullptr ? std::string() : std::string(static_cast<const char*>(bytes), size);
}

Row ReadRow(sqlite3_stmt* statement) {
  std::vector<Row::Cell> cells;
  const int columns = sqlite3_column_count(statement);
  cells.reserve(static_cast<size_t>(columns));
  for (int i = 0; i < columns; ++i) cells.push_back(ReadCell(statement, i));
  return Row(std::move(cells));
}

// What the system said of the last failure. SQLite keeps it apart for a commit, with the log's
// file.
int SystemError(sqlite3* db) {
  int error = sqlite3_system_errno(db);
  sqlite3_file* log = nullptr;
  if (error != 0 ||
      sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK)
    return error;
  if (log == nullptr || log->pMethods == nullptr) return error;
  log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error);
  return error;
}

// The N of "$N"; 0 if the parameter is of another shape.
size_t NumberOf(const char* name) {
  size_t number = 0;
  if (name == nullptr || name[0] != '$') return 0;
  const char* end = name + std::strlen(name);
  return std::from_chars(name + 1, end, number).ptr == end ? number : 0;
}

// SQLite counts parameters by their first use in the text; ours are meant by their number. Every
// number must be used, because PostgreSQL cannot tell the type of one that is not.
StatusOr<std::vector<int>> Positions(sqlite3_stmt* statement, std::string_view sql) {
  const int count = sqlite3_bind_parameter_count(statement);
  std::vector<int> position(static_cast<size_t>(count), 0);
  // Those of ValuesText stand in their order.
  if (count > 0 && sqlite3_bind_parameter_name(statement, 1) == nullptr) {
    std::iota(position.begin(), position.end(), 1);
    return position;
  }
  for (int i = 1; i <= count; ++i) {
    const size_t number = NumberOf(sqlite3_bind_parameter_name(statement, i));
    if (number == 0 || number > position.size()) {
      return Internal("parameters are $1, $2 … without a hole: {}", Beginning(sql));
    }
    position[number - 1] = i;
  }
  return position;
}

// Rows a statement, largest first: few sizes, so that prepared statements are found again. 512 rows
// of 14 columns are within SQLite's 32,766 parameters.
constexpr size_t kSizes[] = {512, 64, 8, 1};

struct Part {
  std::string sql;
  std::span<const Parameter> parameters;
};

// Without names: SQLite looks each one up among all before it, which made a statement of thousands
// a tenth of a second's work to prepare.
std::string ValuesText(std::string_view head, size_t rows, size_t columns, std::string_view tail) {
  std::string row;
  for (size_t column = 0; column < columns; ++column) row += column == 0 ? "(?" : ", ?";
  row += ')';
  std::string sql = fmt::format("{}VALUES ", head);
  for (size_t i = 0; i < rows; ++i) sql.append(i == 0 ? "" : ", ").append(row);
  return fmt::format("{}{}{}", sql, tail.empty() ? "" : " ", tail);
}

std::vector<Part> Parts(std::string_view head, const Table& table, std::string_view tail) {
  std::vector<Part> parts;
  const size_t rows = table.columns == 0 ? 0 : table.values.size() / table.columns;
  size_t done = 0;
  for (const size_t size : kSizes) {
    if (rows - done < size) continue;
    const std::string sql = ValuesText(head, size, table.columns, tail);
    for (; rows - done >= size; done += size)
      parts.push_back({sql, table.values.subspan(done * table.columns, size * table.columns)});
  }
  return parts;
}

}  // namespace

StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path,
                                                                   Access access) {
  auto connection = std::unique_ptr<SqliteConnection>(new SqliteConnection(path));
  MUSTER_RETURN_IF_ERROR(connection->Connect(access));
  return connection;
}

SqliteConnection::~SqliteConnection() {
  ForgetStatements();
  sqlite3_close_v2(db_);
}

void SqliteConnection::ForgetStatements() {
  for (auto& [text, statement] : statements_) sqlite3_finalize(statement.compiled);
  statements_.clear();
}

Status SqliteConnection::Connect(Access access) {
  const bool memory = path_ == ":memory:";
  const int create = memory ? SQLITE_OPEN_CREATE : 0;
  // A reader's connection too must be able to write: SQLite reads a WAL through a shared index
  // file.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | create;
  if (sqlite3_open_v2(path_.c_str(), &db_, flags, nullptr) != SQLITE_OK) return Failure("open it");
  sqlite3_busy_timeout(db_, kBusyTimeoutMs);
  if (access == Access::kRead) return Script("PRAGMA query_only=1; PRAGMA cache_size=-4000");
  if (!memory) MUSTER_RETURN_IF_ERROR(UseWal());
  return Script("PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-16000");
}

Status SqliteConnection::UseWal() {
  MUSTER_ASSIGN_OR_RETURN(const Rows mode, Query("PRAGMA journal_mode=WAL"));
  if (mode.size() != 1 || mode[0].Text(0) != "wal") {
    return FailedPrecondition(
        "{} stands on a file system without shared memory; put it on a local disk", path_);
  }
  // A long reader can make the log grow; it shrinks again afterwards.
  return Script("PRAGMA journal_size_limit=67108864");
}

Status SqliteConnection::Failure(std::string_view doing) {
  const int extended = last_failure_ = sqlite3_extended_errcode(db_);
  const int code = extended & 0xff;
  const std::string said = sqlite3_errmsg(db_);
  const int system = code == SQLITE_IOERR || code == SQLITE_CANTOPEN ? SystemError(db_) : 0;
  const Status full = ResourceExhausted(
      "{}: the disk under {} is full; make room, no restart is needed", doing, path_);
  switch (code) {
    case SQLITE_FULL: return full;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      broken_ = true;
      return DataLoss(
          "{}: {} is damaged ({}); stop, move it away together with its -wal and -shm files, and "
          "restore the newest backup of it",
          doing, path_, said);
    case SQLITE_IOERR:
      broken_ = true;
      if (NoRoom(system)) return full;
      return Unavailable("{}: the disk under {} fails: {} ({})", doing, path_, said,
                         std::strerror(system));
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Unavailable("{}: {} is in use by another program", doing, path_);
    case SQLITE_CONSTRAINT:
      if (extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY) {
        return AlreadyExists("{}: {}", doing, said);
      }
      return Internal("{}: {}", doing, said);
    case SQLITE_READONLY:
      return FailedPrecondition("{}: {} cannot be written: {}; see to its owner and mode", doing,
                                path_, said);
    case SQLITE_CANTOPEN:
      return FailedPrecondition("{}: {} cannot be opened: {}; see to its folder, owner and mode",
                                doing, path_, std::strerror(system));
    default: return Internal("{}: {} ({})", doing, said, extended);
  }
}

Status SqliteConnection::Fail(Status status) {
  if (in_transaction_ && failed_.ok()) failed_ = status;
  return status;
}

StatusOr<SqliteConnection::Statement*> SqliteConnection::Prepare(std::string_view sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) return &found->second;
  if (statements_.size() >= kMostStatements) ForgetStatements();
  Statement statement;
  const char* rest = nullptr;
  if (sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                         &statement.compiled, &rest) != SQLITE_OK) {
    return Failure(Beginning(sql));
  }
  StatusOr<std::vector<int>> positions = Positions(statement.compiled, sql);
  if (positions.ok() && rest != sql.data() + sql.size()) {
    positions = Internal("one statement at a time: {}", Beginning(sql));
  }
  if (!positions.ok()) {
    sqlite3_finalize(statement.compiled);
    return positions.status();
  }
  statement.position = *std::move(positions);
  return &statements_.emplace(std::string(sql), std::move(statement)).first->second;
}

StatusOr<sqlite3_stmt*> SqliteConnection::Bound(std::string_view sql,
                                                std::span<const Parameter> parameters) {
  MUSTER_RETURN_IF_ERROR(failed_);
  StatusOr<Statement*> prepared = Prepare(sql);
  if (!prepared.ok()) return Fail(prepared.status());
  const Statement& statement = **prepared;
  if (parameters.size() != statement.position.size()) {
    return Fail(Internal("{} parameters given, {} wanted: {}", parameters.size(),
                         statement.position.size(), Beginning(sql)));
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    Bind(statement.compiled, statement.position[i], parameters[i]);
  }
  return statement.compiled;
}

Status SqliteConnection::Finish(sqlite3_stmt* statement, int step, std::string_view sql) {
  const Status status = step == SQLITE_DONE ? OkStatus() : Fail(Failure(Beginning(sql)));
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return status;
}

StatusOr<Rows> SqliteConnection::Query(std::string_view sql,
                                       std::span<const Parameter> parameters) {
  MUSTER_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Bound(sql, parameters));
  Rows rows;
  int step = SQLITE_ROW;
  while ((step = sqlite3_step(statement)) == SQLITE_ROW) rows.push_back(ReadRow(statement));
  MUSTER_RETURN_IF_ERROR(Finish(statement, step, sql));
  return rows;
}

StatusOr<int64_t> SqliteConnection::Execute(std::string_view sql,
                                            std::span<const Parameter> parameters) {
  MUSTER_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Bound(sql, parameters));
  int step = SQLITE_ROW;
  while ((step = sqlite3_step(statement)) == SQLITE_ROW) continue;
  MUSTER_RETURN_IF_ERROR(Finish(statement, step, sql));
  return int64_t{sqlite3_changes64(db_)};
}

StatusOr<Rows> SqliteConnection::QueryRows(std::string_view head, const Table& rows,
                                           std::string_view tail) {
  Rows all;
  for (const Part& part : Parts(head, rows, tail)) {
    MUSTER_ASSIGN_OR_RETURN(Rows found, Query(part.sql, part.parameters));
    std::move(found.begin(), found.end(), std::back_inserter(all));
  }
  return all;
}

StatusOr<int64_t> SqliteConnection::ExecuteRows(std::string_view head, const Table& rows,
                                                std::string_view tail) {
  int64_t changed = 0;
  for (const Part& part : Parts(head, rows, tail)) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t some, Execute(part.sql, part.parameters));
    changed += some;
  }
  return changed;
}

// There is nothing to gain by waiting for company.
Status SqliteConnection::SendRows(std::string_view head, const Table& rows, std::string_view tail,
                                  std::optional<int64_t> changes) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t changed, ExecuteRows(head, rows, tail));
  return Fail(CheckChanges(head, changed, changes));
}

Status SqliteConnection::Script(const std::string& sql) {
  MUSTER_RETURN_IF_ERROR(failed_);
  if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return OkStatus();
  return Fail(Failure(Beginning(sql)));
}

Status SqliteConnection::Control(std::string_view sql) {
  MUSTER_ASSIGN_OR_RETURN(const Statement* const statement, Prepare(sql));
  const int step = sqlite3_step(statement->compiled);
  const Status status = step == SQLITE_DONE || step == SQLITE_ROW ? OkStatus() : Failure(sql);
  sqlite3_reset(statement->compiled);
  return status;
}

Status SqliteConnection::Commit() {
  const Status status = Control("COMMIT");
  const bool in_doubt =
      last_failure_ == SQLITE_IOERR_FSYNC || last_failure_ == SQLITE_IOERR_DIR_FSYNC;
  if (status.ok() || !in_doubt) return status;
  // It is all written, and may or may not survive the end of this process or of the machine.
  return Unknown("it may or may not have been stored: {}", Message(status));
}

void SqliteConnection::Rollback() {
  // SQLite rolls back by itself after some errors.
  if (sqlite3_get_autocommit(db_) == 0 && !Control("ROLLBACK").ok()) broken_ = true;
}

StatusOr<absl::Time> SqliteConnection::Now() {
  if (!failed_.ok()) return failed_;
  return FromMicros(ToMicros(SystemClock().Now()));  // as it can be stored
}

Status SqliteConnection::WriteWith(Database::Body body) {
  MUSTER_RETURN_IF_ERROR(Control("BEGIN IMMEDIATE"));
  in_transaction_ = true;
  Status status = body(*this);
  if (status.ok()) status = failed_;
  if (status.ok()) status = Commit();
  if (!status.ok()) Rollback();
  in_transaction_ = false;
  failed_ = OkStatus();
  return status;
}

Status SqliteConnection::ReadWith(Database::Body body) {
  MUSTER_RETURN_IF_ERROR(Control("BEGIN"));
  in_transaction_ = true;
  Status status = body(*this);
  if (status.ok()) status = failed_;
  Rollback();
  in_transaction_ = false;
  failed_ = OkStatus();
  return status;
}

Status SqliteConnection::ReadOnlyWith(Database::Body body) {
  MUSTER_RETURN_IF_ERROR(Control("PRAGMA query_only=1"));
  const Status status = ReadWith(body);
  MUSTER_RETURN_IF_ERROR(Control("PRAGMA query_only=0"));
  return status;
}

}  // namespace muster::sql
