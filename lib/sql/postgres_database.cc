#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/sql/migrations.h"
#include "lib/sql/postgres_connection.h"
#include "lib/sql/words.h"

namespace muster::sql {
namespace {

using Kind = PostgresConnection::Kind;

// How often a body is run before its caller hears that others were in the way.
constexpr int kMostTries = 3;

// Opens connections. After a failure nobody tries for a moment: callers are refused at once, and
// the first one after it tries again.
class Connector {
 public:
  explicit Connector(PostgresAddress address) : address_(std::move(address)) {}
  const std::string& name() const { return address_.name(); }

  StatusOr<std::unique_ptr<PostgresConnection>> Connect() {
    MUSTER_RETURN_IF_ERROR(Allowed());
    auto connection = PostgresConnection::Open(address_);
    Note(connection.status());
    return connection;
  }

 private:
  static constexpr Backoff kBackoff = {absl::Milliseconds(200), absl::Seconds(5)};

  Status Allowed() {
    absl::MutexLock lock(&mutex_);
    return SystemClock().Uptime() < next_ ? last_ : OkStatus();
  }

  void Note(const Status& status) {
    absl::MutexLock lock(&mutex_);
    last_ = status;
    if (status.ok()) {
      failures_ = 0;
      next_ = absl::ZeroDuration();
      return;
    }
    next_ = SystemClock().Uptime() + FullJitter(kBackoff, failures_++, *random_);
  }

  const PostgresAddress address_;
  const std::unique_ptr<Random> random_ = SystemRandom();
  absl::Mutex mutex_;
  Status last_ ABSL_GUARDED_BY(mutex_);
  uint32_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration next_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
};

// At most so many connections at once; callers beyond them wait for one another.
class Pool {
 public:
  Pool(Connector& connector, size_t most, absl::Duration longest_wait)
      : connector_(connector), most_(most), longest_wait_(longest_wait) {}

  StatusOr<std::unique_ptr<PostgresConnection>> Take() {
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<PostgresConnection> idle, TakeTurn());
    if (idle != nullptr) return idle;
    auto fresh = connector_.Connect();
    if (!fresh.ok()) Give(nullptr);
    return fresh;
  }

  // A lost connection goes, and those that lie idle with it: they were most likely lost as well.
  void Give(std::unique_ptr<PostgresConnection> connection) {
    std::vector<std::unique_ptr<PostgresConnection>> lost;
    absl::MutexLock lock(&mutex_);
    --taken_;
    if (connection != nullptr && connection->open()) {
      idle_.push_back(std::move(connection));
    } else {
      lost.swap(idle_);
    }
  }

 private:
  // The place, and a connection if one lies idle.
  StatusOr<std::unique_ptr<PostgresConnection>> TakeTurn() {
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(this, &Pool::HasRoom), longest_wait_)) {
      return Unavailable("all {} connections to {} have been busy for {}; try later", most_,
                         connector_.name(), absl::FormatDuration(longest_wait_));
    }
    ++taken_;
    if (idle_.empty()) return nullptr;
    std::unique_ptr<PostgresConnection> connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }
  bool HasRoom() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return taken_ < most_; }

  Connector& connector_;
  const size_t most_;
  const absl::Duration longest_wait_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<PostgresConnection>> idle_ ABSL_GUARDED_BY(mutex_);
  size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Types of a schema as PostgreSQL has them. Text is compared by its bytes, as SQLite does: an order
// of the server's locale would differ, and would change under an index when the server is upgraded.
std::string WithTypes(std::string_view sql) {
  std::string text = ReplaceWord(std::string(sql), "TEXT", "TEXT COLLATE \"C\"");
  return ReplaceWord(std::move(text), "BYTES", "BYTEA");
}

class PostgresDatabase final : public Database {
 public:
  PostgresDatabase(PostgresAddress address, const PostgresOptions& options)
      : connector_(std::move(address)),
        writers_(connector_, 1, options.longest_wait),
        readers_(connector_, options.readers, options.longest_wait) {}

  Status Write(Body body) override {
    return Run(writers_, Kind::kWrite, [&](PostgresConnection& t) { return body(t); });
  }
  Status Read(Body body) override {
    return Run(readers_, Kind::kRead, [&](PostgresConnection& t) { return body(t); });
  }

  StatusOr<absl::Time> Now() override {
    absl::Time now;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(now, t.Now());
      return OkStatus();
    }));
    return now;
  }

  // The cluster, its timeline, and the numbers of the database and of one of its tables: another
  // timeline follows a failover and a recovery, other numbers a restored dump.
  StatusOr<std::string> StoreEpoch() override {
    std::string epoch;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(
          const Rows rows,
          t.Query("SELECT CAST(system_identifier AS TEXT), "
                  "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), "
                  "(SELECT oid FROM pg_database WHERE datname = current_database()), "
                  "coalesce(CAST(to_regclass('schema_migrations') AS OID), 0) "
                  "FROM pg_control_system()"));
      const Row& row = rows[0];
      epoch = fmt::format("{}-{}-{}-{}", row.Text(0), row.Text(1), row.Int(2), row.Int(3));
      return OkStatus();
    }));
    return epoch;
  }

  Status Migrate(std::span<const std::string_view> migrations) override {
    bool done = false;
    while (!done) {
      MUSTER_RETURN_IF_ERROR(Run(writers_, Kind::kMigration, [&](PostgresConnection& t) {
        return MigrateOne(t, migrations, done);
      }));
    }
    return OkStatus();
  }

 private:
  using OnConnection = absl::FunctionRef<Status(PostgresConnection&)>;

  static Status Run(Pool& pool, Kind kind, OnConnection body) {
    for (int i = 1;; ++i) {
      MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<PostgresConnection> connection, pool.Take());
      const Status status = connection->Run(kind, [&](Transaction&) { return body(*connection); });
      const bool again = connection->again();
      pool.Give(std::move(connection));
      if (!again || i == kMostTries) return status;
    }
  }

  // The next migration that is not there yet. The writers' lock keeps other programs out.
  Status MigrateOne(PostgresConnection& t, std::span<const std::string_view> migrations,
                    bool& done) {
    MUSTER_ASSIGN_OR_RETURN(const size_t applied, MigrationsApplied(t));
    done = applied >= migrations.size();
    if (done) return CheckNewer(t, connector_.name(), migrations.size(), applied);
    MUSTER_RETURN_IF_ERROR(t.Script(WithTypes(migrations[applied])));
    return NoteMigration(t, migrations[applied], applied + 1);
  }

  Connector connector_;
  // One of ours at a time, as the advisory lock wants it anyway: those that wait need no
  // connection, and readers never keep a writer out.
  Pool writers_;
  Pool readers_;
};

}  // namespace

StatusOr<std::unique_ptr<Database>> OpenPostgres(const std::string& url,
                                                 const PostgresOptions& options) {
  MUSTER_ASSIGN_OR_RETURN(PostgresAddress address, PostgresAddress::Parse(url));
  auto database = std::make_unique<PostgresDatabase>(std::move(address), options);
  MUSTER_RETURN_IF_ERROR(database->Now().status());
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace muster::sql
