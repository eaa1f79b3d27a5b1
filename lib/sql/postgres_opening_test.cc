// PostgreSQL's addresses, and who is let in.
#include <fmt/format.h>

#include "lib/sql/postgres_address.h"
#include "lib/sql/postgres_fixture.h"

namespace muster::sql {
namespace {

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

}  // namespace
}  // namespace muster::sql
