#include "control-plane/decide/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "lib/base/status.h"

namespace muster::control {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

RetryFacts Facts(AttemptEnd end, uint32_t attempts = 1) {
  return {.run = "r",
          .policy = {.attempts = 5, .repeatable = true},
          .attempts = attempts,
          .end = end,
          .ended_at = kNow};
}

TEST(Retry, ComesAfterWhatMayBeRepeatedAlone) {
  for (const AttemptEnd end :
       {AttemptEnd::kFailed, AttemptEnd::kTimedOut, AttemptEnd::kNeverBegan}) {
    EXPECT_TRUE(DecideRetry(Facts(end)).at.has_value());
  }
  for (const AttemptEnd end :
       {AttemptEnd::kSucceeded, AttemptEnd::kCancelled, AttemptEnd::kUnknown}) {
    EXPECT_FALSE(DecideRetry(Facts(end)).at.has_value());
  }
  EXPECT_THAT(DecideRetry(Facts(AttemptEnd::kUnknown)).reason, HasSubstr("run it again by hand"));
}

TEST(Retry, OfAnEffectThatMustNotComeTwiceNeedsThatItNeverBegan) {
  for (const AttemptEnd end : {AttemptEnd::kFailed, AttemptEnd::kTimedOut}) {
    RetryFacts facts = Facts(end);
    facts.policy.repeatable = false;
    EXPECT_FALSE(DecideRetry(facts).at.has_value());
  }
  RetryFacts never = Facts(AttemptEnd::kNeverBegan);
  never.policy.repeatable = false;
  EXPECT_TRUE(DecideRetry(never).at.has_value());
}

TEST(Retry, EndsWithTheLastAttemptAndTheDeadline) {
  EXPECT_THAT(DecideRetry(Facts(AttemptEnd::kFailed, 5)).reason,
              HasSubstr("attempt 5 of 5 was the last"));
  RetryFacts facts = Facts(AttemptEnd::kFailed);
  facts.deadline = *DecideRetry(facts).at;
  EXPECT_FALSE(DecideRetry(facts).at.has_value());
  facts.deadline += absl::Nanoseconds(1);
  EXPECT_TRUE(DecideRetry(facts).at.has_value());
}

TEST(Retry, BacksOffWithinItsBoundsAndIsTheSameAgain) {
  std::set<absl::Time> times;
  for (int run = 0; run < 200; ++run) {
    absl::Duration bound = absl::Seconds(30);
    for (uint32_t attempts = 1; attempts < 40; ++attempts) {
      RetryFacts facts = Facts(AttemptEnd::kFailed, attempts);
      facts.policy.attempts = 100;
      facts.run = fmt::format("run-{}", run);
      const absl::Duration wait = *DecideRetry(facts).at - kNow;
      ASSERT_EQ(DecideRetry(facts).at, kNow + wait);
      ASSERT_GE(wait, bound / 2);
      ASSERT_LE(wait, bound);
      if (attempts == 1) times.insert(kNow + wait);
      bound = std::min(bound * 2, absl::Minutes(10));
    }
  }
  EXPECT_GT(times.size(), 190U);
}

TEST(Retry, ComesNotBeforeWhatTheAttemptAskedFor) {
  RetryFacts facts = Facts(AttemptEnd::kFailed);
  facts.not_before = kNow + absl::Hours(1);
  EXPECT_EQ(DecideRetry(facts).at, facts.not_before);
}

}  // namespace
}  // namespace muster::control
