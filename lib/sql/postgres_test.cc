// What holds for PostgreSQL alone. tests/conformance states what holds for every database.
#include <pwd.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/sql/database.h"
#include "lib/sql/postgres_address.h"
#include "lib/sql/postgres_wire.h"
#include "lib/testing/servers.h"

namespace muster::sql {
namespace {

using muster::testing::Eventually;
using muster::testing::PostgresServer;
using ::testing::HasSubstr;
using ::testing::Not;
using Code = absl::StatusCode;

constexpr std::string_view kSchema[] = {
    "CREATE TABLE t (id BIGINT PRIMARY KEY, body BYTES NOT NULL, name TEXT)"};

std::string Url(const PostgresServer& server, const std::string& database,
                const std::string& user = "postgres") {
  return fmt::format("postgresql://{}@127.0.0.1:{}/{}", user, server.port(), database);
}

StatusOr<std::unique_ptr<Database>> OpenMigrated(const std::string& url,
                                                 const PostgresOptions& options = {}) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, OpenPostgres(url, options));
  MUSTER_RETURN_IF_ERROR(database->Migrate(kSchema));
  return database;
}

Status Put(Transaction& t, int64_t id) {
  return t.Execute("INSERT INTO t (id, body) VALUES ($1, $2)", {id, Bytes{"x"}}).status();
}

Status Put(Database& database, int64_t id) {
  return database.Write([&](Transaction& t) { return Put(t, id); });
}

// A transaction that ends with the error of this SQLSTATE.
Status Raise(Transaction& t, std::string_view state) {
  return t.Execute(fmt::format("DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{}''; END'", state))
      .status();
}

// A database of its own on the program's one server.
class Postgres : public ::testing::Test {
 protected:
  static PostgresServer& server() {
    static PostgresServer server;
    return server;
  }

  void SetUp() override {
    static int last = 0;
    name_ = fmt::format("db{}", ++last);
    server().Sql("CREATE DATABASE " + name_);
    database_ = Open();
    ASSERT_NE(database_, nullptr);
  }

  std::unique_ptr<Database> Open(const PostgresOptions& options = {}) {
    auto opened = OpenMigrated(Url(server(), name_), options);
    EXPECT_TRUE(opened.ok()) << Text(opened.status());
    return opened.ok() ? *std::move(opened) : nullptr;
  }

  std::string Ask(const std::string& sql) {
    const auto ran = muster::testing::RunProgram(
        {"psql", "-X", "-q", "-At", "-d", Url(server(), name_), "-c", sql});
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    return std::string(Trim(ran.out));
  }

  // The server's process that runs the transaction.
  static std::string BackendOf(Transaction& t) {
    const auto rows = t.Query("SELECT CAST(pg_backend_pid() AS TEXT)");
    return rows.ok() ? (*rows)[0].Text(0) : "0";
  }

  // Writes a row whose commit waits for a standby that never comes, until `end` ends the wait.
  Status PutWithoutStandby(int64_t id, const std::string& end) {
    server().Sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server().Sql("SELECT pg_reload_conf()");
    EXPECT_TRUE(Eventually([&] { return Ask("SHOW synchronous_standby_names") == "nobody"; }));
    Status status;
    exec::Thread writer("writer", [&] { status = Put(*database_, id); });
    const std::string ended = fmt::format(
        "SELECT {}(pid) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'SyncRep'", end,
        name_);
    EXPECT_TRUE(Eventually([&] { return server().Sql(ended) == "t\n"; }));
    writer.Join();
    server().Sql("ALTER SYSTEM RESET synchronous_standby_names");
    server().Sql("SELECT pg_reload_conf()");
    EXPECT_TRUE(Eventually([&] { return Ask("SHOW synchronous_standby_names").empty(); }));
    return status;
  }

  std::string name_;
  std::unique_ptr<Database> database_;
};

TEST(PostgresAddress, ShowsNoPassword) {
  const auto address =
      PostgresAddress::Parse("postgres://ada:s3cr%2Ft@db.example.org:5433/muster?sslmode=require");
  ASSERT_TRUE(address.ok()) << Text(address.status());
  EXPECT_EQ(address->name(), "postgresql://db.example.org:5433/muster");
  EXPECT_EQ(address->Clean("FATAL:  no s3cr/t\nfor ada\n"), "FATAL:  no … for ada");
  EXPECT_THAT(std::string(address->RevealWords()), HasSubstr("password='s3cr/t'"));
}

