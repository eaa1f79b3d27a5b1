// libpq's connection to one server. Every call ends by its deadline, whatever the server does: one
// that is late is cut off, because nothing is known of it any more. A connection that was lost
// stays lost. One thread at a time.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/time/time.h>

#include "lib/sql/postgres_address.h"
#include "lib/sql/postgres_values.h"

namespace muster::sql {

class PostgresWire {
 public:
  struct Clear {
    void operator()(PGresult* result) const { PQclear(result); }
  };
  // Null: the connection was lost, or, if it is still open, libpq would not send it. Else the
  // server's answer, which may be a refusal.
  using Answer = std::unique_ptr<PGresult, Clear>;

  // Unavailable, with all that was said by each host of the address.
  static StatusOr<std::unique_ptr<PostgresWire>> Connect(const PostgresAddress& address);
  // Why the server lets nobody in, for one that could not Connect: its SQLSTATE, "28P01" for a
  // password that it wants and was not given. Empty: it does not say, or does not answer in time.
  static std::string RefusalOf(const PostgresAddress& address, absl::Duration within);
  ~PostgresWire();
  PostgresWire(const PostgresWire&) = delete;
  PostgresWire& operator=(const PostgresWire&) = delete;

  // Statements without parameters; the answer is the first refusal, else the last one's. Values
  // come as text.
  Answer Run(const std::string& statements, absl::Duration within);
  // One statement. Values come in binary form.
  Answer Ask(const std::string& statement, const PostgresParameters& parameters,
             absl::Duration within);

  // One statement whose answer is wanted later: it goes out with others, and is done before those
  // that follow. After a refusal the server skips what follows up to the next Ask or Settle, which
  // bring the answers. Meanwhile no Run. False: as for an answer that is null.
  bool Send(const std::string& statement, const PostgresParameters& parameters);
  // True when each was answered, the last one perhaps with a refusal.
  bool Settle(absl::Duration within);
  // The answers to what was sent before the latest Ask or Settle, up to the first that is a
  // refusal; fewer if the connection was lost.
  std::vector<Answer> TakeEarlier() { return std::exchange(earlier_, {}); }

  bool open() const { return connection_ != nullptr && PQstatus(connection_) == CONNECTION_OK; }
  void Cut(const std::string& why);
  // Why there was no answer, as libpq says it.
  const std::string& lost() const { return lost_; }
  // The last warning since it was asked for.
  std::string TakeWarning() { return std::exchange(warning_, std::string()); }

 private:
  explicit PostgresWire(PGconn* connection);
  Answer Finish(bool sent, absl::Duration within);
  bool Flush(absl::Duration deadline);
  Answer Collect(absl::Duration deadline);
  bool CollectSent(absl::Duration deadline);
  bool SendOne(const std::string& statement, const PostgresParameters& parameters);
  bool Wait(bool to_write, absl::Duration deadline);
  static void Hear(void* wire, const PGresult* notice);

  PGconn* connection_;
  std::string lost_;
  std::string warning_;
  size_t waiting_ = 0;  // sent, and not collected
  std::vector<Answer> earlier_;
};

// Five letters, as in PostgreSQL's documentation, appendix A; empty when there is no error.
std::string SqlState(const PGresult* result);

}  // namespace muster::sql
