#include "lib/sql/postgres_pool.h"

namespace muster::sql {

StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnector::Connect() {
  MUSTER_RETURN_IF_ERROR(Allowed());
  auto connection = PostgresConnection::Open(address_);
  Note(connection.status());
  return connection;
}

Status PostgresConnector::Allowed() {
  absl::MutexLock lock(&mutex_);
  return SystemClock().Uptime() < next_ ? last_ : OkStatus();
}

void PostgresConnector::Note(const Status& status) {
  absl::MutexLock lock(&mutex_);
  last_ = status;
  if (status.ok()) {
    failures_ = 0;
    next_ = absl::ZeroDuration();
    return;
  }
  next_ = SystemClock().Uptime() + FullJitter(kBackoff, failures_++, *random_);
}

StatusOr<std::unique_ptr<PostgresConnection>> PostgresPool::Take() {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<PostgresConnection> idle, TakeTurn());
  if (idle != nullptr) return idle;
  auto fresh = connector_.Connect();
  if (!fresh.ok()) Give(nullptr);
  return fresh;
}

void PostgresPool::Give(std::unique_ptr<PostgresConnection> connection) {
  std::vector<std::unique_ptr<PostgresConnection>> lost;
  absl::MutexLock lock(&mutex_);
  --taken_;
  if (connection != nullptr && connection->open()) {
    idle_.push_back(std::move(connection));
  } else {
    lost.swap(idle_);
  }
}

// The place, and a connection if one lies idle.
StatusOr<std::unique_ptr<PostgresConnection>> PostgresPool::TakeTurn() {
  absl::MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithTimeout(absl::Condition(this, &PostgresPool::HasRoom), longest_wait_)) {
    return Unavailable("all {} connections to {} have been busy for {}; try later", most_,
                       connector_.name(), absl::FormatDuration(longest_wait_));
  }
  ++taken_;
  if (idle_.empty()) return nullptr;
  std::unique_ptr<PostgresConnection> connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

}  // namespace muster::sql
