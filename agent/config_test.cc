#include "agent/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/app.h"
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
probe_threads: 4
log_level: debug
)",
                                  "agent.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->servers, ElementsAre("10.0.0.5:7443", "[::1]:7443"));
  EXPECT_EQ(config->policy, "/etc/muster/other.yaml");
  EXPECT_EQ(config->spool.bound_bytes, uint64_t{64} << 20);
  EXPECT_EQ(config->spool.keep_acknowledged_for, absl::Hours(12));
  EXPECT_EQ(config->probe_threads, 4u);
  EXPECT_EQ(config->log_level, "debug");
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
      {"policy: x\nspol: {}", "agent.yaml:2: spol: unknown setting spol"},
      {"servers: 10.0.0.5:7443", "list of host:port"},
      {"servers: [nowhere]", "agent.yaml:1: servers"},
      {"spool: {bound: 1KiB}", "1MiB"},
      {"spool: {bound: much}", "is no size"},
      {"spool: {size: 1MiB}", "bound and keep"},
      {"probe_threads: 0", "1 to 256"},
      {"log_level: loud", "log_level"},
      {"- a", "name: value"},
      {"a: [", "agent.yaml"},
  };
  for (const auto& one : cases) {
    const auto config = ParseConfig(one.yaml, "agent.yaml");
    ASSERT_FALSE(config.ok()) << one.yaml;
    EXPECT_THAT(std::string(Message(config.status())), HasSubstr(one.says));
    EXPECT_EQ(ExitCode(config.status()), 2);
  }
}

TEST(AgentConfig, SizesHaveUnits) {
  EXPECT_EQ(*ParseSize("7"), 7u);
  EXPECT_EQ(*ParseSize("3KiB"), 3072u);
  EXPECT_EQ(*ParseSize("1GiB"), uint64_t{1} << 30);
  EXPECT_FALSE(ParseSize("1GB").ok());
  EXPECT_FALSE(ParseSize("").ok());
  EXPECT_FALSE(ParseSize("99999999999999GiB").ok());
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

TEST(ExitCodes, AreThoseOfTheReference) {
  EXPECT_EQ(ExitCode(OkStatus()), 0);
  EXPECT_EQ(ExitCode(Internal("x")), 1);
  EXPECT_EQ(ExitCode(InvalidArgument("x")), 2);
  EXPECT_EQ(ExitCode(PermissionDenied("x")), 4);
  EXPECT_EQ(ExitCode(AlreadyExists("x")), 5);
  EXPECT_EQ(ExitCode(Unavailable("x")), 6);
  EXPECT_EQ(ExitCode(Unknown("x")), 1);
}

}  // namespace
}  // namespace muster::agent
