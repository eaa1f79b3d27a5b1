#include "control-plane/decide/absence.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "lib/wire/time.h"

namespace muster::control {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);
const AbsencePolicy kPolicy;

AgentSession Agent(bool connected, absl::Time disconnected_at) {
  return {.name = "web-1",
          .connected = connected,
          .last_seen_at = connected ? kStart : disconnected_at,
          .disconnected_at = connected ? absl::InfiniteFuture() : disconnected_at};
}

CheckStateRow State(absl::Time observed_at) {
  return {.agent = "web-1",
          .check_id = 3,
          .status = v1::CHECK_STATUS_OK,
          .hard = true,
          .hard_status = v1::CHECK_STATUS_OK,
          .since = kStart,
          .observed_at = observed_at,
          .summary = "fine",
          .revision = 17};
}

Serving Since(absl::Time since) { return {since, Crowd(kPolicy)}; }

v1::CheckSpec Every(absl::Duration every) {
  v1::CheckSpec spec;
  *spec.mutable_every() = wire::ToProto(every);
  *spec.mutable_timeout() = wire::ToProto(absl::Seconds(2));
  return spec;
}

TEST(Absence, BeginsAfterTheGrace) {
  const Serving long_ago = Since(kStart - absl::Hours(1));
  const AgentSession agent = Agent(false, kStart);
  EXPECT_FALSE(IsAbsent(agent, long_ago, kPolicy, kStart + absl::Seconds(29)));
  EXPECT_TRUE(IsAbsent(agent, long_ago, kPolicy, kStart + absl::Seconds(30)));
  EXPECT_FALSE(IsAbsent(Agent(true, kStart), long_ago, kPolicy, kStart + absl::Hours(9)));
}

TEST(Absence, OfOneWhoseSessionEndedForItsSilenceBeganWithThat) {
  const Serving long_ago = Since(kStart - absl::Hours(1));
  AgentSession stuck = Agent(false, kStart);
  stuck.last_seen_at = kStart - absl::Seconds(12);
  EXPECT_FALSE(IsAbsent(stuck, long_ago, kPolicy, kStart + absl::Seconds(17)));
  EXPECT_TRUE(IsAbsent(stuck, long_ago, kPolicy, kStart + absl::Seconds(18)));
  const auto no_data = NoDataOfSilent(State(kStart), stuck, long_ago, kPolicy, kStart);
  ASSERT_TRUE(no_data.has_value());
  EXPECT_EQ(no_data->transition.reason,
            "silent: agent web-1 has had no session since 2027-01-15T08:00:00Z, and was last heard "
            "2027-01-15T07:59:48Z");
  // Nor does it wait in line with others when it was lost alone.
  EXPECT_EQ(SilentSince(stuck, long_ago, kPolicy), stuck.last_seen_at);
}

TEST(Absence, DoesNotCountTheTimeWhenNobodyServed) {
  const AgentSession agent = Agent(false, kStart - absl::Hours(5));
  EXPECT_FALSE(IsAbsent(agent, Since(kStart), kPolicy, kStart + absl::Seconds(44)));
  EXPECT_TRUE(IsAbsent(agent, Since(kStart), kPolicy, kStart + absl::Seconds(45)));
}

TEST(Absence, OfAnOrphanBeginsLaterThanItsOwn) {
  const Serving long_ago = Since(kStart - absl::Hours(1));
  AgentSession orphan = Agent(false, kStart);
  orphan.orphaned = true;
  EXPECT_EQ(SilentSince(orphan, long_ago, kPolicy), kStart + kPolicy.settle);
  EXPECT_FALSE(IsAbsent(orphan, long_ago, kPolicy, kStart + absl::Seconds(44)));
  EXPECT_TRUE(IsAbsent(orphan, long_ago, kPolicy, kStart + absl::Seconds(45)));
  const CheckStateRow state = State(kStart);
  EXPECT_FALSE(NoDataOfSilent(state, orphan, long_ago, kPolicy, kStart + absl::Seconds(21)));
  const auto no_data = NoDataOfSilent(state, orphan, long_ago, kPolicy, kStart + absl::Seconds(22));
  ASSERT_TRUE(no_data.has_value());
  EXPECT_NE(no_data->transition.reason.find("when its replica was lost"), std::string::npos);
  // The whole control plane was away as well: the two are one time, not a sum.
  EXPECT_EQ(SilentSince(orphan, Since(kStart), kPolicy), kStart + kPolicy.settle);
}

