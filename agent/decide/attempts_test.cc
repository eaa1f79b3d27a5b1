#include "agent/decide/attempts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace muster::agent {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::vector<AttemptAction> Actions(const std::vector<AttemptFacts>& facts, size_t slots) {
  std::vector<AttemptAction> actions;
  for (const AttemptDecision& decision : DecideAttempts(facts, slots, kNow))
    actions.push_back(decision.action);
  return actions;
}

AttemptDecision Decide(const AttemptFacts& facts) { return DecideAttempts({{facts}}, 1, kNow)[0]; }

TEST(Attempts, BeginInTheirOrderWhileThereAreSlots) {
  using enum AttemptAction;
  const AttemptFacts fresh;
  const AttemptFacts over{.phase = AttemptPhase::kOver};
  const AttemptFacts runs{.phase = AttemptPhase::kRuns};
  EXPECT_EQ(Actions({fresh, over, runs, fresh, fresh}, 2),
            (std::vector{kBegin, kNone, kNone, kBegin, kNone}));
  EXPECT_EQ(Actions({fresh}, 0), std::vector{kNone});
}

TEST(Attempts, OneThatWaitsForAnEarlierOneTakesNoSlot) {
  using enum AttemptAction;
  EXPECT_EQ(Actions({{.another_runs = true}, {}}, 1), (std::vector{kNone, kBegin}));
}

TEST(Attempts, MayBeginUntilTheLastMomentAndNeverAfterIt) {
  EXPECT_EQ(Decide({.start_by = kNow}).action, AttemptAction::kBegin);
  const AttemptDecision late = Decide({.start_by = kNow - absl::Milliseconds(1)});
  EXPECT_EQ(late.action, AttemptAction::kNever);
  EXPECT_THAT(late.reason, HasSubstr("not begun by 2027-01-15T07:59:59Z: other jobs ran"));
  EXPECT_THAT(Decide({.another_runs = true, .start_by = kNow - absl::Seconds(1)}).reason,
              HasSubstr("an earlier attempt of this run was not over"));
}

TEST(Attempts, AreStoppedBeforeTheyBeginOrWhileTheyRun) {
  const AttemptFacts cancel{.stop = v1::Assignment::STOP_CANCEL, .stop_reason = "by alice"};
  EXPECT_EQ(Decide(cancel).action, AttemptAction::kNever);
  EXPECT_EQ(Decide(cancel).reason, "by alice");
  AttemptFacts running = cancel;
  running.phase = AttemptPhase::kRuns;
  EXPECT_EQ(Decide(running).action, AttemptAction::kCancel);
  running.stop = v1::Assignment::STOP_TERMINATE;
  EXPECT_EQ(Decide(running).action, AttemptAction::kTerminate);
  EXPECT_EQ(Decide(running).reason, "by alice");
}

TEST(Attempts, WhatIsOverStaysOver) {
  EXPECT_EQ(Decide({.phase = AttemptPhase::kOver,
                    .start_by = kNow - absl::Hours(1),
                    .stop = v1::Assignment::STOP_TERMINATE})
                .action,
            AttemptAction::kNone);
}

// Whatever is assigned: what begins is new, in time, unstopped, alone, and within the slots; and a
// free slot is never left to nobody while one could begin.
TEST(Attempts, BeginExactlyThoseThatMay) {
  const uint64_t seed = 20261128;
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<AttemptFacts> facts(random() % 12);
    for (AttemptFacts& fact : facts) {
      fact.phase = static_cast<AttemptPhase>(random() % 3);
      fact.another_runs = random() % 4 == 0;
      fact.start_by = kNow + absl::Seconds(static_cast<int64_t>(random() % 5) - 1);
      fact.stop = static_cast<v1::Assignment::Stop>(random() % 4 == 0 ? 1 + random() % 2 : 0);
    }
    const size_t slots = random() % 5;
    size_t began = 0;
    size_t could = 0;
    const auto decisions = DecideAttempts(facts, slots, kNow);
    ASSERT_EQ(decisions.size(), facts.size());
    for (size_t i = 0; i < facts.size(); ++i) {
      const bool may = facts[i].phase == AttemptPhase::kNew && !facts[i].another_runs &&
                       facts[i].start_by >= kNow && facts[i].stop == 0;
      could += may;
      if (decisions[i].action != AttemptAction::kBegin) continue;
      ++began;
      ASSERT_TRUE(may) << "seed " << seed << " round " << round;
    }
    ASSERT_EQ(began, std::min(slots, could)) << "seed " << seed << " round " << round;
  }
}

TEST(Demand, RisesFromNothingToAskingToKilling) {
  const absl::Duration since = absl::Seconds(100);
  EXPECT_EQ(DemandOn(std::nullopt, since), Demand::kNone);
  EndWanted wanted{v1::RUN_OUTCOME_CANCELLED, "by alice", since};
  EXPECT_EQ(DemandOn(wanted, since), Demand::kEnd);
  EXPECT_EQ(DemandOn(wanted, since + absl::Seconds(29)), Demand::kEnd);
  EXPECT_EQ(DemandOn(wanted, since + kEndGrace), Demand::kKill);
  wanted.at_once = true;
  EXPECT_EQ(DemandOn(wanted, since), Demand::kKill);
}

}  // namespace
}  // namespace muster::agent
