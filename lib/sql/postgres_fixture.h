// What the tests of PostgreSQL's driver share: one server a program, a database each test.
#pragma once

#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/sql/database.h"
#include "lib/testing/servers.h"

namespace muster::sql {

using muster::testing::Eventually;
using muster::testing::PostgresServer;
using ::testing::HasSubstr;
using ::testing::Not;
using Code = absl::StatusCode;

inline constexpr std::string_view kSchema[] = {
    "CREATE TABLE t (id BIGINT PRIMARY KEY, body BYTES NOT NULL, name TEXT)"};

inline std::string Url(const PostgresServer& server, const std::string& database,
                       const std::string& user = "postgres") {
  return fmt::format("postgresql://{}@127.0.0.1:{}/{}", user, server.port(), database);
}

inline StatusOr<std::unique_ptr<Database>> OpenMigrated(const std::string& url,
                                                        const PostgresOptions& options = {}) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, OpenPostgres(url, options));
  MUSTER_RETURN_IF_ERROR(database->Migrate(kSchema));
  return database;
}

inline Status Put(Transaction& t, int64_t id) {
  return t.Execute("INSERT INTO t (id, body) VALUES ($1, $2)", {id, Bytes{"x"}}).status();
}

// The same, together with the commit.
inline Status SendPut(Transaction& t, int64_t id) {
  const Parameter values[] = {id, Bytes{"x"}};
  return t.SendRows("INSERT INTO t (id, body) ", {2, values}, "", std::nullopt);
}

inline Status Put(Database& database, int64_t id) {
  return database.Write([&](Transaction& t) { return Put(t, id); });
}

// A transaction that ends with the error of this SQLSTATE.
inline Status Raise(Transaction& t, std::string_view state) {
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

  // Writes a row, by `put`, whose commit waits for a standby that never comes, until `end` ends the
  // wait.
  Status PutWithoutStandby(int64_t id, const std::string& end,
                           Status (*put)(Transaction&, int64_t)) {
    server().Sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server().Sql("SELECT pg_reload_conf()");
    EXPECT_TRUE(Eventually([&] { return Ask("SHOW synchronous_standby_names") == "nobody"; }));
    Status status;
    exec::Thread writer(
        "writer", [&] { status = database_->Write([&](Transaction& t) { return put(t, id); }); });
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

}  // namespace muster::sql