TEST(PostgresAddress, SetsWhatTheUrlLeavesOpen) {
  const auto address = PostgresAddress::Parse("postgresql://h/d?connect_timeout=1&keepalives=0");
  ASSERT_TRUE(address.ok());
  const std::string words(address->RevealWords());
  EXPECT_THAT(words, HasSubstr("connect_timeout='1'"));
  EXPECT_THAT(words, HasSubstr("keepalives='0'"));
  EXPECT_THAT(words, HasSubstr("tcp_user_timeout='10000'"));
  EXPECT_THAT(words, HasSubstr("application_name='muster-control'"));
  EXPECT_THAT(words, HasSubstr("target_session_attrs='read-write'"));
}

TEST(PostgresAddress, NamesEachOfSeveralHostsAndNoPassword) {
  const auto address =
      PostgresAddress::Parse("postgresql://ada:s3cr%2Ct@db-1:5432,db-2:5433/muster");
  ASSERT_TRUE(address.ok()) << Text(address.status());
  EXPECT_EQ(address->name(), "postgresql://db-1:5432,db-2:5433/muster");
  EXPECT_EQ(PostgresAddress::Parse("postgresql://db-1,db-2/m")->name(), "postgresql://db-1,db-2/m");
  EXPECT_EQ(PostgresAddress::Parse("postgresql://h/m")->name(), "postgresql://h/m");
}

TEST(PostgresAddress, AUrlThatCannotBeReadIsNotRepeated) {
  for (const char* url : {
           "postgresql://ada:s3cr@t@host/db",
           "postgresql://ada:s3cr/t@host/db",
           "postgresql://ada:s3cr%t@host/db",
           "postgresql://ada:s3cr",
           "postgresql://ada:p?s3cr/t@host/db",
           "postgresql://host/db?pasword=s3cr",
           "postgresql://ada:s3cr@t@host:1,other:2/db",
           "postgresql://ada:s3cr/t,other:2/db",
       }) {
    const auto address = PostgresAddress::Parse(url);
    EXPECT_EQ(address.status().code(), Code::kInvalidArgument) << url;
    EXPECT_THAT(std::string(Message(address.status())), Not(HasSubstr("s3cr"))) << url;
  }
}

TEST(PostgresOpening, SaysWhoCannotBeReachedButNotThePassword) {
  const auto opened = OpenPostgres(
      fmt::format("postgresql://ada:s3cr3t@127.0.0.1:{}/m", muster::testing::FreePort()));
  EXPECT_EQ(opened.status().code(), Code::kUnavailable);
  const std::string said(Message(opened.status()));
  EXPECT_THAT(said, HasSubstr("postgresql://127.0.0.1:"));
  EXPECT_THAT(said, HasSubstr("efused"));
  EXPECT_THAT(said, Not(HasSubstr("s3cr3t")));
}

TEST_F(Postgres, AWrongPasswordIsRefusedAndNotRepeated) {
  const std::string user = "ada_" + name_;
  server().Sql(fmt::format("CREATE USER {} PASSWORD 'r1ght'", user));
  server().Sql(fmt::format("CREATE DATABASE {0} OWNER {0}", user));
  server().Sql(
      fmt::format("COPY (VALUES ('host all {} 127.0.0.1/32 scram-sha-256'), "
                  "('host all all 127.0.0.1/32 trust')) TO '{}'",
                  user, Ask("SHOW hba_file")));
  server().Sql("SELECT pg_reload_conf()");
  const auto open = [&](const std::string& password) {
    return OpenPostgres(Url(server(), user, user + ":" + password)).status();
  };
  EXPECT_TRUE(Eventually([&] { return !open("wr0ng").ok(); }));
  const Status refused = open("wr0ng");
  EXPECT_EQ(refused.code(), Code::kPermissionDenied);
  EXPECT_THAT(std::string(Message(refused)), HasSubstr(user));
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("pg_hba.conf"));
  EXPECT_THAT(std::string(Message(refused)), Not(HasSubstr("wr0ng")));
  EXPECT_TRUE(open("r1ght").ok()) << Text(open("r1ght"));
  EXPECT_EQ(OpenPostgres(Url(server(), user, user)).status().code(), Code::kPermissionDenied)
      << "no password at all";
}

TEST_F(Postgres, SaysWhetherItMayHelpToWait) {
  const auto open = [&](const std::string& url) { return OpenPostgres(url).status(); };
  EXPECT_EQ(open(Url(server(), "nobodys")).code(), Code::kNotFound);
  EXPECT_EQ(open(Url(server(), name_, "nobody")).code(), Code::kPermissionDenied);
  server().Sql(
      fmt::format("CREATE USER guest_{0}; REVOKE CONNECT ON DATABASE {0} FROM PUBLIC", name_));
  EXPECT_EQ(open(Url(server(), name_, "guest_" + name_)).code(), Code::kPermissionDenied);
  server().Sql(
      fmt::format("ALTER DATABASE {} CONNECTION LIMIT 0; GRANT CONNECT ON DATABASE {} TO guest_{}",
                  name_, name_, name_));
  EXPECT_EQ(open(Url(server(), name_, "guest_" + name_)).code(), Code::kUnavailable)
      << "another may leave";
  server().Sql(fmt::format("ALTER DATABASE {} CONNECTION LIMIT -1", name_));
  server().Sql(fmt::format("ALTER DATABASE {} SET default_transaction_read_only = on", name_));
  EXPECT_EQ(open(Url(server(), name_)).code(), Code::kUnavailable) << "it may be promoted";
}

