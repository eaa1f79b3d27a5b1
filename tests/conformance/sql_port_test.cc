// What every database driver holds to.
#include <atomic>
#include <limits>

#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;

class SqlPort : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    auto opened = GetParam().database(folder_);
    ASSERT_TRUE(opened.ok()) << Text(opened.status());
    database_ = *std::move(opened);
    const std::string_view schema[] = {
        "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT UNIQUE, body BYTES, size DOUBLE "
        "PRECISION);"
        "CREATE TABLE sums (id BIGINT PRIMARY KEY, value BIGINT NOT NULL)"};
    const Status migrated = database_->Migrate(schema);
    ASSERT_TRUE(migrated.ok()) << Text(migrated);
  }

  Status Write(std::string_view sql, std::initializer_list<sql::Parameter> parameters = {}) {
    return database_->Write(
        [&](sql::Transaction& t) { return t.Execute(sql, parameters).status(); });
  }

  StatusOr<sql::Rows> Ask(std::string_view sql,
                          std::initializer_list<sql::Parameter> parameters = {}) {
    sql::Rows rows;
    MUSTER_RETURN_IF_ERROR(database_->Read([&](sql::Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(rows, t.Query(sql, parameters));
      return OkStatus();
    }));
    return rows;
  }

  int64_t Number(std::string_view sql) {
    const auto rows = Ask(sql);
    EXPECT_TRUE(rows.ok()) << Text(rows.status());
    return rows.ok() && rows->size() == 1 ? (*rows)[0].Int(0) : -1;
  }

  muster::testing::TempFolder folder_;
  std::unique_ptr<sql::Database> database_;
};
MUSTER_ON_EVERY_BACKEND(SqlPort);

TEST_P(SqlPort, GivesBackWhatItTook) {
  const int64_t least = std::numeric_limits<int64_t>::min();
  const std::string bytes("\0\xff'\0", 4);
  ASSERT_TRUE(Write("INSERT INTO t (id, name, body, size) VALUES ($1, $2, $3, $4)",
                    {least, std::string_view("Zoë's"), sql::Bytes{bytes}, 0.1})
                  .ok());
  const auto rows = Ask("SELECT id, name, body, size FROM t");
  ASSERT_TRUE(rows.ok() && rows->size() == 1);
  EXPECT_EQ((*rows)[0].Int(0), least);
  EXPECT_EQ((*rows)[0].Text(1), "Zoë's");
  EXPECT_EQ((*rows)[0].Text(2), bytes);
  EXPECT_EQ((*rows)[0].Real(3), 0.1);
}

TEST_P(SqlPort, TellsNullFromEmpty) {
  ASSERT_TRUE(Write("INSERT INTO t (id, name, body, size) VALUES ($1, $2, $3, $4)",
                    {int64_t{1}, std::string_view(), sql::Bytes{}, sql::Null{}})
                  .ok());
  const auto rows = Ask("SELECT name, body, size FROM t");
  ASSERT_TRUE(rows.ok() && rows->size() == 1);
  EXPECT_FALSE((*rows)[0].IsNull(0));
  EXPECT_FALSE((*rows)[0].IsNull(1));
  EXPECT_EQ((*rows)[0].Text(1), "");
  EXPECT_TRUE((*rows)[0].IsNull(2));
}

TEST_P(SqlPort, MeansParametersByTheirNumber) {
  ASSERT_TRUE(
      Write("INSERT INTO t (name, id) VALUES ($2, $1)", {int64_t{7}, std::string_view("seven")})
          .ok());
  ASSERT_TRUE(
      Write("UPDATE t SET size = $2 WHERE id = $1 AND size IS NULL AND id = $1", {int64_t{7}, 1.5})
          .ok());
  const auto rows = Ask("SELECT name, size FROM t WHERE id = $1", {int64_t{7}});
  ASSERT_TRUE(rows.ok() && rows->size() == 1);
  EXPECT_EQ((*rows)[0].Text(0), "seven");
  EXPECT_EQ((*rows)[0].Real(1), 1.5);
}

