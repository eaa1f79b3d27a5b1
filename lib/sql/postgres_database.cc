#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/sql/migrations.h"
#include "lib/sql/postgres_connection.h"
#include "lib/sql/postgres_days.h"
#include "lib/sql/postgres_pool.h"
#include "lib/sql/words.h"

namespace muster::sql {
namespace {

using Kind = PostgresConnection::Kind;
using Obstacle = PostgresConnection::Obstacle;

// How often a body is run before its caller hears that others were in the way.
constexpr int kMostTries = 3;

// The cluster, its timeline, and the numbers of the database and of the table that remembers them.
// Another timeline follows a failover or a recovery, other numbers a restored dump.
constexpr std::string_view kIdentity =
    "((SELECT system_identifier FROM pg_control_system()) || '-' || "
    "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '-' || "
    "(SELECT oid FROM pg_database WHERE datname = current_database()) || '-' || "
    "CAST(CAST('store_meta' AS regclass) AS oid))";

// Types of a schema as PostgreSQL has them. Text is compared by its bytes, as SQLite does: an order
// of the server's locale would differ, and would change under an index when the server is upgraded.
std::string WithTypes(std::string_view sql) {
  std::string text = ReplaceWord(ForDriver(sql, "postgresql"), "TEXT", "TEXT COLLATE \"C\"");
  return ReplaceWord(std::move(text), "BYTES", "BYTEA");
}

// An identity's cluster and timeline, both as text: "7012…", "00000002".
struct Timeline {
  std::string cluster;
  std::string number;
};
Timeline TimelineOf(const std::string& identity) {
  const size_t first = identity.find('-');
  const size_t second = identity.find('-', first + 1);
  return {identity.substr(0, first), identity.substr(first + 1, second - first - 1)};
}

class PostgresDatabase final : public Database {
 public:
  PostgresDatabase(PostgresAddress address, const PostgresOptions& options)
      : connector_(std::move(address)),
        writers_(connector_, 1, options.longest_wait),
        readers_(connector_, options.readers, options.longest_wait) {}

  // The store remembers in which line of commits it was last written.
  Status Prepare() {
    return Run(writers_, Kind::kMigration, [&](PostgresConnection& t) -> Status {
      MUSTER_RETURN_IF_ERROR(
          t.Script("CREATE TABLE IF NOT EXISTS store_meta "
                   "(epoch text COLLATE \"C\" NOT NULL, identity text COLLATE \"C\" NOT NULL)"));
      return t
          .Execute(fmt::format("INSERT INTO store_meta (epoch, identity) SELECT $1, {} "
                               "WHERE NOT EXISTS (SELECT 1 FROM store_meta)",
                               kIdentity),
                   {std::string_view(RandomUuid())})
          .status();
    });
  }

  // Of a server that is not available, whether it is there and time will not change its mind.
  Status WhyNot(const Status& unavailable) const {
    const std::string state = connector_.RefusalNow();
    if (state == "3D000")
      return NotFound("{}; make the database, or name another", Message(unavailable));
    if (state.starts_with("28") || state == "42501") {
      return PermissionDenied("{}; see to the user, the password, and pg_hba.conf of the server",
                              Message(unavailable));
    }
    return unavailable;
  }

  Status Write(Body body) override {
    return Run(writers_, Kind::kWrite, [&](PostgresConnection& t) -> Status {
      if (!t.proven()) MUSTER_RETURN_IF_ERROR(Prove(t));
      return body(t);
    });
  }
  Status Read(Body body) override {
    return Run(readers_, Kind::kRead, [&](PostgresConnection& t) { return body(t); });
  }

  void OnRecovery(Recovery recovery) override { recovery_ = std::move(recovery); }