TEST_F(Postgres, SaysWhatEachErrorMeans) {
  struct {
    const char* state;
    Code code;
  } const meanings[] = {
      {"23505", Code::kAlreadyExists},
      {"40001", Code::kAborted},
      {"40P01", Code::kAborted},
      {"40003", Code::kUnknown},
      {"42501", Code::kFailedPrecondition},
      {"53100", Code::kResourceExhausted},
      {"53200", Code::kUnavailable},
      {"53300", Code::kUnavailable},
      {"55P03", Code::kUnavailable},
      {"57014", Code::kUnavailable},
      {"58030", Code::kUnavailable},
      {"XX001", Code::kDataLoss},
      {"08P01", Code::kInternal},
      {"22012", Code::kInternal},
  };
  for (const auto& meaning : meanings) {
    const Status status = database_->Write([&](Transaction& t) { return Raise(t, meaning.state); });
    EXPECT_EQ(status.code(), meaning.code) << meaning.state << " " << Text(status);
  }
  const Status other = database_->Write([&](Transaction& t) { return Raise(t, "22012"); });
  EXPECT_THAT(std::string(Message(other)), HasSubstr("SQLSTATE 22012"));
}

TEST_F(Postgres, NoErrorRepeatsARow) {
  const Status status = database_->Write([](Transaction& t) {
    return t.Execute("INSERT INTO t (id, name) VALUES (1, 'h1dden')").status();
  });
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("null value in column"));
  EXPECT_THAT(std::string(Message(status)), Not(HasSubstr("Failing row")));
}

TEST_F(Postgres, RunsAgainWhatGaveWayToAnother) {
  int runs = 0;
  const auto give_way = [&](int times) {
    runs = 0;
    return database_->Write(
        [&, times](Transaction& t) { return ++runs <= times ? Raise(t, "40001") : Put(t, times); });
  };
  EXPECT_TRUE(give_way(2).ok());
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(give_way(9).code(), Code::kAborted);
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(Ask("SELECT id FROM t"), "2");
}

TEST_F(Postgres, ABodyThatSaysAbortedIsNotRunAgain) {
  int runs = 0;
  const Status status = database_->Write([&](Transaction&) {
    ++runs;
    return Aborted("the world moved on");
  });
  EXPECT_EQ(status.code(), Code::kAborted);
  EXPECT_EQ(runs, 1);
}

TEST_F(Postgres, RefusesATextWithAZeroByteRatherThanCutItOff) {
  const std::string text("a\0b", 3);
  const Status status = database_->Write([&](Transaction& t) {
    return t
        .Execute("INSERT INTO t (id, body, name) VALUES (1, $1, $2)",
                 {Bytes{text}, std::string_view(text)})
        .status();
  });
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
}

TEST_F(Postgres, AServerThatTakesNoMoreConnectionsIsForLater) {
  const std::string user = "few_" + name_;
  server().Sql(fmt::format("CREATE USER {} CONNECTION LIMIT 1", user));
  server().Sql(fmt::format("CREATE DATABASE {0} OWNER {0}", user));
  const auto opened = OpenMigrated(Url(server(), user, user));
  ASSERT_TRUE(opened.ok()) << Text(opened.status());
  const Status refused = (*opened)->Now().status();
  EXPECT_EQ(refused.code(), Code::kUnavailable);
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("too many connections"));
  server().Sql(fmt::format("ALTER USER {} CONNECTION LIMIT 2", user));
  EXPECT_TRUE(Eventually([&] { return (*opened)->Now().ok(); }));
}

TEST_F(Postgres, ComparesTextByItsBytesWhateverTheServersLocale) {
  EXPECT_EQ(Ask("SELECT collation_name FROM information_schema.columns WHERE column_name = 'name' "
                "AND table_name = 't'"),
            "C");
}