TEST_P(SqlPort, TakesParametersByTheTypeThatTheyHave) {
  const int64_t large = int64_t{1} << 40;
  const auto rows = Ask("SELECT $1 > 0, $1, '$2', $2, CAST($3 AS BIGINT), $4 + 1",
                        {large, std::string_view("7"), sql::Null{}, 0.5});
  ASSERT_TRUE(rows.ok() && rows->size() == 1) << Text(rows.status());
  EXPECT_EQ((*rows)[0].Int(0), 1);
  EXPECT_EQ((*rows)[0].Int(1), large);
  EXPECT_EQ((*rows)[0].Text(2), "$2");
  EXPECT_EQ((*rows)[0].Text(3), "7");
  EXPECT_TRUE((*rows)[0].IsNull(4));
  EXPECT_EQ((*rows)[0].Real(5), 1.5);
}

TEST_P(SqlPort, RefusesParametersThatDoNotFitTheText) {
  EXPECT_FALSE(Ask("SELECT id FROM t WHERE id = $1").ok());
  EXPECT_FALSE(Ask("SELECT id FROM t WHERE id = $1", {int64_t{1}, int64_t{2}}).ok());
  EXPECT_FALSE(Ask("SELECT id FROM t WHERE id = $2", {int64_t{1}, int64_t{2}}).ok());
}

TEST_P(SqlPort, RefusesASecondStatement) {
  EXPECT_FALSE(Write("INSERT INTO sums VALUES (1, 1); DELETE FROM sums").ok());
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
}

TEST_P(SqlPort, SaysThatARowIsAlreadyThere) {
  ASSERT_TRUE(Write("INSERT INTO t (id, name) VALUES (1, 'one')").ok());
  EXPECT_EQ(CodeOf(Write("INSERT INTO t (id, name) VALUES (1, 'two')")),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(Write("INSERT INTO t (id, name) VALUES (2, 'one')")),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Number("SELECT count(*) FROM t"), 1);
}

TEST_P(SqlPort, CountsTheRowsThatChanged) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 0), (2, 0), (3, 5)").ok());
  int64_t changed = -1;
  int64_t unchanged = -1;
  ASSERT_TRUE(database_
                  ->Write([&](sql::Transaction& t) -> Status {
                    MUSTER_ASSIGN_OR_RETURN(changed,
                                            t.Execute("UPDATE sums SET value = 1 WHERE value = 0"));
                    MUSTER_ASSIGN_OR_RETURN(unchanged,
                                            t.Execute("UPDATE sums SET value = 1 WHERE value = 9"));
                    return OkStatus();
                  })
                  .ok());
  EXPECT_EQ(changed, 2);
  EXPECT_EQ(unchanged, 0);
}

TEST_P(SqlPort, CountsAndComparesInWholeNumbers) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 5), (2, 4000000000), (3, -1)").ok());
  EXPECT_EQ(Number("SELECT sum(value) FROM sums"), 4'000'000'004);
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 3);
  EXPECT_EQ(Number("SELECT EXISTS (SELECT 1 FROM sums WHERE value < 0)"), 1);
  EXPECT_EQ(Number("SELECT min(value) = max(value) FROM sums"), 0);
  EXPECT_EQ(Number("SELECT 7"), 7);
}

TEST_P(SqlPort, OrdersTextByItsBytes) {
  ASSERT_TRUE(Write("INSERT INTO t (id, name) VALUES (1, 'a'), (2, 'B'), (3, 'ä'), (4, 'a-1'), "
                    "(5, 'a1')")
                  .ok());
  const auto rows =
      Ask("SELECT name FROM t WHERE name > $1 ORDER BY name", {std::string_view("A")});
  ASSERT_TRUE(rows.ok()) << Text(rows.status());
  std::vector<std::string> names;
  for (const sql::Row& row : *rows) names.push_back(row.Text(0));
  EXPECT_THAT(names, ElementsAre("B", "a", "a-1", "a1", "ä"));
}

