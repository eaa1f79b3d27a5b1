#include "control-plane/decide/leadership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "lib/base/random.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
const LeadershipPolicy kPolicy;

ReplicaRow Replica(std::string id, uint64_t incarnation = 1) {
  return {.id = std::move(id),
          .incarnation = incarnation,
          .addresses = {},
          .started_at = kNow - absl::Hours(1),
          .seen_at = kNow};
}

LeaseRow Lease(std::string holder, absl::Duration left, uint64_t incarnation = 1) {
  return {{7}, std::move(holder), incarnation, kNow + left};
}

TEST(Lease, OutlastsASlowBeatButNotForever) {
  const auto lease = [](absl::Duration takes) { return Stretched(kPolicy, takes).lease; };
  EXPECT_EQ(lease(absl::ZeroDuration()), kPolicy.lease);
  EXPECT_EQ(lease(absl::Milliseconds(600)), kPolicy.lease);
  EXPECT_EQ(lease(absl::Seconds(3)), absl::Seconds(10));
  EXPECT_EQ(lease(absl::Minutes(1)), kPolicy.longest_lease);
  EXPECT_EQ(Stretched(kPolicy, absl::Seconds(3)).lost_after, kPolicy.lost_after + absl::Seconds(7));
}

// Whoever is quick must not take it from whom a slow way to the database made ask for more.
TEST(Lease, OfASlowHolderIsLeftForTwiceItsOwnLength) {
  const LeaseRow given_for_hours = Lease("b", absl::Hours(5));
  const auto act = [&](absl::Duration unchanged_for, absl::Duration length) {
    return DecideLease({kNow, given_for_hours, Replica("a"), unchanged_for, length}, kPolicy).act;
  };
  EXPECT_EQ(act(absl::Seconds(19), absl::Seconds(10)), LeaseAct::kLeave);
  EXPECT_EQ(act(absl::Seconds(20), absl::Seconds(10)), LeaseAct::kTake);
  EXPECT_EQ(act(absl::Seconds(59), absl::Hours(5)), LeaseAct::kLeave);
  EXPECT_EQ(act(absl::Seconds(60), absl::Hours(5)), LeaseAct::kTake);
}

TEST(Lease, IsTakenRenewedOrLeft) {
  struct Case {
    const char* what;
    LeaseRow lease;
    ReplicaRow self;
    absl::Duration unchanged_for;
    LeaseAct act;
    const char* reason;
  };
  ReplicaRow draining = Replica("a");
  draining.draining = true;
  const absl::Duration zero = absl::ZeroDuration();
  const Case cases[] = {
      {"free", Lease("", -absl::Hours(1), 0), Replica("a"), zero, LeaseAct::kTake, "nobody led"},
      {"own, in time", Lease("a", absl::Seconds(2)), Replica("a"), zero, LeaseAct::kRenew,
       "in time"},
      {"own, at its last moment", Lease("a", absl::Microseconds(1)), Replica("a"), zero,
       LeaseAct::kRenew, "in time"},
      {"own, too late", Lease("a", zero), Replica("a"), zero, LeaseAct::kTake, "ran out"},
      {"own, of an earlier life", Lease("a", absl::Seconds(2)), Replica("a", 2), zero,
       LeaseAct::kTake, "started anew"},
      {"another's, in time", Lease("b", absl::Microseconds(1)), Replica("a"), zero,
       LeaseAct::kLeave, "b leads"},
      {"another's, over", Lease("b", zero), Replica("a"), zero, LeaseAct::kTake,
       "lease of b ran out"},
      {"another's, while the clock was set back", Lease("b", absl::Hours(5)), Replica("a"),
       absl::Seconds(6), LeaseAct::kTake, "not renewed its lease for 6s"},
      {"another's, not for so long", Lease("b", absl::Hours(5)), Replica("a"),
       absl::Milliseconds(5999), LeaseAct::kLeave, "b leads"},
      {"draining and free", Lease("", zero, 0), draining, zero, LeaseAct::kLeave, "draining"},
      {"draining and own", Lease("a", absl::Seconds(2)), draining, zero, LeaseAct::kLeave,
       "draining"},
  };
  for (const Case& c : cases) {
    const LeaseDecision decision = DecideLease({kNow, c.lease, c.self, c.unchanged_for}, kPolicy);
    EXPECT_EQ(decision.act, c.act) << c.what;
    EXPECT_THAT(decision.reason, HasSubstr(c.reason)) << c.what;
    if (c.act == LeaseAct::kLeave) {
      EXPECT_EQ(decision.lease, c.lease) << c.what;
      continue;
    }
    EXPECT_EQ(decision.lease.holder, c.self.id) << c.what;
    EXPECT_EQ(decision.lease.incarnation, c.self.incarnation) << c.what;
    EXPECT_EQ(decision.lease.until, kNow + kPolicy.lease) << c.what;
    EXPECT_EQ(decision.lease.epoch.value, c.act == LeaseAct::kTake ? 8U : 7U) << c.what;
  }
}