  StatusOr<absl::Time> Now() override {
    absl::Time now;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(now, t.Now());
      return OkStatus();
    }));
    return now;
  }

  StatusOr<std::string> StoreEpoch() override {
    std::string epoch;
    bool proven = false;
    const auto look = [&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(
          const Rows rows,
          t.Query(fmt::format("SELECT epoch, identity = {} FROM store_meta", kIdentity)));
      proven = !rows.empty() && rows[0].Int(1) != 0;
      if (proven) epoch = rows[0].Text(0);
      return OkStatus();
    };
    MUSTER_RETURN_IF_ERROR(Read(look));
    if (proven) return epoch;
    MUSTER_RETURN_IF_ERROR(
        Run(writers_, Kind::kWrite, [&](PostgresConnection& t) { return Prove(t); }));
    MUSTER_RETURN_IF_ERROR(Read(look));
    if (!proven) return Unavailable("the epoch of {} changes just now", connector_.name());
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

  StatusOr<int64_t> MakeDays(std::string_view table, absl::Time from, absl::Time until) override {
    PostgresDays days;
    const auto look = [&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(days, LookAtPostgresDays(t, table, from, until));
      return OkStatus();
    };
    MUSTER_RETURN_IF_ERROR(Read(look));
    if (days.missing.empty()) return days.outside;
    for (const absl::Time day : days.missing) {
      MUSTER_RETURN_IF_ERROR(Write([&](Transaction& t) { return MakePostgresDay(t, table, day); }));
    }
    MUSTER_RETURN_IF_ERROR(Read(look));
    return days.outside;
  }

  // Each in a transaction of its own: readers are kept out for a moment at a time.
  StatusOr<std::optional<int>> DropDays(std::string_view table, absl::Time cutoff) override {
    std::optional<std::vector<std::string>> days;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(days, PostgresDaysBefore(t, table, cutoff));
      return OkStatus();
    }));
    if (!days) return std::nullopt;
    for (const std::string& day : *days) {
      MUSTER_RETURN_IF_ERROR(Write([&](Transaction& t) {
        return t.Execute(fmt::format("DROP TABLE IF EXISTS {}", day)).status();
      }));
    }
    return std::optional(static_cast<int>(days->size()));
  }

 private:
  static Status Run(PostgresPool& pool, Kind kind, PostgresConnection::Body body) {
    for (int i = 1;; ++i) {
      MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<PostgresConnection> connection, pool.Take());
      const Status status = connection->Run(kind, body);
      const Obstacle obstacle = connection->obstacle();
      if (obstacle == Obstacle::kNoTurn) connection->EndSilentWriters();
      pool.Give(std::move(connection));
      if (obstacle == Obstacle::kNone || i == kMostTries) return status;
    }
  }

  // The first writer on another line of commits than the store's last one recovers what was given
  // out and lost.
  Status Prove(PostgresConnection& t) {
    MUSTER_ASSIGN_OR_RETURN(
        const Rows rows, t.Query(fmt::format("SELECT {}, m.identity, m.epoch FROM (SELECT 1) one "
                                             "LEFT JOIN store_meta m ON true",
                                             kIdentity)));
    const std::string& found = rows[0].Text(0);
    MUSTER_RETURN_IF_ERROR(RefuseOlderTimeline(t, found));
    t.MarkProven();
    const std::string stored = rows[0].IsNull(1) ? "" : rows[0].Text(1);
    if (found == stored) return OkStatus();
    return BeginEpoch(t, found, {stored.empty() ? "" : rows[0].Text(2), RandomUuid()});
  }

  Status BeginEpoch(PostgresConnection& t, const std::string& identity, const EpochChange& change) {
    MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM store_meta").status());
    MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO store_meta (epoch, identity) VALUES ($1, $2)",
                                     {std::string_view(change.after), std::string_view(identity)})
                               .status());
    LogWarning("acknowledged commits may have been lost: a new epoch of the store begins",
               {{"store", connector_.name()}, {"identity", identity}, {"epoch", change.after}});
    return recovery_ == nullptr ? OkStatus() : recovery_(t, change);
  }

  // A primary that was failed over from, and came back, is not to be written to.
  Status RefuseOlderTimeline(PostgresConnection& t, const std::string& found) {
    const Timeline now = TimelineOf(found);
    absl::MutexLock lock(&mutex_);
    if (now.cluster != seen_.cluster || now.number >= seen_.number) {
      seen_ = now;
      return OkStatus();
    }
    const Status refused = Unavailable(
        "{} answers on timeline {}, and this program has written on {} already: it is a former "
        "primary, stop it; if this is meant, restart muster-control",
        connector_.name(), now.number, seen_.number);
    t.Cut(std::string(Message(refused)));
    return refused;
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

  PostgresConnector connector_;
  // One of ours at a time, as the advisory lock wants it anyway: those that wait need no
  // connection, and readers never keep a writer out.
  PostgresPool writers_;
  PostgresPool readers_;
  Recovery recovery_;  // set before the first Write
  absl::Mutex mutex_;
  Timeline seen_ ABSL_GUARDED_BY(mutex_);  // of the last write
};

}  // namespace

StatusOr<std::unique_ptr<Database>> OpenPostgres(const std::string& url,
                                                 const PostgresOptions& options) {
  MUSTER_ASSIGN_OR_RETURN(PostgresAddress address, PostgresAddress::Parse(url));
  auto database = std::make_unique<PostgresDatabase>(std::move(address), options);
  const Status prepared = database->Prepare();
  if (absl::IsUnavailable(prepared)) return database->WhyNot(prepared);
  MUSTER_RETURN_IF_ERROR(prepared);
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace muster::sql