TEST_F(Postgres, SetsItsBoundsInEachTransactionAndLeavesNothingBehind) {
  const char* settings =
      "SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || "
      "' ' || current_setting('idle_in_transaction_session_timeout') || ' ' || "
      "current_setting('transaction_isolation') || ' ' || current_setting('application_name')";
  std::string reading;
  std::string writing;
  const auto look = [&](Transaction& t, std::string& into) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query(settings));
    into = rows[0].Text(0);
    return OkStatus();
  };
  ASSERT_TRUE(database_->Read([&](Transaction& t) { return look(t, reading); }).ok());
  ASSERT_TRUE(database_->Write([&](Transaction& t) { return look(t, writing); }).ok());
  EXPECT_EQ(reading, "30s 5s 30s repeatable read muster-control");
  EXPECT_EQ(writing, "15s 5s 3s read committed muster-control");
  EXPECT_EQ(Ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

TEST_F(Postgres, NeverForgetsCommitsThatItAcknowledged) {
  const auto commits = [&](const std::string& configured) {
    Ask(fmt::format("ALTER DATABASE {} SET synchronous_commit = {}", name_, configured));
    std::string found;
    const auto fresh = Open();
    EXPECT_TRUE(fresh
                    ->Write([&](Transaction& t) -> Status {
                      MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query("SHOW synchronous_commit"));
                      found = rows[0].Text(0);
                      return OkStatus();
                    })
                    .ok());
    return found;
  };
  EXPECT_EQ(commits("off"), "on");
  EXPECT_EQ(commits("remote_apply"), "remote_apply");
}

TEST_F(Postgres, AStatementThatTakesTooLongIsForLater) {
  const Status status = database_->Read([](Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(t.Execute("SET LOCAL statement_timeout = '50ms'").status());
    return t.Query("SELECT 1 FROM (SELECT pg_sleep(60)) s").status();
  });
  EXPECT_EQ(status.code(), Code::kUnavailable) << Text(status);
  EXPECT_TRUE(Put(*database_, 1).ok());
}

TEST_F(Postgres, WritersOfTwoProgramsLoseNoUpdate) {
  const auto other = Open();
  ASSERT_TRUE(Put(*database_, 0).ok());
  const auto add = [](Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query("SELECT max(id) FROM t"));
    return Put(t, rows[0].Int(0) + 1);
  };
  {
    std::vector<exec::Thread> threads;
    for (Database* database : {database_.get(), other.get()}) {
      threads.emplace_back("adder", [&add, database] {
        for (int i = 0; i < 50; ++i) {
          const Status added = database->Write(add);
          EXPECT_TRUE(added.ok()) << Text(added);
        }
      });
    }
  }
  EXPECT_EQ(Ask("SELECT count(*), max(id) FROM t"), "101|100");
}

TEST_F(Postgres, TwoMigrationsAtOnceDoTheWorkOnce) {
  std::vector<std::string> texts;
  for (int i = 2; i <= 20; ++i) texts.push_back(fmt::format("CREATE TABLE t{} (id BIGINT)", i));
  std::vector<std::string_view> migrations = {kSchema[0]};
  migrations.insert(migrations.end(), texts.begin(), texts.end());
  const auto other = Open();
  {
    std::vector<exec::Thread> threads;
    for (Database* database : {database_.get(), other.get()}) {
      threads.emplace_back("migrate", [&migrations, database] {
        const Status status = database->Migrate(migrations);
        EXPECT_TRUE(status.ok()) << Text(status);
      });
    }
  }
  EXPECT_EQ(Ask("SELECT count(*), max(version) FROM schema_migrations"), "20|20");
}

TEST_F(Postgres, ABackendThatIsTerminatedTakesItsTransactionWithIt) {
  const Status status = database_->Write([&](Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(Put(t, 1));
    server().Sql("SELECT pg_terminate_backend(" + BackendOf(t) + ")");
    return Put(t, 2);
  });
  EXPECT_EQ(status.code(), Code::kUnavailable) << Text(status);
  EXPECT_TRUE(Put(*database_, 3).ok());
  EXPECT_EQ(Ask("SELECT id FROM t"), "3");
}

TEST_F(Postgres, ABackendThatIsKilledTakesItsTransactionWithIt) {
  ASSERT_TRUE(Put(*database_, 1).ok());
  const Status status = database_->Write([&](Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(Put(t, 2));
    kill(std::stoi(BackendOf(t)), SIGKILL);
    return Put(t, 3);
  });
  EXPECT_EQ(status.code(), Code::kUnavailable) << Text(status);
  // The server restarts itself after such a death.
  EXPECT_TRUE(Eventually([&] { return Put(*database_, 4).ok(); }));
  EXPECT_EQ(Ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "1 4");
}