// Replicas that beat, stall before and within their transactions, and die, each with a clock of its
// own that runs at the same speed: at no moment do two of them believe that they lead, terms only
// grow, and each term is one replica's.
TEST(Lease, OneBelievesAtATimeWhateverHappens) {
  constexpr uint64_t kSeed = 20261127;
  const auto random = SeededRandom(kSeed);
  for (int run = 0; run < 200; ++run) {
    LeaseRow lease;
    std::map<uint64_t, std::string> terms;
    std::map<std::string, absl::Time> believes_until;
    std::map<std::string, uint64_t> incarnations = {{"a", 1}, {"b", 1}, {"c", 1}};
    absl::Time now = kNow;
    for (int step = 0; step < 200; ++step) {
      now += random->Below(absl::Seconds(2));
      auto self = incarnations.begin();
      std::advance(self, random->Below(uint64_t{3}));
      if (random->Below(uint64_t{20}) == 0) {  // dies, and starts anew
        ++self->second;
        believes_until[self->first] = absl::InfinitePast();
      }
      const absl::Time began = now;
      if (random->Below(uint64_t{4}) == 0) now += random->Below(absl::Seconds(5));
      const LeaseDecision decision =
          DecideLease({now, lease, Replica(self->first, self->second)}, kPolicy);
      if (decision.act == LeaseAct::kLeave) {
        believes_until[self->first] = absl::InfinitePast();
        continue;
      }
      ASSERT_GE(decision.lease.epoch, lease.epoch) << "seed " << kSeed;
      lease = decision.lease;
      const auto term =
          terms.emplace(lease.epoch.value, fmt::format("{}/{}", self->first, self->second));
      ASSERT_EQ(term.first->second, fmt::format("{}/{}", self->first, self->second))
          << "seed " << kSeed << " run " << run;
      believes_until[self->first] = began + kPolicy.lease;
      // The answer may be long on its way.
      for (const auto& [id, until] : believes_until) {
        if (id == self->first) continue;
        ASSERT_LE(until, now) << "seed " << kSeed << " run " << run;
      }
    }
  }
}

TEST(Heart, BeatsWhenTheLeaseOfAnotherRunsOut) {
  const auto next = [](LeaseRow lease) {
    Beat beat;
    beat.now = kNow;
    beat.decision.lease = std::move(lease);
    return NextBeatIn(beat, "a", kPolicy);
  };
  EXPECT_EQ(next(Lease("a", absl::Seconds(3))), absl::Seconds(1));
  EXPECT_EQ(next(Lease("b", absl::Milliseconds(2500))), absl::Seconds(1));
  EXPECT_EQ(next(Lease("b", absl::Milliseconds(400))), absl::Milliseconds(400));
  EXPECT_EQ(next(Lease("b", absl::ZeroDuration())), absl::Milliseconds(50));
  EXPECT_EQ(next(Lease("", -absl::Hours(9))), absl::Milliseconds(50));
  Beat draining;
  draining.now = kNow;
  draining.replicas = {Replica("a")};
  draining.replicas[0].draining = true;
  draining.decision.lease = Lease("", absl::ZeroDuration(), 0);
  EXPECT_EQ(NextBeatIn(draining, "a", kPolicy), absl::Seconds(1));
}

TEST(Replicas, AreLostWhenTheyAreNotSeenBySomebodyWhoLooked) {
  const ReplicaRow replica = Replica("a");
  const absl::Time long_ago = kNow - absl::Hours(1);
  EXPECT_FALSE(ShouldBeLost(replica, long_ago, kNow + absl::Milliseconds(5999), kPolicy));
  EXPECT_TRUE(ShouldBeLost(replica, long_ago, kNow + absl::Seconds(6), kPolicy));
  // The database was away for an hour: everybody gets time to be seen.
  const absl::Time back = kNow + absl::Hours(1);
  EXPECT_FALSE(ShouldBeLost(replica, back, back + absl::Milliseconds(5999), kPolicy));
  EXPECT_TRUE(ShouldBeLost(replica, back, back + absl::Seconds(6), kPolicy));
  EXPECT_FALSE(ShouldBeLost(replica, absl::InfiniteFuture(), back, kPolicy));
  ReplicaRow lost = replica;
  lost.lost_at = kNow;
  EXPECT_FALSE(ShouldBeLost(lost, long_ago, back, kPolicy));
}