// Seconds after kStart, and how many are connected then.
Crowd CrowdOf(const std::vector<std::pair<int, size_t>>& looks) {
  Crowd crowd(kPolicy);
  for (const auto& [second, connected] : looks) {
    crowd.Look(connected, kStart + absl::Seconds(second));
  }
  return crowd;
}

TEST(Crowd, IsWhereManyComeWithinASecond) {
  EXPECT_EQ(CrowdOf({}).BackFrom(kStart), kStart);
  EXPECT_EQ(CrowdOf({{1, 500}}).BackFrom(kStart), kStart);  // they may have been there before
  EXPECT_EQ(CrowdOf({{1, 0}, {2, 9}, {3, 18}}).BackFrom(kStart), kStart);
  EXPECT_EQ(CrowdOf({{1, 0}, {2, 10}, {3, 20}, {4, 21}}).BackFrom(kStart),
            kStart + absl::Seconds(3));
  // Ten in each second that went by.
  EXPECT_EQ(CrowdOf({{1, 0}, {5, 39}}).BackFrom(kStart), kStart);
  EXPECT_EQ(CrowdOf({{1, 0}, {5, 40}}).BackFrom(kStart), kStart + absl::Seconds(5));
  EXPECT_EQ(CrowdOf({{1, 100}, {2, 50}}).BackFrom(kStart), kStart);
}

TEST(Crowd, CountsForWhatWasLostBeforeItBegan) {
  const Crowd crowd = CrowdOf({{1, 0}, {2, 100}, {10, 300}, {100, 300}, {101, 400}, {102, 500}});
  // The first one is over, and the second came too late for it.
  EXPECT_EQ(crowd.BackFrom(kStart), kStart);
  EXPECT_EQ(crowd.BackFrom(kStart + absl::Seconds(90)), kStart + absl::Seconds(102));
  EXPECT_EQ(crowd.BackFrom(kStart + absl::Seconds(103)), kStart + absl::Seconds(103));
}

TEST(Absence, WaitsUntilACrowdIsIn) {
  AgentSession agent = Agent(false, kStart - absl::Minutes(1));
  std::vector<std::pair<int, size_t>> looks;
  for (int second = 0; second <= 60; ++second) {
    looks.emplace_back(second, 100 * static_cast<size_t>(second));
  }
  const Serving crowded{kStart, CrowdOf(looks)};
  EXPECT_EQ(SilentSince(agent, crowded, kPolicy), kStart + absl::Seconds(60) + kPolicy.settle);
  // One that lost its session by itself since is none of the crowd.
  agent = Agent(false, kStart + absl::Minutes(10));
  EXPECT_EQ(SilentSince(agent, crowded, kPolicy), agent.disconnected_at);
  // Of a replica that was lost the others come in a crowd as well.
  AgentSession orphan = Agent(false, kStart - absl::Seconds(5));
  orphan.orphaned = true;
  const Serving long_ago{kStart - absl::Hours(1), CrowdOf(looks)};
  EXPECT_EQ(SilentSince(orphan, long_ago, kPolicy), kStart + absl::Seconds(60) + kPolicy.settle);
  // It does not last for ever.
  for (int second = 61; second <= 900; ++second) looks.emplace_back(second, looks.size() * 100);
  EXPECT_EQ(SilentSince(agent = Agent(false, kStart - absl::Minutes(1)), {kStart, CrowdOf(looks)},
                        kPolicy),
            kStart + kPolicy.crowd_at_most + kPolicy.settle);
}

