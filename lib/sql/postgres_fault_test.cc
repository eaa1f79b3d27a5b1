// What PostgreSQL, its host or its network do to a transaction, and what is left of it.
#include <pwd.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>

#include <absl/synchronization/notification.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/sql/postgres_address.h"
#include "lib/sql/postgres_fixture.h"
#include "lib/sql/postgres_wire.h"

namespace muster::sql {
namespace {

TEST_F(Postgres, AStatementThatTakesTooLongIsForLater) {
  const Status status = database_->Read([](Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(t.Execute("SET LOCAL statement_timeout = '50ms'").status());
    return t.Query("SELECT 1 FROM (SELECT pg_sleep(60)) s").status();
  });
  EXPECT_EQ(status.code(), Code::kUnavailable) << Text(status);
  EXPECT_TRUE(Put(*database_, 1).ok());
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

TEST_F(Postgres, ABackendThatIsTerminatedTakesWhatWasSentWithIt) {
  const Status status = database_->Write([&](Transaction& t) -> Status {
    const std::string backend = BackendOf(t);
    MUSTER_RETURN_IF_ERROR(SendPut(t, 1));
    server().Sql("SELECT pg_terminate_backend(" + backend + ")");
    MUSTER_RETURN_IF_ERROR(SendPut(t, 2));
    return Put(t, 3);
  });
  EXPECT_EQ(status.code(), Code::kUnavailable) << Text(status);
  EXPECT_TRUE(Put(*database_, 4).ok());
  EXPECT_EQ(Ask("SELECT id FROM t"), "4");
}

TEST_F(Postgres, WhatIsSentAndGaveWayIsRunAgain) {
  int runs = 0;
  const Status status = database_->Write([&](Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(SendPut(t, 1));
    if (++runs == 1) return Raise(t, "40001");
    return SendPut(t, 2);
  });
  EXPECT_TRUE(status.ok()) << Text(status);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(Ask("SELECT count(*) FROM t"), "2");
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
  const Status status = PutWithoutStandby(1, "pg_cancel_backend", Put);
  EXPECT_EQ(status.code(), Code::kUnknown) << Text(status);
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
  const Status sent = PutWithoutStandby(2, "pg_cancel_backend", SendPut);
  EXPECT_EQ(sent.code(), Code::kUnknown) << Text(sent);
  EXPECT_EQ(Ask("SELECT count(*) FROM t"), "2");
  EXPECT_TRUE(Put(*database_, 3).ok());
}

TEST_F(Postgres, ACommitWhoseAnswerWasLostIsInDoubt) {
  const Status status = PutWithoutStandby(1, "pg_terminate_backend", Put);
  EXPECT_EQ(status.code(), Code::kUnknown) << Text(status);
  EXPECT_EQ(Ask("SELECT id FROM t"), "1");
  const Status sent = PutWithoutStandby(2, "pg_terminate_backend", SendPut);
  EXPECT_EQ(sent.code(), Code::kUnknown) << Text(sent);
  EXPECT_EQ(Ask("SELECT count(*) FROM t"), "2");
  EXPECT_EQ(Put(*database_, 1).code(), Code::kAlreadyExists);
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
