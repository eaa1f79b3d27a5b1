#include "agent/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/testing/servers.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AgentConfig, ReadsEverySetting) {
  const auto config = ParseConfig(R"(
servers: ["10.0.0.5:7443", "[::1]:7443"]
policy: /etc/muster/other.yaml
spool: {bound: 64MiB, keep: 12h}
probeThreads: 4
jobs: {atOnce: 2}
logLevel: debug
)",
                                  "agent.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->servers, ElementsAre("10.0.0.5:7443", "[::1]:7443"));
  EXPECT_EQ(config->policy, "/etc/muster/other.yaml");
  EXPECT_EQ(config->spool.bound_bytes, uint64_t{64} << 20);
  EXPECT_EQ(config->spool.keep_acknowledged_for, absl::Hours(12));
  EXPECT_EQ(config->probe_threads, 4u);
  EXPECT_EQ(config->jobs_at_once, 2u);
  EXPECT_EQ(config->log_level, LogLevel::kDebug);
}

TEST(AgentConfig, AnEmptyFileIsTheDefaults) {
  const auto config = ParseConfig("", "agent.yaml");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->spool.bound_bytes, uint64_t{256} << 20);
}

TEST(AgentConfig, RefusesWhatItDoesNotKnowAndSaysWhere) {
  const struct {
    const char* yaml;
    const char* says;
  } cases[] = {
      {"policy: x\nspol: {}", "agent.yaml:2:1: spol: there is no such setting"},
      {"servers: 10.0.0.5:7443", "agent.yaml:1:10: servers: must be a list"},
      {"servers: [nowhere]", "agent.yaml:1:10: servers"},
      {"spool: {bound: 1KiB}", "agent.yaml:1:16: spool.bound: must be between 1MiB and 1024GiB"},
      {"spool: {bound: much}", "is no size"},
      {"spool: {size: 1MiB}",
       "agent.yaml:1:9: spool.size: there is no such setting; there are bound, keep"},
      {"probeThreads: 0", "between 1 and 256"},
      {"jobs: {atOnce: 65}", "jobs.atOnce: must be between 1 and 64"},
      {"logLevel: loud", "logLevel"},
      {"- a", "name: value"},
      {"a: [", "agent.yaml"},
  };
  for (const auto& one : cases) {
    const auto config = ParseConfig(one.yaml, "agent.yaml");
    ASSERT_FALSE(config.ok()) << one.yaml;
    EXPECT_THAT(std::string(Message(config.status())), HasSubstr(one.says));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(AgentPlan, IsReadBackAndAnythingElseIsNone) {
  testing::TempFolder folder;
  EXPECT_EQ(ReadPlan(folder.path()).checks_size(), 0);
  v1::Plan plan;
  plan.set_hash("h");
  plan.add_checks()->set_name("api");
  ASSERT_TRUE(WritePlan(folder.path(), plan).ok());
  EXPECT_EQ(ReadPlan(folder.path()).checks(0).name(), "api");
}

TEST(AgentMembership, SaysHowToJoin) {
  testing::TempFolder folder;
  const auto membership = ReadMembership(folder.path());
  EXPECT_THAT(std::string(Message(membership.status())), HasSubstr("muster-agent join"));
}

}  // namespace
}  // namespace muster::agent