TEST_P(SqlPort, ABodyThatFailsLeavesNothing) {
  const Status status = database_->Write([](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO sums VALUES (1, 1)").status());
    return FailedPrecondition("changed my mind");
  });
  EXPECT_EQ(CodeOf(status), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
}

TEST_P(SqlPort, AnErrorThatTheBodyOverlooksStillEndsTheTransaction) {
  const Status status = database_->Write([](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(t.Execute("INSERT INTO sums VALUES (1, 1)").status());
    EXPECT_FALSE(t.Execute("INSERT INTO sums VALUES (1, 2)").ok());
    EXPECT_FALSE(t.Execute("INSERT INTO sums VALUES (3, 3)").ok());
    return OkStatus();
  });
  EXPECT_EQ(CodeOf(status), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
  EXPECT_TRUE(Write("INSERT INTO sums VALUES (1, 1)").ok());
}

TEST_P(SqlPort, ReadingCannotWrite) {
  EXPECT_FALSE(database_
                   ->Read([](sql::Transaction& t) {
                     return t.Execute("INSERT INTO sums VALUES (1, 1)").status();
                   })
                   .ok());
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
  EXPECT_TRUE(Write("INSERT INTO sums VALUES (1, 1)").ok());
}

TEST_P(SqlPort, WritersLoseNoUpdate) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 0)").ok());
  {
    std::vector<exec::Thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back("adder", [this] {
        for (int n = 0; n < 25; ++n) {
          const Status added = database_->Write([](sql::Transaction& t) -> Status {
            MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                                    t.Query("SELECT value FROM sums WHERE id = 1"));
            return t.Execute("UPDATE sums SET value = $1 WHERE id = 1", {rows[0].Int(0) + 1})
                .status();
          });
          EXPECT_TRUE(added.ok()) << Text(added);
        }
      });
    }
  }
  EXPECT_EQ(Number("SELECT value FROM sums"), 200);
}

TEST_P(SqlPort, ReadersSeeWholeTransactions) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 50), (2, 50)").ok());
  std::atomic<bool> stop = false;
  std::atomic<int> looks = 0;
  {
    std::vector<exec::Thread> readers;
    for (int i = 0; i < 12; ++i) {
      readers.emplace_back("reader", [&] {
        while (!stop) {
          EXPECT_EQ(Number("SELECT sum(value) FROM sums"), 100);
          ++looks;
        }
      });
    }
    for (int n = 0; n < 100 || looks < 100; ++n) {
      const int64_t moved = n % 2 == 0 ? 10 : -10;
      const Status status = database_->Write([&](sql::Transaction& t) -> Status {
        MUSTER_RETURN_IF_ERROR(
            t.Execute("UPDATE sums SET value = value + $1 WHERE id = 1", {moved}).status());
        return t.Execute("UPDATE sums SET value = value - $1 WHERE id = 2", {moved}).status();
      });
      EXPECT_TRUE(status.ok()) << Text(status);
    }
    stop = true;
  }
}

TEST_P(SqlPort, MigratesOnceAndInOrder) {
  const std::string_view first = "CREATE TABLE t (id BIGINT PRIMARY KEY)";
  const std::string_view two[] = {first, "CREATE TABLE u (BYTES_kept BIGINT, body BYTES)"};
  ASSERT_TRUE(database_->Migrate(two).ok());
  ASSERT_TRUE(database_->Migrate(two).ok());
  EXPECT_TRUE(Write("INSERT INTO u (BYTES_kept, body) VALUES (1, $1)", {sql::Bytes{"b"}}).ok());
  EXPECT_EQ(Number("SELECT max(version) FROM schema_migrations"), 2);
}

TEST_P(SqlPort, RefusesADatabaseThatIsNewerThanTheProgram) {
  const Status refused = database_->Migrate({});
  EXPECT_EQ(CodeOf(refused), absl::StatusCode::kFailedPrecondition);
}

