#include "lib/decide/check_state.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/random.h"

namespace muster::decide {
namespace {

constexpr auto kOk = v1::CHECK_STATUS_OK;
constexpr auto kWarning = v1::CHECK_STATUS_WARNING;
constexpr auto kCritical = v1::CHECK_STATUS_CRITICAL;
constexpr auto kUnknown = v1::CHECK_STATUS_UNKNOWN;
constexpr auto kNoData = v1::CHECK_STATUS_NO_DATA;

absl::Time At(int64_t second) { return absl::FromUnixSeconds(1'800'000'000 + second); }

v1::Confirm Confirm(uint32_t failures, uint32_t successes) {
  v1::Confirm confirm;
  confirm.set_failures(failures);
  confirm.set_successes(successes);
  return confirm;
}

// Feeds letters: o w c u, one a second; writes each outcome as status and step: "C2s" is CRITICAL,
// seen 2, soft; "C!" is a hard transition; "." is no change; "~" is a false alarm.
std::string Story(const std::string& letters, const v1::Confirm& confirm) {
  CheckBelief belief;
  std::string story;
  int64_t second = 0;
  for (const char letter : letters) {
    const auto status = letter == 'o'   ? kOk
                        : letter == 'w' ? kWarning
                        : letter == 'c' ? kCritical
                                        : kUnknown;
    const BeliefChange change = Believe(belief, status, At(second++), confirm);
    belief = change.belief;
    switch (change.step) {
      case Step::kSame: story += '.'; break;
      case Step::kSoft: story += std::to_string(belief.seen); break;
      case Step::kHard: story += '!'; break;
      case Step::kFalseAlarm: story += '~'; break;
    }
  }
  return story;
}

TEST(CheckState, OneFailureIsEnoughWhenOneIsAskedFor) {
  EXPECT_EQ(Story("oocco", Confirm(1, 1)), "!.!.!");
}

TEST(CheckState, ThreeFailuresConfirm) { EXPECT_EQ(Story("occcc", Confirm(3, 1)), "!1.!."); }

TEST(CheckState, AFalseAlarmGoesBackWithoutBeingConfirmed) {
  EXPECT_EQ(Story("oocco", Confirm(3, 2)), "1!1.~");
}

TEST(CheckState, RecoveryNeedsItsOwnSuccesses) {
  EXPECT_EQ(Story("occcoco", Confirm(3, 2)), "11.!1~1");
}

TEST(CheckState, AnotherBadStatusContinuesTheSuspicion) {
  EXPECT_EQ(Story("owcc", Confirm(3, 1)), "!12!");
}

TEST(CheckState, AHardWarningThatWorsensIsConfirmedAgain) {
  EXPECT_EQ(Story("owwcc", Confirm(2, 1)), "!1!1!");
}

TEST(CheckState, AFirstFailureIsConfirmedLikeAnyOther) {
  EXPECT_EQ(Story("ccc", Confirm(3, 1)), "1.!");
}

TEST(CheckState, SinceIsWhenTheShownStatusBegan) {
  CheckBelief belief = Believe({}, kOk, At(0), Confirm(3, 1)).belief;
  belief = Believe(belief, kCritical, At(10), Confirm(3, 1)).belief;
  belief = Believe(belief, kCritical, At(11), Confirm(3, 1)).belief;
  EXPECT_EQ(belief.since, At(10));
  belief = Believe(belief, kOk, At(12), Confirm(3, 1)).belief;
  EXPECT_EQ(belief.since, At(12));
}

TEST(CheckState, SilenceIsNoDataAndEvidenceEndsIt) {
  CheckBelief belief = Believe({}, kOk, At(0), Confirm(1, 1)).belief;
  const BeliefChange silent = BelieveNoData(belief, At(5), "agent absent");
  EXPECT_EQ(silent.step, Step::kHard);
  EXPECT_EQ(silent.belief.shown, kNoData);
  EXPECT_EQ(BelieveNoData(silent.belief, At(6), "agent absent").step, Step::kSame);
  EXPECT_EQ(Believe(silent.belief, kOk, At(9), Confirm(1, 1)).step, Step::kHard);
}

TEST(CheckState, FromAnyStateEnoughGoodResultsLeadToOk) {
  const uint64_t seed = 20261123;
  const auto random = SeededRandom(seed);
  const v1::CheckStatus all[] = {kOk, kWarning, kCritical, kUnknown};
  for (int round = 0; round < 500; ++round) {
    const auto failures = static_cast<uint32_t>(1 + random->Below(uint64_t{5}));
    const auto successes = static_cast<uint32_t>(1 + random->Below(uint64_t{5}));
    CheckBelief belief;
    for (int i = 0; i < 30; ++i) {
      belief = Believe(belief, all[random->Below(uint64_t{4})], At(i), Confirm(failures, successes))
                   .belief;
      ASSERT_LT(belief.seen, std::max(failures, successes)) << "seed " << seed;
      ASSERT_EQ(belief.hard, belief.seen == 0) << "seed " << seed;
      ASSERT_TRUE(!belief.hard || belief.shown == belief.confirmed) << "seed " << seed;
    }
    for (uint32_t i = 0; i < successes; ++i) {
      belief = Believe(belief, kOk, At(100 + i), Confirm(failures, successes)).belief;
    }
    ASSERT_TRUE(belief.hard && belief.confirmed == kOk) << "seed " << seed;
  }
}

}  // namespace
}  // namespace muster::decide