TEST_F(Postgres, ConnectionsThatDiedWhileIdleAreReplacedUnnoticed) {
  std::vector<exec::Thread> threads;
  absl::Notification go;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back("reader", [&] {
      EXPECT_TRUE(database_
                      ->Read([&](Transaction& t) {
                        go.WaitForNotification();
                        return t.Query("SELECT 1").status();
                      })
                      .ok());
    });
  }
  const std::string ours = fmt::format("FROM pg_stat_activity WHERE datname = '{}'", name_);
  EXPECT_TRUE(Eventually([&] { return server().Sql("SELECT count(*) " + ours) == "6\n"; }));
  go.Notify();
  threads.clear();
  server().Sql("SELECT pg_terminate_backend(pid) " + ours);
  EXPECT_TRUE(Eventually([&] { return server().Sql("SELECT count(*) " + ours) == "0\n"; }));
  int runs = 0;
  const Status status = database_->Write([&](Transaction& t) {
    ++runs;
    return Put(t, 1);
  });
  EXPECT_TRUE(status.ok()) << Text(status);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
}

TEST_F(Postgres, AServerThatStopsAndStartsIsFoundAgain) {
  ASSERT_TRUE(Put(*database_, 1).ok());
  server().Stop();
  const absl::Duration began = SystemClock().Uptime();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Put(*database_, 2).code(), Code::kUnavailable);
  EXPECT_EQ(database_->StoreEpoch().status().code(), Code::kUnavailable);
  // Refused at once, most of them without a try.
  EXPECT_LT(SystemClock().Uptime() - began, absl::Seconds(5));
  server().Start();
  EXPECT_TRUE(Eventually([&] { return Put(*database_, 3).ok(); }));
  EXPECT_EQ(Ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "1 3");
}

TEST_F(Postgres, ReadersBeyondTheirConnectionsWaitAndWritersDoNot) {
  const auto narrow = Open({.readers = 2, .longest_wait = absl::Milliseconds(50)});
  absl::Notification enough;
  std::atomic<int> reading = 0;
  std::vector<exec::Thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back("reader", [&] {
      EXPECT_TRUE(narrow
                      ->Read([&](Transaction&) {
                        ++reading;
                        enough.WaitForNotification();
                        return OkStatus();
                      })
                      .ok());
    });
  }
  ASSERT_TRUE(Eventually([&] { return reading == 2; }));
  const Status refused = narrow->Read([](Transaction&) { return OkStatus(); });
  EXPECT_EQ(refused.code(), Code::kUnavailable);
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("all 2 connections"));
  EXPECT_TRUE(Put(*narrow, 1).ok());
  enough.Notify();
  threads.clear();
  EXPECT_TRUE(narrow->Read([](Transaction&) { return OkStatus(); }).ok());
}

TEST_F(Postgres, ACommitWhoseStandbyWasGivenUpIsInDoubt) {
  const Status status = PutWithoutStandby(1, "pg_cancel_backend");
  EXPECT_EQ(status.code(), Code::kUnknown) << Text(status);
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
  EXPECT_TRUE(Put(*database_, 2).ok());
}

TEST_F(Postgres, ACommitWhoseAnswerWasLostIsInDoubt) {
  const Status status = PutWithoutStandby(1, "pg_terminate_backend");
  EXPECT_EQ(status.code(), Code::kUnknown) << Text(status);
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
  EXPECT_EQ(Put(*database_, 1).code(), Code::kAlreadyExists);
}

TEST_F(Postgres, TheEpochChangesWithTheDatabaseAndItsTables) {
  const std::string epoch = database_->StoreEpoch().value_or("");
  EXPECT_EQ(epoch.size(), 36U);
  EXPECT_EQ(Open()->StoreEpoch().value_or("none"), epoch);
  database_.reset();
  const std::string copy = name_ + "_copy";
  server().Sql(fmt::format("CREATE DATABASE {} TEMPLATE {}", copy, name_));
  const auto copied = OpenMigrated(Url(server(), copy));
  ASSERT_TRUE(copied.ok()) << Text(copied.status());
  EXPECT_NE((*copied)->StoreEpoch().value_or(""), epoch);
  // As pg_restore leaves them: the same rows in a new table.
  Ask("CREATE TABLE kept AS SELECT * FROM store_meta; DROP TABLE store_meta; "
      "ALTER TABLE kept RENAME TO store_meta");
  EXPECT_NE(Open()->StoreEpoch().value_or(""), epoch);
}

// Turns the server into one that was failed over to, or recovered from an archive.
void NextTimeline(PostgresServer& server) {
  const std::string folder(Trim(server.Sql("SHOW data_directory")));
  server.Sql("CHECKPOINT");
  server.Stop();
  EXPECT_TRUE(WriteFileAtomically(folder + "/recovery.signal", "").ok());
  const passwd* user = getpwnam("postgres");
  if (geteuid() == 0 && user != nullptr) {
    EXPECT_EQ(chown((folder + "/recovery.signal").c_str(), user->pw_uid, user->pw_gid), 0);
  }
  server.Start();
}