TEST_P(SqlPort, WorksWithANewerDatabaseThatSaysItMay) {
  const std::string_view newer[] = {"",
                                    "-- oldest program: 1\nALTER TABLE t ADD COLUMN more BIGINT",
                                    "CREATE TABLE u (id BIGINT)\n;-- Why.\n-- oldest program: 2\n"};
  const std::span<const std::string_view> all(newer);
  ASSERT_TRUE(database_->Migrate(all.first(2)).ok());
  EXPECT_TRUE(database_->Migrate(all.first(1)).ok());
  EXPECT_EQ(CodeOf(database_->Migrate({})), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(database_->Migrate(all).ok());
  EXPECT_TRUE(database_->Migrate(all.first(2)).ok());
  // The third one asks for more than the first program is.
  const Status refused = database_->Migrate(all.first(1));
  EXPECT_EQ(CodeOf(refused), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(refused), ::testing::HasSubstr("install the newer muster"));
}

TEST_P(SqlPort, ADatabaseOfTheFirstProgramsRefusesWhatIsOlder) {
  // They kept no word of who may work with it.
  ASSERT_TRUE(Write("DROP TABLE schema_oldest_program").ok());
  EXPECT_EQ(CodeOf(database_->Migrate({})), absl::StatusCode::kFailedPrecondition);
}

TEST_P(SqlPort, TimeGoesOnWithinATransaction) {
  absl::Time first, second;
  const Status status = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(first, t.Now());
    for (second = first; second == first;) {
      MUSTER_ASSIGN_OR_RETURN(second, t.Now());
    }
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << Text(status);
  EXPECT_LT(first, second);
  // In a read as well, and after an error no more.
  EXPECT_TRUE(database_->Read([&](sql::Transaction& t) { return t.Now().status(); }).ok());
  EXPECT_FALSE(database_
                   ->Write([&](sql::Transaction& t) {
                     EXPECT_FALSE(t.Execute("NO SQL").ok());
                     return t.Now().status();
                   })
                   .ok());
}

TEST_P(SqlPort, AMigrationThatFailsLeavesTheSchemaBeforeIt) {
  const std::string_view broken[] = {"", "CREATE TABLE u (id BIGINT)",
                                     "CREATE TABLE v (id BIGINT); CREATE TABLE t (id BIGINT)"};
  EXPECT_FALSE(database_->Migrate(broken).ok());
  EXPECT_EQ(Number("SELECT max(version) FROM schema_migrations"), 2);
  EXPECT_EQ(Number("SELECT count(*) FROM u"), 0);
  EXPECT_FALSE(Ask("SELECT count(*) FROM v").ok());
}

TEST_P(SqlPort, HasOneStoreEpoch) {
  const auto epoch = database_->StoreEpoch();
  ASSERT_TRUE(epoch.ok());
  EXPECT_FALSE(epoch->empty());
  EXPECT_EQ(database_->StoreEpoch().value_or(""), *epoch);
}

TEST_P(SqlPort, TakesManyRowsInOneStatement) {
  const std::string bytes("\0\xff", 2);
  std::vector<std::string> names;
  for (int64_t i = 0; i < 600; ++i) names.push_back(fmt::format("n{}", i));
  std::vector<sql::Parameter> values;
  for (int64_t i = 0; i < 600; ++i) {
    for (const sql::Parameter& value :
         {sql::Parameter(i - 250), sql::Parameter(std::string_view(names[static_cast<size_t>(i)])),
          sql::Parameter(sql::Bytes{bytes}), i % 2 == 0 ? sql::Parameter(0.5) : sql::Null{}})
      values.push_back(value);
  }
  const auto put = [&](sql::Transaction& t) {
    return t.ExecuteRows("INSERT INTO t (id, name, body, size) ", {4, values}, "");
  };
  int64_t put_rows = 0;
  const Status stored = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(put_rows, put(t));
    return OkStatus();
  });
  ASSERT_TRUE(stored.ok()) << Text(stored);
  EXPECT_EQ(put_rows, 600);
  EXPECT_EQ(Number("SELECT count(*) FROM t WHERE size IS NULL"), 300);
  const auto row = Ask("SELECT name, body, size FROM t WHERE id = -250");
  ASSERT_TRUE(row.ok() && row->size() == 1);
  EXPECT_EQ((*row)[0].Text(0), "n0");
  EXPECT_EQ((*row)[0].Text(1), bytes);
  EXPECT_EQ((*row)[0].Real(2), 0.5);
  EXPECT_EQ(CodeOf(database_->Write([&](sql::Transaction& t) { return put(t).status(); })),
            absl::StatusCode::kAlreadyExists);
}

