// A thin port to a SQL database: transactions, parameters, rows. One SQL text runs on every driver;
// what differs between them is a method here.
//
// Placeholders are $1, $2 …, in any order; a Null takes its type from where it stands. Times are
// stored as BIGINT microseconds since the epoch. Types in a schema: BIGINT, TEXT, DOUBLE PRECISION,
// and BYTES, which the driver replaces. Text is compared by its bytes, and holds no zero byte.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <absl/functional/function_ref.h>
#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::sql {

struct Bytes {
  std::string_view view;
};
using Null = std::monostate;
// Text and bytes are borrowed until the call returns.
using Parameter = std::variant<Null, int64_t, double, std::string_view, Bytes>;

// Rows of so many columns each, one behind the other.
struct Table {
  size_t columns = 0;
  std::span<const Parameter> values;
};

inline int64_t ToMicros(absl::Time time) { return absl::ToUnixMicros(time); }
inline absl::Time FromMicros(int64_t micros) { return absl::FromUnixMicros(micros); }

// One row of an answer, owned. Reading a column as the wrong type is a bug of ours and ends the
// program.
class Row {
 public:
  using Cell = std::variant<Null, int64_t, double, std::string>;
  explicit Row(std::vector<Cell> cells) : cells_(std::move(cells)) {}
  bool IsNull(size_t column) const { return std::holds_alternative<Null>(cells_.at(column)); }
  int64_t Int(size_t column) const { return std::get<int64_t>(cells_.at(column)); }
  double Real(size_t column) const;
  // Text and bytes alike.
  const std::string& Text(size_t column) const { return std::get<std::string>(cells_.at(column)); }
  absl::Time Time(size_t column) const { return FromMicros(Int(column)); }
  size_t size() const { return cells_.size(); }

 private:
  std::vector<Cell> cells_;
};
using Rows = std::vector<Row>;

// Used within the function that Database gave it to, by that thread.
class Transaction {
 public:
  virtual ~Transaction() = default;
  virtual StatusOr<Rows> Query(std::string_view sql, std::span<const Parameter> parameters) = 0;
  // Rows changed. AlreadyExists when a unique or primary key is in the way.
  virtual StatusOr<int64_t> Execute(std::string_view sql,
                                    std::span<const Parameter> parameters) = 0;
  // One statement over many rows: "HEAD rows TAIL". The rows stand as a query does, with the
  // columns column1, column2 …: behind "INSERT INTO t (a, b) ", or within "FROM (" and ") AS v". A
  // column holds values of one type, or null; within FROM, not only null. No rows: nothing is done.
  virtual StatusOr<Rows> QueryRows(std::string_view head, const Table& rows,
                                   std::string_view tail) = 0;
  virtual StatusOr<int64_t> ExecuteRows(std::string_view head, const Table& rows,
                                        std::string_view tail) = 0;
  // As ExecuteRows, for what decides nothing within the body: the statement may go out together
  // with the next one or the commit, and what is wrong with it is then their error. `changes`: how
  // many rows it has to change, else they are Aborted.
  virtual Status SendRows(std::string_view head, const Table& rows, std::string_view tail,
                          std::optional<int64_t> changes) = 0;
  // The time by the database's own clock, at this moment and not when the transaction began: one
  // clock for all programs that share the database.
  virtual StatusOr<absl::Time> Now() = 0;

  StatusOr<Rows> Query(std::string_view sql, std::initializer_list<Parameter> parameters = {}) {
    return Query(sql, std::span(parameters.begin(), parameters.size()));
  }
  StatusOr<int64_t> Execute(std::string_view sql,
                            std::initializer_list<Parameter> parameters = {}) {
    return Execute(sql, std::span(parameters.begin(), parameters.size()));
  }
};

// A store's epoch names one unbroken line of commits. It ends where acknowledged ones may have been
// lost: at a failover to a standby, with a restored copy.
struct EpochChange {
  std::string before;
  std::string after;
};

// Any thread may call. A function given to it must be safe to run again, and must not call the
// Database.
class Database {
 public:
  virtual ~Database() = default;
  using Body = absl::FunctionRef<Status(Transaction&)>;
  using Recovery = std::function<Status(Transaction&, const EpochChange&)>;

  // Commits when the body returns OK, else rolls back and returns its error. ResourceExhausted: the
  // disk is full. Unavailable: try later. Aborted: others were in the way. Unknown: it may have
  // been committed. DataLoss: damaged.
  virtual Status Write(Body body) = 0;
  // A consistent snapshot. Writing fails.
  virtual Status Read(Body body) = 0;

  // Runs in the first Write of a new epoch, before its body and in its transaction, for exactly one
  // of all writers: what was given out and lost must not be given out again. Set it once, before
  // the first Write.
  virtual void OnRecovery(Recovery recovery) = 0;

  // What differs between the databases.
  virtual StatusOr<absl::Time> Now() = 0;
  // The proven epoch: if it has just changed, the recovery has run.
  virtual StatusOr<std::string> StoreEpoch() = 0;
  // Applies those migrations that are not there yet, in order, under a lock. `migrations[i]` is
  // version i + 1. Lines from "-- only: postgresql" or "-- only: sqlite" to "-- end" are for that
  // driver. A newer program may have applied more: FailedPrecondition, unless each of those says in
  // a line "-- oldest program: N" that programs which know N migrations can work with it.
  virtual Status Migrate(std::span<const std::string_view> migrations) = 0;
  // For a table that the schema keeps by the day, on a driver that can: makes the days from `from`
  // to `until` that are not there yet, and moves into them what lies outside of every day. Answers
  // how many rows still do, and counts no further than a thousand. 0 where the table is in one
  // piece.
  virtual StatusOr<int64_t> MakeDays(std::string_view table, absl::Time from, absl::Time until) = 0;
  // Drops the days that end at or before `cutoff`; how many. Rows outside of every day stay, in
  // TABLE_other. nullopt where the table is in one piece: delete its rows.
  virtual StatusOr<std::optional<int>> DropDays(std::string_view table, absl::Time cutoff) = 0;
};

// A file, in WAL mode with synchronous=FULL. Refuses a damaged file with DataLoss and what to do.
// path ":memory:" is a database of its own, for tests and simulation.
StatusOr<std::unique_ptr<Database>> OpenSqlite(const std::string& path);

struct PostgresOptions {
  size_t readers = 7;                               // connections, beside one for writing
  absl::Duration longest_wait = absl::Seconds(10);  // for one of them; then Unavailable
};
// "postgresql://USER@HOST:PORT/DATABASE", the database being there and owned by the user; with
// "HOST:PORT,HOST:PORT" the one that takes writes is used. The server must answer now; later it may
// go and come back. Unavailable: it does not, or takes no writes. NotFound, PermissionDenied: it is
// there, and has no such database, or lets the user not in. No error repeats the URL's password.
StatusOr<std::unique_ptr<Database>> OpenPostgres(const std::string& url,
                                                 const PostgresOptions& options = {});

}  // namespace muster::sql
