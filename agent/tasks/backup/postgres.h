// A PostgreSQL server as a backup reaches it: its address as the policy allows it, and one session.
// Every wait ends when the run is to end. One thread. No message holds the password.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/probes/pg_address.h"
#include "agent/tasks/task.h"
#include "lib/base/secret.h"
#include "lib/base/status.h"
#include "lib/exec/program.h"

struct pg_conn;

namespace muster::agent::backup {

class PgServer {
 public:
  // The server of a connection string: one host that the policy allows, pinned to one address.
  static StatusOr<PgServer> At(std::string_view dsn, const Policy& policy, TaskContext& context);
  // The same of a spec's `connection` or `dsn`.
  template <typename Spec>
  static StatusOr<PgServer> Of(const Spec& spec, const Policy& policy, TaskContext& context) {
    if (!spec.has_connection()) return At(spec.dsn(), policy, context);
    MUSTER_ASSIGN_OR_RETURN(const Secret dsn, policy.ReadSecret(spec.connection().secret()));
    return At(dsn.Reveal(), policy, context);
  }
  // A server of our own behind a socket in the folder.
  static PgServer Own(const std::string& folder, const std::string& user,
                      const std::string& database);

  // The same server, another database.
  PgServer Database(const std::string& name) const;

  // For libpq's programs: everything but the password, which they read from PassFile as stdin.
  std::string Conninfo() const;
  // Not open where there is no password.
  StatusOr<exec::Fd> PassFile() const;
  std::string Name() const;  // "db-1:5432"
  const PgSettings& settings() const { return settings_; }
  std::string_view password() const { return password_->Reveal(); }

 private:
  PgSettings settings_;  // without the password
  std::shared_ptr<const Secret> password_ = std::make_shared<const Secret>();
};

// With what to do, where the server does not let the user of the connection string in.
Status Advised(const Status& status);

// 'text' for SQL, and "name".
std::string Quoted(std::string_view text);
std::string QuotedName(std::string_view name);

using PgTable = std::vector<std::vector<std::string>>;  // rows of columns; NULL is ""

class PgWork {
 public:
  static StatusOr<std::unique_ptr<PgWork>> Open(const PgServer& server, TaskContext& context);
  ~PgWork();
  PgWork(const PgWork&) = delete;
  PgWork& operator=(const PgWork&) = delete;

  // One statement or several; the last one's rows. Unavailable with PostgreSQL's own words.
  StatusOr<PgTable> Query(const std::string& sql);
  // Its first column of its first row; DataLoss if there is none.
  StatusOr<std::string> Value(const std::string& sql);

 private:
  PgWork(pg_conn* connection, TaskContext& context) : connection_(connection), context_(context) {}
  Status Connect(absl::Duration within);
  Status Wait(short events, absl::Duration until);
  Status Error() const;
  void Cancel() const;

  pg_conn* connection_;
  TaskContext& context_;
};

}  // namespace muster::agent::backup