TEST_P(SqlPort, JoinsUpdatesAndReplacesByManyRows) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 10), (2, 20), (3, 30)").ok());
  const std::vector<sql::Parameter> rows = {int64_t{1},   int64_t{100}, int64_t{3},
                                            int64_t{300}, int64_t{4},   int64_t{400}};
  int64_t changed = 0;
  int64_t replaced = 0;
  sql::Rows found;
  const Status status = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(found,
                            t.QueryRows("SELECT s.id, v.column2 FROM (", {2, rows},
                                        ") AS v JOIN sums s ON s.id = v.column1 ORDER BY s.id"));
    MUSTER_ASSIGN_OR_RETURN(changed, t.ExecuteRows("UPDATE sums SET value = v.column2 FROM (",
                                                   {2, rows}, ") AS v WHERE sums.id = v.column1"));
    MUSTER_ASSIGN_OR_RETURN(
        replaced, t.ExecuteRows("INSERT INTO sums (id, value) ", {2, rows},
                                "ON CONFLICT (id) DO UPDATE SET value = excluded.value + 1"));
    return t.ExecuteRows("DELETE FROM sums WHERE id IN (", {1, {}}, ")").status();
  });
  ASSERT_TRUE(status.ok()) << Text(status);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[1].Int(1), 300);
  EXPECT_EQ(changed, 2);
  EXPECT_EQ(replaced, 3);
  EXPECT_EQ(Number("SELECT sum(value) FROM sums"), 101 + 20 + 301 + 400);
}

Status Send(sql::Transaction& t, int64_t id, std::optional<int64_t> changes = std::nullopt) {
  return t.SendRows("INSERT INTO sums (id, value) ", {2, std::vector<sql::Parameter>{id, id * 10}},
                    "", changes);
}

TEST_P(SqlPort, WhatIsSentIsDoneBeforeTheNextStatementAndWithTheCommit) {
  int64_t seen = 0;
  const Status status = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(Send(t, 1, 1));
    MUSTER_RETURN_IF_ERROR(Send(t, 2));
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows, t.Query("SELECT sum(value) FROM sums"));
    seen = rows[0].Int(0);
    MUSTER_RETURN_IF_ERROR(Send(t, 3));
    return t.SendRows("INSERT INTO sums (id, value) ", {2, {}}, "", 0);
  });
  ASSERT_TRUE(status.ok()) << Text(status);
  EXPECT_EQ(seen, 30);
  EXPECT_EQ(Number("SELECT sum(value) FROM sums"), 60);
}

TEST_P(SqlPort, WhatIsSentAndRefusedIsTheErrorOfTheNextStatementOrTheCommit) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 10)").ok());
  int runs = 0;
  const Status at_next = database_->Write([&](sql::Transaction& t) -> Status {
    ++runs;
    MUSTER_RETURN_IF_ERROR(Send(t, 2));
    MUSTER_RETURN_IF_ERROR(Send(t, 1));
    MUSTER_RETURN_IF_ERROR(Send(t, 3));
    return t.Query("SELECT 1").status();
  });
  EXPECT_EQ(CodeOf(at_next), absl::StatusCode::kAlreadyExists) << Text(at_next);
  const Status at_commit = database_->Write([&](sql::Transaction& t) -> Status {
    ++runs;
    MUSTER_RETURN_IF_ERROR(Send(t, 2));
    return Send(t, 1);
  });
  EXPECT_EQ(CodeOf(at_commit), absl::StatusCode::kAlreadyExists) << Text(at_commit);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 1);
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (2, 20)").ok());
}

