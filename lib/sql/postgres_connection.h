// One connection to a PostgreSQL server; also the transaction that runs on it. Used by one thread
// at a time. After the first error within a transaction every later call returns that error and the
// transaction cannot be committed. A connection that was lost stays lost.
//
// Writers of a database take turns, as on SQLite: each holds an advisory lock from its first moment
// to its commit, so that none sees another's work half done and none has to be run again. Nothing
// of a session outlives its transaction, so a pooler that shares connections may stand between.
#pragma once

#include <memory>
#include <string>

#include "lib/sql/database.h"
#include "lib/sql/postgres_address.h"

namespace muster::sql {

class PostgresConnection final : public Transaction {
 public:
  enum class Kind { kWrite, kRead, kMigration };

  // The address must outlive the connection.
  static StatusOr<std::unique_ptr<PostgresConnection>> Open(const PostgresAddress& address);
  ~PostgresConnection() override;
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  using Transaction::Execute;
  using Transaction::Query;
  StatusOr<Rows> Query(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<int64_t> Execute(std::string_view sql, std::span<const Parameter> parameters) override;
  StatusOr<absl::Time> Now() override;
  // Any number of statements without parameters or rows.
  Status Script(const std::string& sql);

  Status Run(Kind kind, Database::Body body);

  // False once the connection was lost: it is of no further use.
  bool open() const;
  // Whether the last Run failed for a reason that a second one may not meet: the connection had
  // been lost before the body began, or the server chose this transaction to give way to another.
  bool again() const { return again_; }

 private:
  struct Wire;

  PostgresConnection(const PostgresAddress& address, std::unique_ptr<Wire> wire);
  template <typename Call>
  Status Guarded(std::string_view doing, Call call);
  Status Begin(Kind kind);
  Status Commit();
  void Rollback();
  Status Ask(std::string_view sql, std::span<const Parameter> parameters);
  Status Fail(Status status);
  Status Failure(std::string_view doing);
  Status InDoubt(std::string_view doing, std::string_view said) const;
  Status Refusal(std::string_view doing, std::string_view state, std::string_view said) const;
  const std::string& name() const { return address_.name(); }

  const PostgresAddress& address_;
  std::unique_ptr<Wire> wire_;
  Status failed_;  // the first error of this transaction
  bool again_ = false;
};

}  // namespace muster::sql
