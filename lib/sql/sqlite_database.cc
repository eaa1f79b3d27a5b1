#include <sqlite3.h>
#include <sys/stat.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/sql/database.h"

namespace muster::sql {
namespace {

Status Failure(sqlite3* db, std::string_view doing, const std::string& path) {
  const int code = sqlite3_errcode(db);
  const int extended = sqlite3_extended_errcode(db);
  const std::string said = sqlite3_errmsg(db);
  switch (code) {
    case SQLITE_FULL:
      return ResourceExhausted("{}: the disk under {} is full; make room, no restart is needed", doing, path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return DataLoss("{}: {} is damaged ({}); move it away and restore the newest backup of it", doing,
                      path, said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Unavailable("{}: {} is in use by another program", doing, path);
    case SQLITE_CONSTRAINT:
      if (extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY) {
        return AlreadyExists("{}", said);
      }
      return Internal("{}: {}", doing, said);
    case SQLITE_READONLY: return FailedPrecondition("{}: {} cannot be written: {}", doing, path, said);
    case SQLITE_CANTOPEN: return NotFound("{}: {}: {}", doing, path, said);
    case SQLITE_IOERR: return Unavailable("{}: {}: {}", doing, path, said);
    default: return Internal("{}: {} ({})", doing, said, extended);
  }
}

// One connection with its prepared statements. Used by one thread at a time.
class Connection {
 public:
  ~Connection() { Close(); }

  Status Open(const std::string& path, bool read_only) {
    path_ = path;
    const int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path.c_str(), &db_, flags | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK) {
      const Status failed = Failure(db_, "open the database", path_);
      Close();
      return failed;
    }
    sqlite3_extended_result_codes(db_, 0);
    sqlite3_busy_timeout(db_, 5000);
    MUSTER_RETURN_IF_ERROR(Run("PRAGMA synchronous=FULL"));
    MUSTER_RETURN_IF_ERROR(Run("PRAGMA cache_size=-16000"));
    return OkStatus();
  }

  void Close() {
    for (auto& [text, statement] : statements_) sqlite3_finalize(statement);
    statements_.clear();
    if (db_ != nullptr) sqlite3_close_v2(db_);
    db_ = nullptr;
  }

  Status Run(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return OkStatus();
    return Failure(db_, "the database refused", path_);
  }

  bool in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }
  sqlite3* db() { return db_; }
  const std::string& path() const { return path_; }

  StatusOr<sqlite3_stmt*> Prepare(std::string_view sql) {
    const auto found = statements_.find(sql);
    if (found != statements_.end()) return found->second;
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &statement, nullptr) != SQLITE_OK) {
      return Failure(db_, sql, path_);
    }
    statements_.emplace(std::string(sql), statement);
    return statement;
  }

 private:
  std::string path_;
  sqlite3* db_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
};

void Bind(sqlite3_stmt* statement, int index, const Parameter& parameter) {
  struct Binder {
    sqlite3_stmt* statement;
    int index;
    void operator()(Null) { sqlite3_bind_null(statement, index); }
    void operator()(int64_t value) { sqlite3_bind_int64(statement, index, value); }
    void operator()(double value) { sqlite3_bind_double(statement, index, value); }
    void operator()(std::string_view value) {
      sqlite3_bind_text64(statement, index, value.data() == nullptr ? "" : value.data(), value.size(),
                          SQLITE_STATIC, SQLITE_UTF8);
    }
    void operator()(Bytes value) {
      sqlite3_bind_blob64(statement, index, value.view.data() == nullptr ? "" : value.view.data(),
                          value.view.size(), SQLITE_STATIC);
    }
  };
  std::visit(Binder{statement, index}, parameter);
}

Row ReadRow(sqlite3_stmt* statement) {
  std::vector<Row::Cell> cells;
  const int columns = sqlite3_column_count(statement);
  cells.reserve(static_cast<size_t>(columns));
  for (int i = 0; i < columns; ++i) {
    switch (sqlite3_column_type(statement, i)) {
      case SQLITE_NULL: cells.emplace_back(Null{}); break;
      case SQLITE_INTEGER: cells.emplace_back(int64_t{sqlite3_column_int64(statement, i)}); break;
      case SQLITE_FLOAT: cells.emplace_back(sqlite3_column_double(statement, i)); break;
      default:
        cells.emplace_back(std::string(static_cast<const char*>(sqlite3_column_blob(statement, i)),
                                       static_cast<size_t>(sqlite3_column_bytes(statement, i))));
    }
  }
  return Row(std::move(cells));
}