TEST(PostgresEpoch, AnotherTimelineIsRecoveredByTheFirstOfManyWriters) {
  PostgresServer server({"restore_command = 'false'"});
  const auto database = OpenMigrated(Url(server, "postgres"));
  const auto other = OpenMigrated(Url(server, "postgres"));
  ASSERT_TRUE(database.ok() && other.ok()) << Text(database.status());
  const std::string epoch = (*database)->StoreEpoch().value_or("");
  std::atomic<int> recovered = 0;
  for (const auto& each : {&*database, &*other}) {
    (*each)->OnRecovery([&](Transaction& t, const EpochChange& change) -> Status {
      EXPECT_EQ(change.before, epoch);
      ++recovered;
      return Put(t, 1000);
    });
  }
  NextTimeline(server);
  EXPECT_TRUE(Eventually([&] { return Put(**database, 1).ok(); }));
  EXPECT_TRUE(Eventually([&] { return Put(**other, 2).ok(); }));
  EXPECT_EQ(recovered, 1);
  EXPECT_EQ(server.Sql("SELECT count(*) FROM t"), "3\n");
  const std::string later = (*database)->StoreEpoch().value_or("");
  EXPECT_NE(later, epoch);
  EXPECT_EQ((*other)->StoreEpoch().value_or(""), later);
}

TEST(PostgresEpoch, IsProvenBeforeItIsTold) {
  PostgresServer server({"restore_command = 'false'"});
  const auto database = OpenMigrated(Url(server, "postgres"));
  ASSERT_TRUE(database.ok()) << Text(database.status());
  const std::string epoch = (*database)->StoreEpoch().value_or("");
  std::string after;
  (*database)->OnRecovery([&](Transaction&, const EpochChange& change) {
    after = change.after;
    return OkStatus();
  });
  NextTimeline(server);
  std::string later;
  EXPECT_TRUE(Eventually([&] {
    later = (*database)->StoreEpoch().value_or("");
    return !later.empty();
  }));
  EXPECT_NE(later, epoch);
  EXPECT_EQ(later, after);
}

