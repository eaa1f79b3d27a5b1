#include "tests/bench/fleet/schedule.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

namespace muster::bench {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::shared_ptr<const SharedPlan> Plan(PlanBook& book, uint32_t checks,
                                       const std::string& hash = "plan") {
  v1::Plan plan;
  plan.set_hash(hash);
  for (uint32_t id = 1; id <= checks; ++id) {
    v1::PlannedCheck& check = *plan.add_checks();
    check.set_id(id);
    check.set_name(fmt::format("check-{}", id));
    check.mutable_spec()->mutable_every()->set_seconds(10);
    check.mutable_spec()->mutable_confirm()->set_failures(1);
  }
  return book.Take(plan);
}

std::vector<Found> RunFor(Schedule& schedule, absl::Duration how_long) {
  std::vector<Found> all;
  for (absl::Duration now; now < how_long; now += absl::Milliseconds(100)) {
    for (const Found& found : schedule.Run(now, kNow + now)) all.push_back(found);
  }
  return all;
}

TEST(Schedule, ChecksAreLookedAtAtTheirCadence) {
  PlanBook book;
  Schedule schedule("agent", {.share = 0});
  schedule.Take(Plan(book, 50), absl::ZeroDuration());
  const auto found = RunFor(schedule, absl::Minutes(10));
  // Sixty times each, and once soon after the plan came.
  EXPECT_NEAR(static_cast<double>(found.size()), 50 * 60.5, 50);
  int64_t last = 0;
  for (const Found& one : found) {
    EXPECT_EQ(one.result.status, v1::CHECK_STATUS_OK);
    EXPECT_GE(one.result.observed_at_us, last);
    last = one.result.observed_at_us;
  }
}

TEST(Schedule, OnlyTheFirstResultOfASteadyCheckIsNews) {
  PlanBook book;
  Schedule schedule("agent", {.share = 0});
  schedule.Take(Plan(book, 3), absl::ZeroDuration());
  size_t news = 0;
  size_t told = 0;
  for (const Found& one : RunFor(schedule, absl::Minutes(4))) {
    news += one.news ? 1 : 0;
    told += one.result.told ? 1 : 0;
  }
  EXPECT_EQ(news, 3u);
  EXPECT_EQ(told, 3u);
}

TEST(Schedule, AShareOfAllChecksFailsHalfOfTheTime) {
  PlanBook book;
  const auto plan = Plan(book, 50);
  size_t failed = 0;
  size_t all = 0;
  for (int agent = 0; agent < 200; ++agent) {
    Schedule schedule(fmt::format("agent-{}", agent), {.share = 0.1});
    schedule.Take(plan, absl::ZeroDuration());
    for (const Found& one : RunFor(schedule, absl::Minutes(1))) {
      ++all;
      failed += one.result.status == v1::CHECK_STATUS_CRITICAL ? 1 : 0;
    }
  }
  EXPECT_NEAR(static_cast<double>(failed) / static_cast<double>(all), 0.05, 0.01);
}

TEST(Schedule, AChangedPlanLeavesTheOthersUndisturbed) {
  PlanBook book;
  Schedule schedule("agent", {.share = 0});
  schedule.Take(Plan(book, 3), absl::ZeroDuration());
  RunFor(schedule, absl::Seconds(12));
  schedule.Take(Plan(book, 4, "next"), absl::Seconds(12));
  size_t news = 0;
  for (const Found& one : schedule.Run(absl::Seconds(15), kNow)) news += one.news ? 1 : 0;
  EXPECT_EQ(news, 1u);
}

TEST(PlanBook, HoldsEachPlanOnce) {
  PlanBook book;
  EXPECT_EQ(Plan(book, 3), Plan(book, 3));
  EXPECT_NE(Plan(book, 3), Plan(book, 4, "other"));
}

}  // namespace
}  // namespace muster::bench
