// One connection to a PostgreSQL server; also the transaction that runs on it. Used by one thread
// at a time. After the first error within a transaction every later call returns that error and the
// transaction cannot be committed. A connection that was lost stays lost.
//
// Writers of a database take turns, as on SQLite: each holds an advisory lock from its first moment
// to its commit, so that none sees another's work half done and none has to be run again
// (docs/decisions/0030-writers-take-turns.md). One that falls silent loses its turn. Nothing of a
// session outlives its transaction, so a pooler that shares connections may stand between.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/sql/database.h"
#include "lib/sql/postgres_address.h"
#include "lib/sql/postgres_wire.h"

namespace muster::sql {

class PostgresConnection final : public Transaction {
 public:
  // kMigration takes its turn too, and has an hour for a statement.
  enum class Kind { kWrite, kRead, kMigration };

  // The address must outlive the connection.
  static StatusOr<std::unique_ptr<PostgresConnection>> Open(const PostgresAddress& address);
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  using Transaction::Execute;
  using Transaction::Query;
  StatusOr<Rows> Query(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<int64_t> Execute(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<Rows> QueryRows(std::string_view head, const Table& rows,
                           std::string_view tail) override;
  StatusOr<int64_t> ExecuteRows(std::string_view head, const Table& rows,
                                std::string_view tail) override;
  Status SendRows(std::string_view head, const Table& rows, std::string_view tail,
                  std::optional<int64_t> changes) override;
  StatusOr<absl::Time> Now() override;
  // Any number of statements without parameters or rows.
  Status Script(const std::string& sql);

  using Body = absl::FunctionRef<Status(PostgresConnection&)>;
  Status Run(Kind kind, Body body);

  // Whether this transaction runs on a server process for which MarkProven was called in a
  // transaction that was committed: what was found out about the server then still holds. A
  // failover ends every process.
  bool proven() const { return server_ == proven_; }
  void MarkProven() { proving_ = server_; }

  // Ends the sessions of writers that hold their turn and have said nothing for longer than they
  // may. Between two transactions.
  void EndSilentWriters();

  // False once the connection was lost: it is of no further use.
  bool open() const { return wire_->open(); }
  void Cut(const std::string& why) { wire_->Cut(why); }

  // Why the last Run failed, for those to whom it matters.
  enum class Obstacle {
    kNone,     // none that a second try may not meet
    kLost,     // the connection had been lost before the body began
    kGaveWay,  // the server chose another transaction over this one
    kNoTurn,   // another writer kept its turn for too long
  };
  Obstacle obstacle() const { return obstacle_; }

 private:
  PostgresConnection(const PostgresAddress& address, std::unique_ptr<PostgresWire> wire);
  Status Begin(Kind kind);
  Status Commit();
  void Rollback();
  StatusOr<PostgresWire::Answer> Ask(std::string_view sql, std::span<const Parameter> parameters);
  StatusOr<PostgresWire::Answer> Ask(std::string_view sql, const PostgresParameters& parameters);
  StatusOr<std::pair<std::string, PostgresTable>> Statement(std::string_view head,
                                                            const Table& rows,
                                                            std::string_view tail);
  // What became of the statements that were sent, now that their answers are here.
  Status JudgeSent();
  // Has their answers come, if there are any.
  Status Settle();
  StatusOr<PostgresWire::Answer> AskRows(std::string_view head, const Table& rows,
                                         std::string_view tail);
  StatusOr<Rows> ReadRows(std::string_view sql, const PostgresWire::Answer& answer);
  // OK, or what the answer to `doing` means.
  Status Judge(std::string_view doing, const PostgresWire::Answer& answer);
  Status Refusal(std::string_view doing, std::string_view state, const std::string& said);
  Status Fail(Status status);
  const std::string& name() const { return address_.name(); }

  const PostgresAddress& address_;
  const std::unique_ptr<PostgresWire> wire_;
  absl::Duration patience_;  // with an answer, in this transaction
  std::string server_;       // its process and timeline, of this transaction
  std::string proving_;      // by this transaction, if it is committed
  std::string proven_;
  Status failed_;  // the first error of this transaction
  struct Sent {
    std::string doing;
    std::optional<int64_t> changes;
  };
  std::vector<Sent> sent_;  // and not judged yet
  Obstacle obstacle_ = Obstacle::kNone;
};

}  // namespace muster::sql
