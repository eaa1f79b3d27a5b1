// One connection to PostgreSQL that lives as long as a probe's run; every call ends by the
// deadline. One thread. No message holds the password.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/probes/probe.h"
#include "agent/probes/report.h"
#include "lib/base/secret.h"
#include "lib/base/status.h"

struct pg_conn;

namespace muster::agent {

struct PgRows {
  std::vector<std::vector<std::string>> rows;  // NULL is ""
  bool empty() const { return rows.empty(); }
  const std::string& at(size_t row, size_t column) const { return rows[row][column]; }
};

class PgSession {
 public:
  // InvalidArgument for a string that names several hosts, a service, or is not one;
  // PermissionDenied for a host or file that the policy does not allow. Begins a read-only
  // transaction.
  static StatusOr<std::unique_ptr<PgSession>> Open(std::string_view dsn, const Policy& policy,
                                                   const ProbeContext& context, Report& report);
  ~PgSession();
  PgSession(const PgSession&) = delete;
  PgSession& operator=(const PgSession&) = delete;

  // Exactly one statement.
  StatusOr<PgRows> Query(const std::string& sql, const ProbeContext& context);

 private:
  explicit PgSession(pg_conn* connection) : connection_(connection) {}
  Status Connect(const ProbeContext& context);
  Status Begin(const ProbeContext& context);
  StatusOr<PgRows> Collect(const ProbeContext& context);
  Status Wait(short events, const ProbeContext& context) const;
  Status Error() const;

  pg_conn* connection_;
};

}  // namespace muster::agent