class SqliteTransaction final : public Transaction {
 public:
  explicit SqliteTransaction(Connection& connection) : connection_(connection) {}

  StatusOr<Rows> Query(std::string_view sql, std::span<const Parameter> parameters) override {
    MUSTER_ASSIGN_OR_RETURN(sqlite3_stmt * statement, Prepared(sql, parameters));
    Rows rows;
    int step = SQLITE_ROW;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) rows.push_back(ReadRow(statement));
    return Finish(statement, step, sql, std::move(rows));
  }

  StatusOr<int64_t> Execute(std::string_view sql, std::span<const Parameter> parameters) override {
    MUSTER_ASSIGN_OR_RETURN(sqlite3_stmt * statement, Prepared(sql, parameters));
    int step = SQLITE_ROW;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) continue;
    return Finish(statement, step, sql, int64_t{sqlite3_changes(connection_.db())});
  }

 private:
  StatusOr<sqlite3_stmt*> Prepared(std::string_view sql, std::span<const Parameter> parameters) {
    MUSTER_ASSIGN_OR_RETURN(sqlite3_stmt * statement, connection_.Prepare(sql));
    // SQLite numbers $N by first use; parameters are meant by their N.
    for (size_t i = 0; i < parameters.size(); ++i) {
      const std::string name = fmt::format("${}", i + 1);
      const int index = sqlite3_bind_parameter_index(statement, name.c_str());
      if (index > 0) Bind(statement, index, parameters[i]);
    }
    return statement;
  }

  template <typename Result>
  StatusOr<Result> Finish(sqlite3_stmt* statement, int step, std::string_view sql, Result result) {
    const Status status =
        step == SQLITE_DONE ? OkStatus() : Failure(connection_.db(), sql.substr(0, 80), connection_.path());
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (!status.ok()) return status;
    return result;
  }

  Connection& connection_;
};

std::string WithTypes(std::string_view sql) {
  std::string text(sql);
  for (size_t at = 0; (at = text.find("BYTES", at)) != std::string::npos;) text.replace(at, 5, "BLOB");
  return text;
}

class SqliteDatabase final : public Database {
 public:
  static StatusOr<std::unique_ptr<Database>> Open(const std::string& path) {
    auto database = std::unique_ptr<SqliteDatabase>(new SqliteDatabase(path));
    MUSTER_RETURN_IF_ERROR(database->OpenWriter());
    MUSTER_RETURN_IF_ERROR(database->CheckAndMeta());
    return std::unique_ptr<Database>(std::move(database));
  }

  Status Write(Body body) override {
    absl::MutexLock lock(&writer_mutex_);
    if (writer_broken_) MUSTER_RETURN_IF_ERROR(ReopenWriter());
    MUSTER_RETURN_IF_ERROR(writer_.Run("BEGIN IMMEDIATE"));
    SqliteTransaction transaction(writer_);
    Status status = body(transaction);
    if (status.ok()) status = writer_.Run("COMMIT");
    if (!status.ok() && writer_.in_transaction()) (void)writer_.Run("ROLLBACK");
    // After a failed write nothing that the connection believes is trusted.
    if (status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kDataLoss) {
      writer_broken_ = !memory_;
    }
    return status;
  }

