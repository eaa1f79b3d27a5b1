#include "agent/decide/server_choice.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "lib/base/random.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(NextServer, IsAnotherThanTheOneThatWasLeft) {
  const std::vector<std::string> servers = {"a:1", "b:1", "c:1"};
  for (uint64_t draw = 0; draw < 30; ++draw) EXPECT_NE(NextServer(servers, "b:1", draw), "b:1");
}

TEST(NextServer, SpreadsTheAgentsOfADeadReplicaOverAllOthers) {
  const std::vector<std::string> servers = {"a:1", "b:1", "c:1", "d:1"};
  const auto random = SeededRandom(7);
  std::map<std::string, int> counts;
  for (int i = 0; i < 3000; ++i) ++counts[NextServer(servers, "a:1", random->Next())];
  EXPECT_THAT(counts, SizeIs(3));
  for (const auto& [server, count] : counts) {
    EXPECT_GT(count, 900) << server;
    EXPECT_LT(count, 1100) << server;
  }
}

TEST(NextServer, IsTheSameWhereThereIsNoOther) {
  EXPECT_EQ(NextServer({"a:1"}, "a:1", 5), "a:1");
  EXPECT_EQ(NextServer({"a:1", "a:1"}, "a:1", 5), "a:1");
  EXPECT_EQ(NextServer({"a:1", "b:1"}, "", 1), "b:1");
}

TEST(UsableServers, AreThoseThatCanBeDialledOnceEach) {
  const std::string too_long = fmt::format("{}:1", std::string(999, 'x'));
  EXPECT_THAT(UsableServers({"a:1", "", "no port", "a:1", "[::1]:7443", too_long}),
              ElementsAre("a:1", "[::1]:7443"));
  EXPECT_THAT(UsableServers({}), IsEmpty());
  std::vector<std::string> many;
  for (int i = 1; i < 200; ++i) many.push_back("h" + std::to_string(i) + ":1");
  EXPECT_THAT(UsableServers(many), SizeIs(64));
}

}  // namespace
}  // namespace muster::agent
