#include "tests/bench/fleet/wheel.h"

#include <gtest/gtest.h>

#include <atomic>

#include "lib/testing/servers.h"

namespace muster::bench {
namespace {

class Counting final : public Timed {
 public:
  void OnTime(absl::Duration now) override {
    last = absl::ToInt64Milliseconds(now);
    ++times;
  }
  std::atomic<int> times = 0;
  std::atomic<int64_t> last = 0;
};

TEST(Wheel, CallsEachAtItsTime) {
  ManualClock clock;
  Counting soon, later, never;
  Wheel wheel(clock);
  wheel.Set(soon, absl::Milliseconds(50));
  // More than a turn of the wheel away.
  wheel.Set(later, absl::Seconds(30));
  wheel.Set(never, absl::InfiniteDuration());
  clock.Advance(absl::Milliseconds(50));
  EXPECT_TRUE(testing::Eventually([&] { return soon.times == 1; }));
  clock.Advance(absl::Seconds(29));
  wheel.Set(soon, clock.Uptime() + absl::Milliseconds(10));
  clock.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(testing::Eventually([&] { return soon.times == 2; }));
  EXPECT_EQ(later.times, 0);
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(testing::Eventually([&] { return later.times == 1; }));
  wheel.Stop();
  EXPECT_EQ(never.times, 0);
}

TEST(Wheel, SettingATimerAgainReplacesIt) {
  ManualClock clock;
  Counting moved, other;
  Wheel wheel(clock);
  wheel.Set(moved, absl::Milliseconds(50));
  wheel.Set(moved, absl::Milliseconds(200));
  wheel.Set(other, absl::Milliseconds(100));
  clock.Advance(absl::Milliseconds(100));
  EXPECT_TRUE(testing::Eventually([&] { return other.times == 1; }));
  EXPECT_EQ(moved.times, 0);
  clock.Advance(absl::Milliseconds(100));
  EXPECT_TRUE(testing::Eventually([&] { return moved.times == 1; }));
  EXPECT_EQ(moved.last, 200);
}

TEST(Wheel, WhatIsOverdueIsCalledSoon) {
  ManualClock clock;
  clock.Advance(absl::Seconds(100));
  Counting overdue;
  Wheel wheel(clock);
  wheel.Set(overdue, absl::Seconds(3));
  clock.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(testing::Eventually([&] { return overdue.times == 1; }));
}

}  // namespace
}  // namespace muster::bench