TEST(Replicas, ServeSinceTheFirstOfThoseThatAreHereStarted) {
  ReplicaRow old = Replica("a");
  old.started_at = kNow - absl::Hours(9);
  ReplicaRow young = Replica("b");
  young.started_at = kNow - absl::Seconds(1);
  EXPECT_EQ(ServingSince({old, young}, kNow, kPolicy), old.started_at);
  // A leader change is no absence: the follower has been here all along.
  EXPECT_EQ(ServingSince({young}, kNow, kPolicy), young.started_at);
  ReplicaRow silent = old;
  silent.seen_at = kNow - absl::Seconds(6);
  EXPECT_EQ(ServingSince({silent, young}, kNow, kPolicy), young.started_at);
  EXPECT_EQ(ServingSince({}, kNow, kPolicy), kNow);
}

TEST(Replicas, TellAgentsOfThoseThatCanTakeThem) {
  ReplicaRow self = Replica("b");
  self.addresses = {"b:1", "lb:1"};
  ReplicaRow other = Replica("a");
  other.addresses = {"lb:1", "a:1"};
  ReplicaRow draining = Replica("c");
  draining.addresses = {"c:1"};
  draining.draining = true;
  ReplicaRow lost = Replica("d");
  lost.addresses = {"d:1"};
  lost.lost_at = kNow;
  ReplicaRow silent = Replica("e");
  silent.addresses = {"e:1"};
  silent.seen_at = kNow - absl::Seconds(6);
  EXPECT_THAT(ServersOf({other, self, draining, lost, silent}, self, kNow, kPolicy),
              ElementsAre("b:1", "lb:1", "a:1"));
}

TEST(Replicas, AreCutOffOnceTheDatabaseIsSilentForLongAndOthersAreThere) {
  const auto cut_off = [](const ReplicaRow& other, absl::Duration silent_for) {
    return IsCutOff({Replica("a"), other}, "a", kNow, silent_for, kPolicy);
  };
  EXPECT_TRUE(cut_off(Replica("b"), kPolicy.cut_off_after));
  EXPECT_FALSE(cut_off(Replica("b"), kPolicy.cut_off_after - absl::Milliseconds(1)));
  ReplicaRow lost = Replica("b");
  lost.lost_at = kNow;
  EXPECT_FALSE(cut_off(lost, absl::Hours(1)));
  ReplicaRow draining = Replica("b");
  draining.draining = true;
  EXPECT_FALSE(cut_off(draining, absl::Hours(1)));
  EXPECT_FALSE(IsCutOff({Replica("a")}, "a", kNow, absl::Hours(1), kPolicy));
  // A database that answers slowly is not out of reach.
  const LeadershipPolicy slow = Stretched(kPolicy, absl::Seconds(3));
  EXPECT_FALSE(IsCutOff({Replica("a"), Replica("b")}, "a", kNow, kPolicy.cut_off_after, slow));
}

TEST(Replicas, AreShownAsTheyAre) {
  ReplicaRow row = Replica("a");
  row.addresses = {"a:1"};
  row.agents = 3;
  const auto state = [&] {
    return ReplicaMessage(row, Lease("b", absl::Seconds(1)), kNow, kPolicy).state();
  };
  EXPECT_EQ(state(), v1::Replica::STATE_LIVE);
  row.draining = true;
  EXPECT_EQ(state(), v1::Replica::STATE_DRAINING);
  row.seen_at = kNow - absl::Seconds(6);
  EXPECT_EQ(state(), v1::Replica::STATE_LOST);
  const v1::Replica leader = ReplicaMessage(row, Lease("a", absl::Seconds(1)), kNow, kPolicy);
  EXPECT_TRUE(leader.leader());
  EXPECT_EQ(leader.epoch(), 7U);
  EXPECT_EQ(leader.agents(), 3U);
  EXPECT_FALSE(ReplicaMessage(row, Lease("a", absl::ZeroDuration()), kNow, kPolicy).leader());
}

}  // namespace
}  // namespace muster::control
