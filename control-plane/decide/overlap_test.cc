#include "control-plane/decide/overlap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Runs = std::vector<std::string>;

TEST(Overlap, OfNothingIsAStartUnderEveryPolicy) {
  for (int policy = 0; policy < 6; ++policy) {
    const auto decision = DecideOverlap({static_cast<Overlap>(policy), {}, {}});
    EXPECT_EQ(decision.arrival, Arrival::kStart);
    EXPECT_FALSE(decision.reason.empty());
  }
}

TEST(Overlap, DoesWhatItsTableSays) {
  struct Case {
    Overlap policy;
    Runs running, waiting;
    Arrival arrival;
    Runs cancel, terminate, drop;
    const char* reason;
  };
  const Case cases[] = {
      {Overlap::kSkip, {"r1"}, {}, Arrival::kSkip, {}, {}, {}, "overlap skip: run r1 is not over"},
      {Overlap::kSkip, {}, {"w1"}, Arrival::kSkip, {}, {}, {}, "overlap skip: run w1 waits"},
      {Overlap::kBufferOne, {"r1"}, {}, Arrival::kWait, {}, {}, {}, "run r1 is not over"},
      {Overlap::kBufferOne, {"r1"}, {"w1"}, Arrival::kSkip, {}, {}, {}, "run w1 waits already"},
      {Overlap::kBufferAll, {"r1"}, {"w1", "w2"}, Arrival::kWait, {}, {}, {}, "run r1 is not over"},
      {Overlap::kCancelOther, {"r1"}, {}, Arrival::kWait, {"r1"}, {}, {}, "in place of"},
      {Overlap::kCancelOther, {"r1"}, {"w1"}, Arrival::kWait, {"r1"}, {}, {"w1"}, "in place of"},
      {Overlap::kCancelOther, {}, {"w1"}, Arrival::kStart, {}, {}, {"w1"}, "run w1 waits"},
      {Overlap::kTerminateOther, {"r1"}, {"w1"}, Arrival::kWait, {}, {"r1"}, {"w1"}, "in place of"},
      {Overlap::kAllow, {"r1"}, {"w1"}, Arrival::kStart, {}, {}, {}, "overlap allow"},
  };
  for (const Case& c : cases) {
    const auto decision = DecideOverlap({c.policy, c.running, c.waiting});
    const std::string what = std::string(OverlapText(c.policy)) + ": " + decision.reason;
    EXPECT_EQ(decision.arrival, c.arrival) << what;
    EXPECT_EQ(decision.cancel, c.cancel) << what;
    EXPECT_EQ(decision.terminate, c.terminate) << what;
    EXPECT_EQ(decision.drop, c.drop) << what;
    EXPECT_THAT(decision.reason, HasSubstr(c.reason)) << what;
  }
}

TEST(Overlap, BuffersNoMoreThanItMay) {
  OverlapFacts facts = {Overlap::kBufferAll, {"r"}, Runs(kMostBuffered, "w")};
  EXPECT_EQ(DecideOverlap(facts).arrival, Arrival::kSkip);
  facts.waiting.pop_back();
  EXPECT_EQ(DecideOverlap(facts).arrival, Arrival::kWait);
}

}  // namespace
}  // namespace muster::control