TEST_F(Postgres, ARecoveryThatFailsLeavesTheEpochToBeRecovered) {
  Ask("UPDATE store_meta SET identity = 'another'");
  bool fail = true;
  database_->OnRecovery([&](Transaction& t, const EpochChange&) -> Status {
    if (fail) return Unavailable("not now");
    return Put(t, 7);
  });
  EXPECT_EQ(Put(*database_, 1).code(), Code::kUnavailable);
  EXPECT_EQ(Ask("SELECT identity FROM store_meta"), "another");
  fail = false;
  EXPECT_TRUE(Put(*database_, 1).ok());
  EXPECT_TRUE(Put(*database_, 2).ok());
  EXPECT_EQ(Ask("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "1 2 7");
}

TEST(PostgresEpoch, AFormerPrimaryThatCameBackIsNotWrittenTo) {
  PostgresServer server({"restore_command = 'false'"});
  const auto database = OpenMigrated(Url(server, "postgres"));
  ASSERT_TRUE(database.ok()) << Text(database.status());
  ASSERT_TRUE(Put(**database, 1).ok());
  const std::string folder(Trim(server.Sql("SHOW data_directory")));
  server.Sql("CHECKPOINT");
  server.Stop();
  const std::string former = folder + "_former";
  ASSERT_EQ(muster::testing::RunProgram({"cp", "-a", folder, former}).exit_code, 0);
  server.Start();
  NextTimeline(server);
  ASSERT_TRUE(Eventually([&] { return Put(**database, 2).ok(); }));
  server.Stop();
  ASSERT_EQ(muster::testing::RunProgram({"rm", "-r", folder}).exit_code, 0);
  ASSERT_EQ(muster::testing::RunProgram({"mv", former, folder}).exit_code, 0);
  server.Start();
  Status refused;
  EXPECT_TRUE(Eventually([&] {
    refused = Put(**database, 3);
    return Text(refused).find("former primary") != std::string::npos;
  }));
  EXPECT_EQ(refused.code(), Code::kUnavailable);
  EXPECT_EQ(server.Sql("SELECT count(*) FROM t"), "1\n");
}

TEST_F(Postgres, OfSeveralHostsTheOneThatTakesWritesIsFound) {
  PostgresServer standby;
  standby.Sql("CREATE DATABASE " + name_);
  standby.Sql("ALTER SYSTEM SET default_transaction_read_only = on");
  standby.Sql("SELECT pg_reload_conf()");
  const auto opened = OpenMigrated(
      fmt::format("postgresql://postgres@127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}/{}",
                  muster::testing::FreePort(), standby.port(), server().port(), name_));
  ASSERT_TRUE(opened.ok()) << Text(opened.status());
  EXPECT_TRUE(Put(**opened, 1).ok());
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
}

TEST_F(Postgres, AWriterThatFallsSilentLosesItsTurnAndItsWork) {
  const auto other = Open();
  absl::Notification writing;
  absl::Notification over;
  Status silent;
  exec::Thread writer("writer", [&] {
    silent = other->Write([&](Transaction& t) -> Status {
      MUSTER_RETURN_IF_ERROR(Put(t, 1));
      if (!writing.HasBeenNotified()) writing.Notify();
      over.WaitForNotification();
      return Put(t, 2);
    });
  });
  writing.WaitForNotification();
  const absl::Duration began = SystemClock().Uptime();
  const Status status = Put(*database_, 3);
  EXPECT_TRUE(status.ok()) << Text(status);
  EXPECT_LT(SystemClock().Uptime() - began, absl::Seconds(4));
  over.Notify();
  writer.Join();
  EXPECT_EQ(silent.code(), Code::kUnavailable) << Text(silent);
  EXPECT_EQ(Ask("SELECT string_agg(id::text, ' ') FROM t"), "3");
}

// None of the server's own timeouts ends a session that waits for the rest of a message.
TEST_F(Postgres, ASessionThatIsStoppedInTheMiddleOfACopyLosesItsTurn) {
  muster::testing::TempFolder folder;
  muster::testing::ServerProcess psql({"psql", "-X", "-d", Url(server(), name_)},
                                      folder.File("psql.log"), {},
                                      "BEGIN; SELECT pg_advisory_xact_lock(120351215609202);\n"
                                      "\\copy t (id, body) from program 'sleep 60'\n");
  ASSERT_TRUE(Eventually([&] {
    return Ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND "
               "wait_event = 'ClientRead'") == "1";
  }));
  psql.Signal(SIGSTOP);
  const absl::Duration began = SystemClock().Uptime();
  const Status status = Put(*database_, 3);
  EXPECT_TRUE(status.ok()) << Text(status);
  EXPECT_LT(SystemClock().Uptime() - began, absl::Seconds(9));
  psql.Signal(SIGKILL);
}

TEST_F(Postgres, AServerThatFallsSilentIsGivenUp) {
  const auto address = PostgresAddress::Parse(Url(server(), name_));
  const auto wire = PostgresWire::Connect(*address);
  ASSERT_TRUE(wire.ok()) << Text(wire.status());
  const auto answer = (*wire)->Run("SELECT pg_backend_pid()", absl::Seconds(10));
  ASSERT_NE(answer, nullptr);
  const pid_t backend = std::stoi(PQgetvalue(answer.get(), 0, 0));
  kill(backend, SIGSTOP);
  EXPECT_EQ((*wire)->Run("SELECT 1", absl::Milliseconds(50)), nullptr);
  EXPECT_FALSE((*wire)->open());
  EXPECT_EQ((*wire)->lost(), "no answer within 50ms");
  kill(backend, SIGCONT);
}

TEST_F(Postgres, ReadsWholeNumbersAndFractionsOfAnySize) {
  const auto read = [&](const char* sql) {
    Rows rows;
    const Status status = database_->Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(rows, t.Query(sql));
      return OkStatus();
    });
    EXPECT_TRUE(status.ok()) << Text(status);
    return rows.at(0);
  };
  const Row sums = read(
      "SELECT sum(v), -sum(v), sum(v) * 0, 10000::numeric, 123456789012345678::numeric, 0::numeric "
      "FROM (VALUES (9000000000000000::bigint), (1::bigint)) s (v)");
  EXPECT_EQ(sums.Int(0), 9'000'000'000'000'001);
  EXPECT_EQ(sums.Int(1), -9'000'000'000'000'001);
  EXPECT_EQ(sums.Int(2), 0);
  EXPECT_EQ(sums.Int(3), 10'000);
  EXPECT_EQ(sums.Int(4), 123'456'789'012'345'678);
  EXPECT_EQ(sums.Int(5), 0);
  const Row fractions = read("SELECT 2.5, -0.0625, avg(v) FROM (VALUES (1), (2)) s (v)");
  EXPECT_EQ(fractions.Real(0), 2.5);
  EXPECT_EQ(fractions.Real(1), -0.0625);
  EXPECT_EQ(fractions.Real(2), 1.5);
  const Row others = read("SELECT 7::int2, -7::int4, 1.5::float4, current_database(), '2'");
  EXPECT_EQ(others.Int(0), 7);
  EXPECT_EQ(others.Int(1), -7);
  EXPECT_EQ(others.Real(2), 1.5);
  EXPECT_EQ(others.Text(3), name_);
  EXPECT_EQ(others.Text(4), "2");
}

TEST_F(Postgres, KeepsATableByTheDayAndDropsWholeDays) {
  const absl::Time monday = absl::FromUnixSeconds(1'800'000'000);
  Ask("CREATE TABLE d (at bigint NOT NULL, body bytea) PARTITION BY RANGE (at); "
      "CREATE INDEX d_by_time ON d (at); CREATE TABLE d_other PARTITION OF d DEFAULT");
  const auto put = [&](absl::Time at) {
    const Status status = database_->Write([&](Transaction& t) {
      return t.Execute("INSERT INTO d (at, body) VALUES ($1, $2)", {ToMicros(at), Bytes{"x"}})
          .status();
    });
    EXPECT_TRUE(status.ok()) << Text(status);
  };
  put(monday);  // before its day was made
  put(monday - absl::Hours(240));
  for (int again = 0; again < 2; ++again) {
    const auto outside =
        database_->MakeDays("d", monday - absl::Hours(24), monday + absl::Hours(48));
    ASSERT_TRUE(outside.ok()) << Text(outside.status());
    EXPECT_EQ(*outside, 1);
  }
  put(monday - absl::Hours(24));
  put(monday + absl::Hours(48));
  EXPECT_EQ(Ask("SELECT count(*) FROM d_20270115"), "1");
  EXPECT_EQ(Ask("SELECT count(*) FROM d_other"), "1");
  EXPECT_EQ(Ask("SELECT count(*) FROM pg_indexes WHERE tablename = 'd_20270115'"), "1");
  const auto dropped = database_->DropDays("d", monday);
  ASSERT_TRUE(dropped.ok()) << Text(dropped.status());
  EXPECT_EQ(*dropped, std::optional(1));
  EXPECT_EQ(Ask("SELECT count(*) FROM d"), "3");
  EXPECT_EQ(database_->DropDays("t", monday).value_or(1), std::nullopt);
  EXPECT_EQ(database_->MakeDays("t", monday, monday).value_or(-1), 0);
}

TEST_F(Postgres, AUserWithoutSpecialRightsSuffices) {
  const std::string plain = "plain_" + name_;
  server().Sql("CREATE USER " + plain);
  server().Sql(fmt::format("CREATE DATABASE {0} OWNER {0}", plain));
  const auto opened = OpenMigrated(Url(server(), plain, plain));
  ASSERT_TRUE(opened.ok()) << Text(opened.status());
  EXPECT_TRUE(Put(**opened, 1).ok());
  EXPECT_TRUE((*opened)->StoreEpoch().ok()) << Text((*opened)->StoreEpoch().status());
  EXPECT_TRUE((*opened)->Now().ok());
}

TEST_F(Postgres, NowIsTheServersTime) {
  const auto now = database_->Now();
  ASSERT_TRUE(now.ok());
  EXPECT_LT(absl::AbsDuration(*now - SystemClock().Now()), absl::Seconds(10));
}

TEST_F(Postgres, AFullDiskLosesNothingAndGoesOnWithoutARestart) {
  muster::testing::TempFolder folder;
  const std::string disk = folder.File("disk");
  ASSERT_TRUE(MakeFolder(disk).ok());
  const passwd* user = getpwnam("postgres");
  if (user == nullptr || mount("none", disk.c_str(), "tmpfs", 0, "size=2m") != 0)
    GTEST_SKIP() << "only root may make a small disk";
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(chown(disk.c_str(), user->pw_uid, user->pw_gid), 0);
  server().Sql("CREATE TABLESPACE small LOCATION '" + disk + "'");
  Ask("ALTER TABLE t SET TABLESPACE small");
  Ask("ALTER TABLE t ALTER body SET STORAGE EXTERNAL");
  int64_t acknowledged = 0;
  const std::string body(5000, 'b');
  const auto put = [&](int64_t id) {
    return database_->Write([&](Transaction& t) {
      return t.Execute("INSERT INTO t (id, body) VALUES ($1, $2)", {id, Bytes{body}}).status();
    });
  };
  Status refused;
  while ((refused = put(acknowledged + 1)).ok() && acknowledged < 10'000) ++acknowledged;
  EXPECT_EQ(refused.code(), Code::kResourceExhausted) << Text(refused);
  EXPECT_GT(acknowledged, 0);
  ASSERT_EQ(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT, "size=16m"), 0);
  EXPECT_TRUE(put(acknowledged + 1).ok());
  EXPECT_EQ(Ask("SELECT count(*), max(id) FROM t"), fmt::format("{0}|{0}", acknowledged + 1));
  Ask("ALTER TABLE t SET TABLESPACE pg_default");
  server().Sql("DROP TABLESPACE small");
  EXPECT_EQ(umount(disk.c_str()), 0);
}

}  // namespace
}  // namespace muster::sql
