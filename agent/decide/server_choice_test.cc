#include "agent/decide/server_choice.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "lib/base/random.h"

namespace muster::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// A tour that begins after the server was left.
ServerTour Left(const std::string& server) {
  ServerTour tour;
  tour.Next({server}, 0);
  tour.Met();
  return tour;
}

TEST(ServerTour, TriesEachOtherOnceAndTheOneThatWasLeftLast) {
  const std::vector<std::string> servers = {"a:1", "b:1", "c:1", "d:1"};
  const auto random = SeededRandom(3);
  for (int i = 0; i < 100; ++i) {
    ServerTour tour = Left("b:1");
    std::vector<std::string> tried;
    for (int k = 0; k < 3; ++k) tried.push_back(tour.Next(servers, random->Next()));
    EXPECT_THAT(tried, UnorderedElementsAre("a:1", "c:1", "d:1"));
    // The next round is of all but the one that has just failed.
    std::vector<std::string> again;
    for (int k = 0; k < 3; ++k) again.push_back(tour.Next(servers, random->Next()));
    EXPECT_THAT(again, SizeIs(3));
    EXPECT_THAT(again, Contains("b:1"));
    EXPECT_THAT(again, Not(Contains(tried.back())));
  }
}

TEST(ServerTour, FindsTheOnlyServerThatLivesWithinOneRound) {
  const std::vector<std::string> servers = {"a:1", "b:1", "c:1"};
  for (uint64_t draw = 0; draw < 30; ++draw) {
    ServerTour tour = Left("a:1");
    const std::string first = tour.Next(servers, draw);
    const std::string second = tour.Next(servers, draw / 2);
    EXPECT_TRUE(first == "c:1" || second == "c:1") << first << ", then " << second;
  }
}

TEST(ServerTour, BacksOffByRoundsNotByServers) {
  ServerTour tour;
  EXPECT_EQ(tour.RoundsInVain(3), 0);
  for (int i = 0; i < 3; ++i) tour.Failed();
  EXPECT_EQ(tour.RoundsInVain(3), 1);
  EXPECT_EQ(tour.RoundsInVain(1), 3);
  for (int i = 0; i < 3; ++i) tour.Failed();
  EXPECT_EQ(tour.RoundsInVain(3), 2);
  tour.Met();
  EXPECT_EQ(tour.RoundsInVain(3), 0);
}

TEST(ServerTour, GoesByTheServersThatThereAreNow) {
  ServerTour tour = Left("gone:1");
  EXPECT_EQ(tour.Next({"a:1"}, 9), "a:1");
  EXPECT_EQ(tour.Next({"a:1", "new:1"}, 9), "new:1");
  EXPECT_EQ(tour.Next({"a:1"}, 9), "a:1");
  EXPECT_EQ(tour.Next({"a:1"}, 9), "a:1");
}

TEST(ServerTour, SpreadsTheAgentsOfADeadReplicaOverAllOthers) {
  const std::vector<std::string> servers = {"a:1", "b:1", "c:1", "d:1"};
  const auto random = SeededRandom(7);
  std::map<std::string, int> counts;
  for (int i = 0; i < 3000; ++i) ++counts[Left("a:1").Next(servers, random->Next())];
  EXPECT_THAT(counts, SizeIs(3));
  for (const auto& [server, count] : counts) {
    EXPECT_GT(count, 900) << server;
    EXPECT_LT(count, 1100) << server;
  }
}

TEST(ServerTour, StaysWhereThereIsNoOther) {
  EXPECT_EQ(Left("a:1").Next({"a:1"}, 5), "a:1");
  EXPECT_EQ(Left("a:1").Next({"a:1", "a:1"}, 5), "a:1");
  EXPECT_EQ(ServerTour().Next({"a:1", "b:1"}, 1), "b:1");
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