// As after a load balancer's restart: they left by themselves, and stand in line.
TEST(Absence, OfThoseThatWereLostTogetherWaitsUntilTheyAreBack) {
  std::vector<std::pair<int, size_t>> looks = {{0, 1000}, {1, 400}, {2, 0}};
  const AgentSession agent = Agent(false, kStart + absl::Seconds(1));
  const auto silent_since = [&](const AgentSession& one) {
    return SilentSince(one, {kStart - absl::Hours(1), CrowdOf(looks)}, kPolicy);
  };
  // Nobody comes: they are gone.
  EXPECT_EQ(silent_since(agent), agent.disconnected_at);
  for (int second = 3; second <= 40; ++second) {
    looks.emplace_back(second, 20 * static_cast<size_t>(second - 2));
  }
  EXPECT_EQ(silent_since(agent), kStart + absl::Seconds(40) + kPolicy.settle);
  // Those that were lost alone, before and meanwhile, are none of them.
  for (const int second : {-3, 20}) {
    const AgentSession alone = Agent(false, kStart + absl::Seconds(second));
    EXPECT_EQ(silent_since(alone), alone.disconnected_at);
  }
}

TEST(Absence, IsNotSaidOfAgentsThatNeverCameOrWereRevoked) {
  AgentSession never = Agent(false, absl::InfiniteFuture());
  never.last_seen_at = absl::InfinitePast();
  EXPECT_FALSE(IsAbsent(never, Since(absl::InfinitePast()), kPolicy, kStart + absl::Hours(1)));
  AgentSession revoked = Agent(false, kStart);
  revoked.revoked = true;
  EXPECT_FALSE(IsAbsent(revoked, Since(absl::InfinitePast()), kPolicy, kStart + absl::Hours(1)));
}

TEST(NoData, HoldsFromTheLastObservation) {
  const absl::Time seen = kStart + absl::Seconds(40);
  const auto no_data = NoDataOfSilent(State(seen), Agent(false, seen + absl::Seconds(3)),
                                      Since(kStart), kPolicy, seen + absl::Seconds(13));
  ASSERT_TRUE(no_data.has_value());
  EXPECT_EQ(no_data->state.status, v1::CHECK_STATUS_NO_DATA);
  EXPECT_EQ(no_data->state.since, seen);
  EXPECT_EQ(no_data->state.revision, 17U);
  EXPECT_EQ(no_data->transition.at, seen);
  EXPECT_EQ(no_data->transition.from, v1::CHECK_STATUS_OK);
  EXPECT_TRUE(no_data->transition.hard);
  EXPECT_FALSE(IsLate(no_data->transition));
}

TEST(NoData, WaitsForTheGraceAndComesOnce) {
  const AgentSession agent = Agent(false, kStart);
  const Serving long_ago = Since(kStart - absl::Hours(1));
  const auto no_data_after = [&](absl::Duration silence) {
    return NoDataOfSilent(State(kStart), agent, long_ago, kPolicy, kStart + silence).has_value();
  };
  EXPECT_FALSE(no_data_after(kPolicy.states_after - absl::Milliseconds(1)));
  EXPECT_TRUE(no_data_after(kPolicy.states_after));
  CheckStateRow already = State(kStart);
  already.status = v1::CHECK_STATUS_NO_DATA;
  EXPECT_FALSE(NoDataOfSilent(already, agent, long_ago, kPolicy, kStart + absl::Hours(1)));
}

TEST(LateData, IsThreePeriodsATimeoutAndTheFlushOld) {
  const auto late = [](absl::Duration age) {
    return NoDataOfLate(State(kStart), Every(absl::Seconds(10)), Agent(true, kStart), kStart,
                        kPolicy, kStart + age);
  };
  EXPECT_FALSE(late(absl::Seconds(42)).has_value());
  ASSERT_TRUE(late(absl::Seconds(43)).has_value());
  EXPECT_TRUE(IsLate(late(absl::Seconds(43))->transition));
  EXPECT_EQ(late(absl::Hours(1))->transition.at, kStart);
}

TEST(LateData, IsNotSaidOfAbsentAgentsNorOfThoseThatJustCameBack) {
  const absl::Time now = kStart + absl::Hours(1);
  EXPECT_FALSE(NoDataOfLate(State(kStart), Every(absl::Seconds(10)), Agent(false, kStart), kStart,
                            kPolicy, now));
  EXPECT_FALSE(NoDataOfLate(State(kStart), Every(absl::Seconds(10)), Agent(true, kStart),
                            now - absl::Seconds(30), kPolicy, now));
}

}  // namespace
}  // namespace muster::control
