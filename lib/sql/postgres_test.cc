// What holds for PostgreSQL alone. tests/conformance states what holds for every database.
#include "lib/base/clock.h"
#include "lib/sql/postgres_fixture.h"

namespace muster::sql {
namespace {

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

TEST_F(Postgres, NowIsTheServersTime) {
  const auto now = database_->Now();
  ASSERT_TRUE(now.ok());
  EXPECT_LT(absl::AbsDuration(*now - SystemClock().Now()), absl::Seconds(10));
}

}  // namespace
}  // namespace muster::sql
