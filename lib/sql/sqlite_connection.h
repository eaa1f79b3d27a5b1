// One connection to a SQLite file, with its prepared statements; also the transaction that runs on
// it. Used by one thread at a time. After the first error within a transaction every later call
// returns that error and the transaction cannot be committed: as PostgreSQL behaves, and so that
// nothing is half applied.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/sql/database.h"

struct sqlite3;
struct sqlite3_stmt;

namespace muster::sql {

class SqliteConnection final : public Transaction {
 public:
  enum class Access { kWrite, kRead };
  // ":memory:" with kWrite is a database of its own. The file must be there already.
  static StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& path, Access access);
  ~SqliteConnection() override;
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  using Transaction::Execute;
  using Transaction::Query;
  StatusOr<Rows> Query(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<int64_t> Execute(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<Rows> QueryRows(std::string_view head, const Table& rows,
                           std::string_view tail) override;
  Status SendRows(std::string_view head, const Table& rows, std::string_view tail,
                  std::optional<int64_t> changes) override;
  StatusOr<int64_t> ExecuteRows(std::string_view head, const Table& rows,
                                std::string_view tail) override;
  StatusOr<absl::Time> Now() override;
  // Any number of statements without parameters or rows.
  Status Script(const std::string& sql);

  Status WriteWith(Database::Body body);
  Status ReadWith(Database::Body body);
  // For the connection of a memory database, which serves both.
  Status ReadOnlyWith(Database::Body body);

  // The disk failed under it, or the file is damaged: what it holds in memory is not to be
  // believed.
  bool broken() const { return broken_; }

 private:
  struct Statement {
    sqlite3_stmt* compiled = nullptr;
    std::vector<int> position;  // of $1, $2 … as SQLite counts them
  };

  explicit SqliteConnection(std::string path) : path_(std::move(path)) {}
  Status Connect(Access access);
  Status UseWal();
  StatusOr<Statement*> Prepare(std::string_view sql);
  StatusOr<sqlite3_stmt*> Bound(std::string_view sql, std::span<const Parameter> parameters);
  Status Finish(sqlite3_stmt* statement, int step, std::string_view sql);
  // Steps a statement that has neither parameters nor rows, outside of the transaction's own error.
  Status Control(std::string_view sql);
  Status Commit();
  void Rollback();
  Status Failure(std::string_view doing);
  Status Fail(Status status);
  void ForgetStatements();

  const std::string path_;
  sqlite3* db_ = nullptr;
  std::map<std::string, Statement, std::less<>> statements_;
  bool in_transaction_ = false;
  Status failed_;         // the first error of this transaction
  int last_failure_ = 0;  // SQLite's extended code
  bool broken_ = false;
};

}  // namespace muster::sql