  Status Read(Body body) override {
    if (memory_) {
      absl::MutexLock lock(&writer_mutex_);
      return ReadWith(writer_, body);
    }
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, TakeReader());
    const Status status = ReadWith(*connection, body);
    GiveReader(std::move(connection));
    return status;
  }

  StatusOr<absl::Time> Now() override { return SystemClock().Now(); }

  StatusOr<std::string> StoreEpoch() override {
    std::string epoch;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query("SELECT epoch FROM store_meta"));
      if (rows.empty()) return DataLoss("{} has lost its store epoch", path_);
      epoch = rows[0].Text(0);
      return OkStatus();
    }));
    return epoch;
  }

  Status Migrate(std::span<const std::string_view> migrations) override {
    return Write([&](Transaction& t) -> Status {
      MUSTER_RETURN_IF_ERROR(t.Execute("CREATE TABLE IF NOT EXISTS schema_migrations "
                                       "(version BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)").status());
      MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query("SELECT coalesce(max(version), 0) FROM schema_migrations"));
      const auto applied = static_cast<size_t>(rows[0].Int(0));
      if (applied > migrations.size()) {
        return FailedPrecondition("{} has schema {}, this program knows {}: install the newer muster", path_,
                                  applied, migrations.size());
      }
      for (size_t i = applied; i < migrations.size(); ++i) {
        MUSTER_RETURN_IF_ERROR(writer_script(WithTypes(migrations[i])));
        MUSTER_RETURN_IF_ERROR(
            t.Execute("INSERT INTO schema_migrations VALUES ($1, $2)",
                      {static_cast<int64_t>(i + 1), ToMicros(SystemClock().Now())}).status());
      }
      return OkStatus();
    });
  }

 private:
  explicit SqliteDatabase(std::string path) : path_(std::move(path)), memory_(path_ == ":memory:") {}

  Status writer_script(const std::string& sql) ABSL_NO_THREAD_SAFETY_ANALYSIS { return writer_.Run(sql.c_str()); }

  static Status ReadWith(Connection& connection, Body body) {
    MUSTER_RETURN_IF_ERROR(connection.Run("PRAGMA query_only=1"));
    MUSTER_RETURN_IF_ERROR(connection.Run("BEGIN"));
    SqliteTransaction transaction(connection);
    const Status status = body(transaction);
    (void)connection.Run("COMMIT");
    (void)connection.Run("PRAGMA query_only=0");
    return status;
  }

  Status OpenWriter() {
    absl::MutexLock lock(&writer_mutex_);
    return OpenWriterLocked();
  }
  Status OpenWriterLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(writer_mutex_) {
    MUSTER_RETURN_IF_ERROR(writer_.Open(path_, false));
    if (!memory_) chmod(path_.c_str(), 0600);
    return memory_ ? OkStatus() : writer_.Run("PRAGMA journal_mode=WAL");
  }
  Status ReopenWriter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(writer_mutex_) {
    writer_.Close();
    MUSTER_RETURN_IF_ERROR(OpenWriterLocked());
    writer_broken_ = false;
    return OkStatus();
  }

  Status CheckAndMeta() {
    return Write([&](Transaction& t) -> Status {
      if (!memory_) {
        MUSTER_ASSIGN_OR_RETURN(const Rows check, t.Query("PRAGMA quick_check(1)"));
        if (check.empty() || check[0].Text(0) != "ok") {
          return DataLoss("{} is damaged ({}); move it away and restore the newest backup of it", path_,
                          check.empty() ? "no answer" : check[0].Text(0));
        }
      }
      MUSTER_RETURN_IF_ERROR(t.Execute("CREATE TABLE IF NOT EXISTS store_meta (epoch TEXT NOT NULL)").status());
      return t.Execute("INSERT INTO store_meta SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM store_meta)",
                       {std::string_view(first_epoch_)}).status();
    });
  }

  StatusOr<std::unique_ptr<Connection>> TakeReader() {
    {
      absl::MutexLock lock(&readers_mutex_);
      if (!readers_.empty()) {
        std::unique_ptr<Connection> connection = std::move(readers_.back());
        readers_.pop_back();
        return connection;
      }
    }
    auto connection = std::make_unique<Connection>();
    MUSTER_RETURN_IF_ERROR(connection->Open(path_, false));
    return connection;
  }
  void GiveReader(std::unique_ptr<Connection> connection) {
    absl::MutexLock lock(&readers_mutex_);
    if (readers_.size() < 8 && !connection->in_transaction()) readers_.push_back(std::move(connection));
  }

  const std::string path_;
  const bool memory_;
  const std::string first_epoch_ = RandomUuid();
  absl::Mutex writer_mutex_;
  Connection writer_ ABSL_GUARDED_BY(writer_mutex_);
  bool writer_broken_ ABSL_GUARDED_BY(writer_mutex_) = false;
  absl::Mutex readers_mutex_;
  std::vector<std::unique_ptr<Connection>> readers_ ABSL_GUARDED_BY(readers_mutex_);
};

}  // namespace

double Row::Real(size_t column) const {
  if (const auto* whole = std::get_if<int64_t>(&cells_.at(column))) return static_cast<double>(*whole);
  return std::get<double>(cells_.at(column));
}

StatusOr<std::unique_ptr<Database>> OpenSqlite(const std::string& path) { return SqliteDatabase::Open(path); }

}  // namespace muster::sql
