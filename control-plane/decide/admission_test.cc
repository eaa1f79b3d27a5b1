#include "control-plane/decide/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lib/base/random.h"
#include "lib/base/status.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

Claimant Claims(std::string id, int seconds_due, std::string host,
                std::vector<std::string> claims) {
  return {.run = std::move(id),
          .due = kNow - absl::Seconds(seconds_due),
          .host = std::move(host),
          .claims = std::move(claims)};
}

TEST(Admission, JobsOnOneDatabaseExcludeOneAnother) {
  const AdmissionPlan plan = Admit({.running = {Claims("backup", 90, "db-1", {"database/orders"})},
                                    .waiting = {Claims("drill", 60, "db-2", {"database/orders"}),
                                                Claims("other", 10, "db-2", {"database/users"})}},
                                   kNow);
  EXPECT_THAT(plan.start, ElementsAre("other"));
  ASSERT_THAT(plan.held, SizeIs(1));
  EXPECT_EQ(plan.held[0].run, "drill");
  EXPECT_EQ(plan.held[0].reason, "database/orders: run backup holds it");
}

TEST(Admission, TheLongestDueGoesFirst) {
  const AdmissionPlan plan = Admit({.waiting = {Claims("young", 1, "h", {"database/orders"}),
                                                Claims("old", 9, "h", {"database/orders"})}},
                                   kNow);
  EXPECT_THAT(plan.start, ElementsAre("old"));
  EXPECT_EQ(plan.held.at(0).reason, "database/orders: run old holds it");
}

TEST(Admission, AHostRunsNoMoreThanItMay) {
  const AdmissionPlan plan =
      Admit({.running = {Claims("a", 9, "h", {})},
             .waiting = {Claims("b", 8, "h", {}), Claims("c", 7, "h", {}),
                         Claims("d", 6, "other", {}), Claims("e", 5, "", {})},
             .per_host = 2},
            kNow);
  EXPECT_THAT(plan.start, ElementsAre("b", "d", "e"));
  EXPECT_EQ(plan.held.at(0).reason, "host h: 2 runs at once, the most that may");
}

TEST(Admission, ARunThatWaitsForTwoIsNotOvertakenForEither) {
  const AdmissionPlan plan =
      Admit({.running = {Claims("x", 99, "h", {"a"})},
             .waiting = {Claims("both", 9, "h", {"a", "b"}), Claims("late", 1, "h", {"b"}),
                         Claims("free", 1, "h", {"c"})}},
            kNow);
  EXPECT_THAT(plan.start, ElementsAre("free"));
  EXPECT_EQ(plan.held.at(1).reason, "b: run both waits for it and came first");
}

TEST(Admission, LooksAtNoRunBeforeItIsDue) {
  const AdmissionPlan plan =
      Admit({.waiting = {Claims("later", -30, "h", {"a"}), Claims("now", 0, "h", {"a"})}}, kNow);
  EXPECT_THAT(plan.start, ElementsAre("now"));
  EXPECT_THAT(plan.held, IsEmpty());
  EXPECT_EQ(plan.next_look, kNow + absl::Seconds(30));
}

TEST(Admission, MissesWhatCouldNotBeginInTimeAndSaysWhoWasInTheWay) {
  Claimant late = Claims("late", 60, "h", {"a"});
  late.start_by = kNow - absl::Seconds(1);
  Claimant just = Claims("just", 50, "h", {"a"});
  just.start_by = kNow;
  const AdmissionPlan plan =
      Admit({.running = {Claims("x", 99, "h", {"a"})}, .waiting = {late, just}}, kNow);
  ASSERT_THAT(plan.missed, SizeIs(1));
  EXPECT_EQ(plan.missed[0].run, "late");
  EXPECT_THAT(plan.missed[0].reason, HasSubstr("a: run x holds it"));
  EXPECT_EQ(plan.held.at(0).run, "just");
  EXPECT_EQ(plan.next_look, kNow + absl::Nanoseconds(1));
}

// Random runs come, run and end: no claim is ever held twice, no host has too many, no run waits
// for one that it has nothing in common with, and each begins in the end, in order for one claim.
TEST(Admission, IsExclusiveAndFairWhateverComes) {
  constexpr uint64_t kSeed = 20261128;
  const auto random = SeededRandom(kSeed);
  for (int round = 0; round < 50; ++round) {
    AdmissionFacts facts = {.per_host = 2};
    std::map<std::string, absl::Time> begun_due;  // of each claim: the due time that began last
    int made = 0, begun = 0;
    for (int step = 0; step < 400; ++step) {
      const absl::Time now = kNow + absl::Seconds(step);
      if (step < 250 && random->Below(uint64_t{2}) == 0) {
        Claimant one = {.run = fmt::format("r{:04}", made++),
                        .due = now,
                        .host = fmt::format("h{}", random->Below(uint64_t{3}))};
        std::set<std::string> claims;
        for (uint64_t i = random->Below(uint64_t{4}); i > 0; --i) {
          claims.insert(fmt::format("c{}", random->Below(uint64_t{5})));
        }
        one.claims.assign(claims.begin(), claims.end());
        facts.waiting.push_back(std::move(one));
      }
      std::erase_if(facts.running,
                    [&](const Claimant&) { return random->Below(uint64_t{4}) == 0; });
      const AdmissionPlan plan = Admit(facts, now);
      ASSERT_EQ(plan.start.size() + plan.held.size(), facts.waiting.size());
      for (const std::string& run : plan.start) {
        const auto one = std::find_if(facts.waiting.begin(), facts.waiting.end(),
                                      [&](const Claimant& c) { return c.run == run; });
        for (const std::string& claim : one->claims) {
          ASSERT_GE(one->due, begun_due[claim]) << "seed " << kSeed << " round " << round;
          begun_due[claim] = one->due;
        }
        facts.running.push_back(*one);
        facts.waiting.erase(one);
        ++begun;
      }
      std::set<std::string> held;
      std::map<std::string, int> hosts;
      for (const Claimant& one : facts.running) {
        for (const std::string& claim : one.claims) ASSERT_TRUE(held.insert(claim).second);
        ASSERT_LE(++hosts[one.host], 2);
      }
      std::set<std::string> ahead = held;
      for (const Claimant& one : facts.waiting) {  // in order of due
        const bool blocked =
            hosts[one.host] == 2 || std::any_of(one.claims.begin(), one.claims.end(),
                                                [&](const auto& c) { return ahead.count(c) > 0; });
        ASSERT_TRUE(blocked) << "seed " << kSeed << " round " << round << " run " << one.run;
        ahead.insert(one.claims.begin(), one.claims.end());
      }
    }
    ASSERT_EQ(begun, made) << "seed " << kSeed << " round " << round;
  }
}

}  // namespace
}  // namespace muster::control