TEST_P(SqlPort, WhatIsSentMustChangeAsManyRowsAsWasSaid) {
  ASSERT_TRUE(Write("INSERT INTO sums VALUES (1, 10)").ok());
  int runs = 0;
  const auto update = [&](sql::Transaction& t) {
    ++runs;
    return t.SendRows("UPDATE sums SET value = 0 FROM (",
                      {1, std::vector<sql::Parameter>{int64_t{1}, int64_t{7}}},
                      ") AS v WHERE sums.id = v.column1", 2);
  };
  const Status at_commit = database_->Write(update);
  EXPECT_EQ(CodeOf(at_commit), absl::StatusCode::kAborted) << Text(at_commit);
  const Status at_next = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(update(t));
    return t.Query("SELECT 1").status();
  });
  EXPECT_EQ(CodeOf(at_next), absl::StatusCode::kAborted) << Text(at_next);
  const Status nothing = database_->Write([&](sql::Transaction& t) {
    return t.SendRows("INSERT INTO sums (id, value) ", {2, {}}, "", 1);
  });
  EXPECT_EQ(CodeOf(nothing), absl::StatusCode::kAborted) << Text(nothing);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(Number("SELECT value FROM sums"), 10);
}

TEST_P(SqlPort, WhatIsSentIsUndoneWithItsTransaction) {
  const Status status = database_->Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(Send(t, 1));
    return Aborted("the world moved on");
  });
  EXPECT_EQ(CodeOf(status), absl::StatusCode::kAborted);
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
  const Status reading = database_->Read([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(Send(t, 1));
    return t.Query("SELECT 1").status();
  });
  EXPECT_FALSE(reading.ok());
  EXPECT_EQ(Number("SELECT count(*) FROM sums"), 0);
}

// More than a socket's buffers take, in both directions.
TEST_P(SqlPort, MuchMayBeSentAtOnce) {
  const std::string body(6 << 20, 'b');
  const Status status = database_->Write([&](sql::Transaction& t) -> Status {
    for (int64_t id = 0; id < 6; ++id) {
      MUSTER_RETURN_IF_ERROR(t.SendRows("INSERT INTO t (id, body) ",
                                        {2, std::vector<sql::Parameter>{id, sql::Bytes{body}}}, "",
                                        1));
    }
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << Text(status);
  EXPECT_EQ(Number("SELECT sum(length(body)) FROM t"), 6 * (6 << 20));
}

TEST_P(SqlPort, ManyRowsMayHoldAColumnOfNothing) {
  const std::vector<sql::Parameter> rows = {int64_t{1}, sql::Null{}, sql::Null{},
                                            int64_t{2}, sql::Null{}, sql::Null{}};
  const Status status = database_->Write([&](sql::Transaction& t) {
    return t.ExecuteRows("INSERT INTO t (id, size, body) ", {3, rows}, "").status();
  });
  ASSERT_TRUE(status.ok()) << Text(status);
  EXPECT_EQ(Number("SELECT count(*) FROM t WHERE size IS NULL AND body IS NULL"), 2);
}

TEST_P(SqlPort, TakesFromAMigrationWhatIsMeantForItsDriver) {
  const std::string_view schema[] = {"",
                                     "-- only: sqlite\nCREATE TABLE one (a BIGINT);\n-- end\n"
                                     "-- only: postgresql\nCREATE TABLE one (a BIGINT);\n-- end\n"
                                     "INSERT INTO one VALUES (1);\n"};
  const Status migrated = database_->Migrate(schema);
  ASSERT_TRUE(migrated.ok()) << Text(migrated);
  EXPECT_EQ(Number("SELECT count(*) FROM one"), 1);
}

TEST(StoreUrl, OneOfAnUnknownShapeIsNotRepeated) {
  for (const char* url : {"postgres:/ada:s3cr@host/db", "ada:s3cr@host", "sqlite:", ""}) {
    const Status refused = Store::Open(url).status();
    EXPECT_EQ(CodeOf(refused), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_THAT(Text(refused), ::testing::Not(::testing::HasSubstr("s3cr")));
  }
}

}  // namespace
}  // namespace muster::control
