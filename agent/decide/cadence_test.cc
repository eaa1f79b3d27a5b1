#include "agent/decide/cadence.h"

#include <gtest/gtest.h>

#include <random>

#include <fmt/format.h>

#include "lib/decide/check_state.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kEvery = absl::Seconds(10);

Cadence Every(absl::Duration every, absl::Duration splay, absl::Duration retry = absl::Seconds(1)) {
  return {every, retry, splay};
}

TEST(Cadence, SplaysAreStableWithinTheIntervalAndDiffer) {
  EXPECT_EQ(Splay("api", "db-1", kEvery), Splay("api", "db-1", kEvery));
  EXPECT_NE(Splay("api", "db-1", kEvery), Splay("api", "db-2", kEvery));
  int early = 0;
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration splay = Splay(fmt::format("check-{}", i), "db-1", kEvery);
    ASSERT_GE(splay, absl::ZeroDuration());
    ASSERT_LT(splay, kEvery);
    if (splay < kEvery / 2) ++early;
  }
  EXPECT_NEAR(early, 500, 80);
}

TEST(Cadence, GoesFromStartToStartHoweverLateAStartWas) {
  const Cadence cadence = Every(kEvery, absl::Seconds(3));
  absl::Duration due = absl::Seconds(103);
  for (int i = 1; i < 50; ++i) {
    due = NextSlot(cadence, due, due + absl::Milliseconds(900)).due;
    ASSERT_EQ(due, absl::Seconds(103 + 10 * i));
  }
}

TEST(Cadence, SkipsAndCountsWhatPassedWhileTheHostSlept) {
  const Cadence cadence = Every(kEvery, absl::Seconds(3));
  const Slot slot = NextSlot(cadence, absl::Seconds(103), absl::Seconds(1000));
  EXPECT_EQ(slot.due, absl::Seconds(1003));
  EXPECT_EQ(slot.skipped, 89u);
}

TEST(Cadence, LooksAtANewCheckSoonAndThenFindsItsGrid) {
  const Cadence cadence = Every(absl::Hours(1), absl::Minutes(30));
  const absl::Duration first = FirstDue(cadence, absl::Seconds(100));
  EXPECT_EQ(first, absl::Seconds(101));
  EXPECT_EQ(SlotAfterFirst(cadence, first, first).due, absl::Minutes(90));
}

TEST(Cadence, NextSlotsAreAheadAndOnTheGrid) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 5000; ++i) {
    const auto every = absl::Milliseconds(100 + static_cast<int64_t>(random() % 100'000));
    const Cadence cadence = Every(every, absl::Milliseconds(static_cast<int64_t>(random() % 100)));
    const auto due = absl::Milliseconds(static_cast<int64_t>(random() % 1'000'000));
    const auto now = due + absl::Milliseconds(static_cast<int64_t>(random() % 1'000'000));
    const Slot slot = NextSlot(cadence, due, now);
    ASSERT_GT(slot.due, due);
    ASSERT_GE(slot.due, now);
    ASSERT_LE(slot.due, now + every);
    absl::Duration rest;
    absl::IDivDuration(slot.due - cadence.splay, every, &rest);
    ASSERT_EQ(rest, absl::ZeroDuration());
  }
}

TEST(Cadence, LooksAgainSoonerWhileASuspicionIsSoft) {
  const Cadence cadence = Every(kEvery, absl::ZeroDuration());
  decide::CheckBelief soft;
  soft.hard = false;
  const absl::Duration slot = absl::Seconds(110);
  EXPECT_EQ(DueAfterResult(cadence, {}, absl::Seconds(100), absl::Seconds(100), slot), slot);
  EXPECT_EQ(DueAfterResult(cadence, soft, absl::Seconds(100), absl::Seconds(100.2), slot),
            absl::Seconds(101));
  EXPECT_EQ(DueAfterResult(cadence, soft, absl::Seconds(100), absl::Seconds(103), slot),
            absl::Seconds(103));
  EXPECT_EQ(DueAfterResult(cadence, soft, absl::Seconds(109.5), absl::Seconds(109.6), slot), slot);
}

TEST(Detail, IsThereForNewsForTroubleAndEveryFiveMinutes) {
  const LastSaid ok{v1::CHECK_STATUS_OK, "fine", absl::Seconds(100)};
  EXPECT_FALSE(NeedsDetail(ok, v1::CHECK_STATUS_OK, "fine", absl::Seconds(399)));
  EXPECT_TRUE(NeedsDetail(ok, v1::CHECK_STATUS_OK, "fine", absl::Seconds(400)));
  EXPECT_TRUE(NeedsDetail(ok, v1::CHECK_STATUS_OK, "better", absl::Seconds(101)));
  const LastSaid bad{v1::CHECK_STATUS_CRITICAL, "down", absl::Seconds(100)};
  EXPECT_TRUE(NeedsDetail(bad, v1::CHECK_STATUS_CRITICAL, "down", absl::Seconds(101)));
  EXPECT_FALSE(IsNews(bad, v1::CHECK_STATUS_CRITICAL, "down"));
  EXPECT_TRUE(IsNews(LastSaid{}, v1::CHECK_STATUS_OK, ""));
}

}  // namespace
}  // namespace muster::agent
