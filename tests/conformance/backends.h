// The databases that the conformance suites run on. A further one is a further entry of Backends():
// every test must hold on it as it is.
#pragma once

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/store/store.h"
#include "lib/testing/servers.h"

namespace muster::control {

struct Backend {
  std::string name;
  // Keeps a copy of the store that was made last, which is closed; nullptr where nothing outlives
  // it.
  void (*copy)(const muster::testing::TempFolder& folder);
  // Opens that copy, as an operator who restores it or as a standby that took over.
  StatusOr<std::unique_ptr<Store>> (*restored)(const muster::testing::TempFolder& folder);
  // Opens the store that was made last once more.
  StatusOr<std::unique_ptr<Store>> (*again)(const muster::testing::TempFolder& folder);
  // A new and empty database; the folder outlives it.
  StatusOr<std::unique_ptr<sql::Database>> (*database)(const muster::testing::TempFolder& folder);
  StatusOr<std::unique_ptr<Store>> (*store)(const muster::testing::TempFolder& folder);
};

inline void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

// One server for this program, with a database for each test.
class PostgresBackend {
 public:
  static std::string NewUrl() {
    server().Sql(fmt::format("CREATE DATABASE db{}", ++last()));
    return Url();
  }
  static std::string Url() {
    return fmt::format("postgresql://postgres@127.0.0.1:{}/db{}", server().port(), last());
  }
  static void Copy() {
    server().Sql(fmt::format("DROP DATABASE IF EXISTS db{}_copy", last()));
    server().Sql(fmt::format("CREATE DATABASE db{0}_copy TEMPLATE db{0}", last()));
  }

 private:
  static muster::testing::PostgresServer& server() {
    static muster::testing::PostgresServer server;
    return server;
  }
  static int& last() {
    static int last = 0;
    return last;
  }
};

inline std::vector<Backend> LastingBackends() {
  using Folder = muster::testing::TempFolder;
  return {
      {.name = "SqliteFile",
       .copy =
           [](const Folder& folder) {
             std::filesystem::copy_file(folder.File("store.db"), folder.File("copy.db"),
                                        std::filesystem::copy_options::overwrite_existing);
           },
       .restored =
           [](const Folder& folder) { return Store::Open("sqlite:" + folder.File("copy.db")); },
       .again =
           [](const Folder& folder) { return Store::Open("sqlite:" + folder.File("store.db")); },
       .database = [](const Folder& folder) { return sql::OpenSqlite(folder.File("store.db")); },
       .store =
           [](const Folder& folder) { return Store::Open("sqlite:" + folder.File("store.db")); }},
      {.name = "Postgres",
       .copy = [](const Folder&) { PostgresBackend::Copy(); },
       .restored = [](const Folder&) { return Store::Open(PostgresBackend::Url() + "_copy"); },
       .again = [](const Folder&) { return Store::Open(PostgresBackend::Url()); },
       .database = [](const Folder&) { return sql::OpenPostgres(PostgresBackend::NewUrl()); },
       .store = [](const Folder&) { return Store::Open(PostgresBackend::NewUrl()); }}};
}

inline std::vector<Backend> Backends() {
  using Folder = muster::testing::TempFolder;
  std::vector<Backend> backends = LastingBackends();
  backends.push_back({.name = "SqliteMemory",
                      .database = [](const Folder&) { return sql::OpenSqlite(":memory:"); },
                      .store = [](const Folder&) { return Store::OpenInMemory(); }});
  return backends;
}

inline std::string NameOf(const ::testing::TestParamInfo<Backend>& info) { return info.param.name; }

#define MUSTER_ON_EVERY_BACKEND(Suite) \
  INSTANTIATE_TEST_SUITE_P(On, Suite, ::testing::ValuesIn(Backends()), NameOf)

// A store with agents that may open sessions.
class StoreTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    StatusOr<std::unique_ptr<Store>> opened = GetParam().store(folder_);
    ASSERT_TRUE(opened.ok()) << Text(opened.status());
    store_ = *std::move(opened);
  }

  AuditNote Note(std::string action = "test.act") const {
    return {"admin/ada", std::move(action), "subject", "detail", now_};
  }

  CertificateRow Certificate(v1::Role role, const std::string& name,
                             const std::string& number) const {
    return {.fingerprint = "fp-" + number,
            .role = role,
            .name = name,
            .serial = number,
            .not_before = now_ - absl::Minutes(1),
            .not_after = now_ + absl::Hours(24),
            .der = "der-" + number,
            .public_key = "key-" + number};
  }

  TokenRow SaveToken(const std::string& agent, const std::string& hash, Labels labels = {}) {
    TokenRow token{hash, agent, std::move(labels), now_ + absl::Hours(1)};
    const Status saved = store_->identity().SaveToken(token, Note());
    EXPECT_TRUE(saved.ok()) << Text(saved);
    return token;
  }

  void Enrol(const std::string& agent) {
    const TokenRow token = SaveToken(agent, "token-of-" + agent, {{"role", "web"}});
    const auto given = store_->identity().RedeemToken(
        token.hash, Certificate(v1::ROLE_AGENT, agent, agent), now_, Note());
    ASSERT_TRUE(given.ok()) << Text(given.status());
  }

  OpenedSession OpenSession(const std::string& agent, const std::string& log = "log-1",
                            const std::string& replica = "r-1") {
    const auto opened = store_->sessions().Open({.agent = agent,
                                                 .replica = replica,
                                                 .version = "1.0",
                                                 .boot_id = "boot",
                                                 .log_epoch = log,
                                                 .facts = {{"os", "linux"}},
                                                 .now = now_});
    EXPECT_TRUE(opened.ok()) << Text(opened.status());
    return opened.value_or(OpenedSession{});
  }

  // Five results, from sequence `first` on.
  BatchCommit Batch(const std::string& agent, uint64_t epoch, uint64_t first) const {
    BatchCommit batch;
    batch.agent = agent;
    batch.session_epoch = epoch;
    batch.log_epoch = "log-1";
    batch.expected_committed = first - 1;
    batch.first_sequence = first;
    batch.last_sequence = first + 4;
    batch.first_observed_at = now_ + absl::Seconds(static_cast<int64_t>(first));
    batch.filed_at = batch.first_observed_at + absl::Seconds(4);
    batch.results = 5;
    batch.payload = "payload-" + std::to_string(first);
    return batch;
  }

  CheckStateRow State(const std::string& agent, uint32_t check, v1::CheckStatus status) const {
    CheckStateRow state;
    state.agent = agent;
    state.check_id = check;
    state.status = state.hard_status = status;
    state.since = state.observed_at = now_;
    state.last_failure_at = absl::InfinitePast();
    state.summary = "what it said";
    return state;
  }

  TransitionRow Transition(const std::string& agent, uint32_t check, v1::CheckStatus to) const {
    return {.agent = agent,
            .check_id = check,
            .from = v1::CHECK_STATUS_OK,
            .to = to,
            .hard = true,
            .at = now_,
            .recorded_at = now_,
            .summary = "what it said",
            .reason = "3 of 3"};
  }

  muster::testing::TempFolder folder_;
  const absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  std::unique_ptr<Store> store_;
  const LeaderEpoch epoch_{};  // 0, as the lease of a new store: nobody has led yet
};

inline absl::StatusCode CodeOf(const Status& status) { return status.code(); }

}  // namespace muster::control
