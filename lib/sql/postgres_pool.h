// The connections to one PostgreSQL database. Any thread may call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/sql/postgres_connection.h"

namespace muster::sql {

// Opens connections. After a failure nobody tries for a moment: callers are refused at once, and
// the first one after it tries again.
class PostgresConnector {
 public:
  explicit PostgresConnector(PostgresAddress address) : address_(std::move(address)) {}
  const std::string& name() const { return address_.name(); }
  StatusOr<std::unique_ptr<PostgresConnection>> Connect();
  // PostgresWire::RefusalOf.
  std::string RefusalNow() const { return PostgresWire::RefusalOf(address_, absl::Seconds(3)); }

 private:
  // Short, because a server that is back must be found at once.
  static constexpr Backoff kBackoff = {absl::Milliseconds(100), absl::Seconds(1)};

  Status Allowed();
  void Note(const Status& status);

  const PostgresAddress address_;
  const std::unique_ptr<Random> random_ = SystemRandom();
  absl::Mutex mutex_;
  Status last_ ABSL_GUARDED_BY(mutex_);
  uint32_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration next_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
};

// At most so many connections at once; callers beyond them wait for one another.
class PostgresPool {
 public:
  // The connector must outlive the pool.
  PostgresPool(PostgresConnector& connector, size_t most, absl::Duration longest_wait)
      : connector_(connector), most_(most), longest_wait_(longest_wait) {}

  // Unavailable if none was free for too long, or none can be opened.
  StatusOr<std::unique_ptr<PostgresConnection>> Take();
  // A lost connection goes, and those that lie idle with it: they were most likely lost as well.
  void Give(std::unique_ptr<PostgresConnection> connection);

 private:
  StatusOr<std::unique_ptr<PostgresConnection>> TakeTurn();
  bool HasRoom() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return taken_ < most_; }

  PostgresConnector& connector_;
  const size_t most_;
  const absl::Duration longest_wait_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<PostgresConnection>> idle_ ABSL_GUARDED_BY(mutex_);
  size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace muster::sql
