// The epoch of the store: it changes with the database, its timeline and its tables.
#include <pwd.h>
#include <unistd.h>

#include <atomic>

#include "lib/base/file.h"
#include "lib/sql/postgres_fixture.h"

namespace muster::sql {
namespace {

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

}  // namespace
}  // namespace muster::sql
