#include "control-plane/decide/job_plan.h"

#include <gtest/gtest.h>

#include "control-plane/decide/schedule.h"

namespace muster::control {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);  // 08:00:00

v1::JobSpec Every(absl::Duration period, v1::OverlapPolicy overlap = v1::OVERLAP_POLICY_SKIP) {
  v1::JobSpec spec;
  spec.mutable_schedule()->mutable_every()->set_seconds(absl::ToInt64Seconds(period));
  spec.mutable_schedule()->set_overlap(overlap);
  spec.mutable_schedule()->mutable_catch_up()->set_seconds(3600);
  spec.mutable_command()->add_argv("/bin/true");
  return spec;
}

JobFacts Facts(v1::JobSpec spec) {
  return {.name = "tidy", .spec = std::move(spec), .generation = 1, .changed_at = kNow};
}

JobFacts Decided(v1::JobSpec spec, absl::Time until) {
  JobFacts facts = Facts(spec);
  facts.row = JobRow{.name = "tidy", .spec = spec, .generation = 1, .decided_until = until};
  return facts;
}

JobDecision Decision(const JobFacts& facts, absl::Time now) {
  const StatusOr<JobPlan> plan = PlanJob(facts, now);
  EXPECT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(plan->decision.has_value());
  return plan->decision.value_or(JobDecision{});
}

TEST(JobPlan, ANewJobHasNoSlotsBeforeItWasApplied) {
  const StatusOr<JobPlan> plan = PlanJob(Facts(Every(absl::Minutes(10))), kNow + absl::Seconds(5));
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(plan->decision.has_value());
  EXPECT_FALSE(plan->decision->expected_until.has_value());
  EXPECT_TRUE(plan->decision->runs.empty());
  EXPECT_EQ(plan->next_look, kNow + absl::Minutes(10));
}

TEST(JobPlan, ASlotThatIsDueIsARunOfItsOwnId) {
  const absl::Time slot = kNow + absl::Minutes(10);
  const JobDecision decision = Decision(Decided(Every(absl::Minutes(10)), kNow), slot);
  ASSERT_EQ(decision.runs.size(), 1U);
  EXPECT_EQ(decision.runs[0].id, RunId("tidy", slot));
  EXPECT_EQ(decision.runs[0].phase, RunPhase::kWaiting);
  EXPECT_EQ(decision.runs[0].slot, slot);
  EXPECT_EQ(decision.row.decided_until, slot);
  EXPECT_EQ(*decision.expected_until, kNow);
}

TEST(JobPlan, NothingIsStoredWhileNothingIsDue) {
  const StatusOr<JobPlan> plan =
      PlanJob(Decided(Every(absl::Minutes(10)), kNow), kNow + absl::Minutes(9));
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->decision.has_value());
}

TEST(JobPlan, AnOutageIsOneRecordAndIsTold) {
  const JobDecision decision =
      Decision(Decided(Every(absl::Minutes(1)), kNow), kNow + absl::Hours(24 * 30));
  ASSERT_EQ(decision.missed.size(), 2U);  // out of catch-up's reach; superseded by the newest
  EXPECT_EQ(decision.missed[0].slots, 30U * 24 * 60 - 60 - 1);
  ASSERT_EQ(decision.health.size(), 1U);
  EXPECT_EQ(decision.health[0].state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(decision.runs.size(), 1U);
}

TEST(JobPlan, ARecordGoesOnWhereTheLastOneEnded) {
  JobFacts facts = Decided(Every(absl::Minutes(1)), kNow);
  facts.row->pauses = {{.job = "tidy", .since = kNow, .until = kNow + absl::Minutes(5)}};
  const JobDecision first = Decision(facts, kNow + absl::Minutes(5));
  ASSERT_EQ(first.missed.size(), 1U);
  EXPECT_EQ(first.missed[0].slots, 4U);
  EXPECT_TRUE(first.health.empty());  // wanted
}

TEST(JobPlan, SkipsASlotWhileARunIsNotOver) {
  JobFacts facts = Decided(Every(absl::Minutes(1)), kNow);
  RunRow running{.id = "old", .job = "tidy", .phase = RunPhase::kBegan, .fence = 1};
  facts.open = {&running};
  const JobDecision decision = Decision(facts, kNow + absl::Minutes(1));
  ASSERT_EQ(decision.runs.size(), 1U);
  EXPECT_EQ(decision.runs[0].state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(decision.runs[0].reason, "overlap skip: run old is not over");
}

TEST(JobPlan, EndsTheOtherWhereTheSpecSaysSo) {
  JobFacts facts = Decided(Every(absl::Minutes(1), v1::OVERLAP_POLICY_TERMINATE_OTHER), kNow);
  RunRow running{.id = "old", .job = "tidy", .phase = RunPhase::kBegan, .fence = 1};
  RunRow waiting{.id = "next", .job = "tidy"};
  facts.open = {&running, &waiting};
  const JobDecision decision = Decision(facts, kNow + absl::Minutes(1));
  ASSERT_EQ(decision.stops.size(), 1U);
  EXPECT_EQ(decision.stops[0].id, "old");
  EXPECT_EQ(decision.stops[0].stop, RunStop::kTerminate);
  ASSERT_EQ(decision.changes.size(), 1U);
  EXPECT_EQ(decision.changes[0].row.id, "next");
  EXPECT_EQ(decision.changes[0].row.state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(decision.runs[0].phase, RunPhase::kWaiting);
}

TEST(JobPlan, AnEditCountsFromWhenItWasApplied) {
  JobFacts facts = Decided(Every(absl::Minutes(10), v1::OVERLAP_POLICY_ALLOW), kNow);
  facts.spec = Every(absl::Minutes(1), v1::OVERLAP_POLICY_ALLOW);
  facts.generation = 2;
  facts.changed_at = kNow + absl::Minutes(15);
  const absl::Time now = kNow + absl::Minutes(17);
  const JobDecision before = Decision(facts, now);
  ASSERT_EQ(before.runs.size(), 1U);  // of the old schedule
  EXPECT_EQ(before.runs[0].slot, kNow + absl::Minutes(10));
  EXPECT_EQ(before.row.generation, 2U);
  EXPECT_EQ(before.row.decided_until, facts.changed_at);
  facts.row = before.row;
  const JobDecision after = Decision(facts, now);
  ASSERT_EQ(after.runs.size(), 2U);
  EXPECT_EQ(after.runs[0].slot, kNow + absl::Minutes(16));
}

TEST(JobPlan, AJobWithoutAScheduleIsKnownAndHasNoSlots) {
  v1::JobSpec spec;
  spec.mutable_command()->add_argv("/bin/true");
  const StatusOr<JobPlan> plan = PlanJob(Facts(spec), kNow);
  ASSERT_TRUE(plan.ok());
  ASSERT_TRUE(plan->decision.has_value());
  EXPECT_TRUE(plan->decision->runs.empty());
  EXPECT_EQ(plan->next_look, absl::InfiniteFuture());
}

v1::JobSpec Reported(absl::Duration period) {
  v1::JobSpec spec = Every(period);
  spec.mutable_schedule()->mutable_catch_up()->set_seconds(900);
  spec.mutable_reported();
  return spec;
}

TEST(JobPlan, ASlotOfAReportedJobWaitsAsLongAsItMayBeLate) {
  const absl::Time slot = kNow + absl::Minutes(10);
  const JobDecision decision =
      Decision(Decided(Reported(absl::Minutes(10)), kNow), slot + absl::Milliseconds(400));
  ASSERT_EQ(decision.runs.size(), 1U);
  EXPECT_EQ(decision.runs[0].phase, RunPhase::kWaiting);
  EXPECT_EQ(decision.runs[0].start_by, slot + absl::Minutes(15));
}

TEST(JobPlan, ASlotOfAReportedJobIsExpectedWhateverElseRuns) {
  JobFacts facts = Decided(Reported(absl::Minutes(1)), kNow);
  RunRow running{.id = "old", .job = "tidy", .phase = RunPhase::kBegan, .fence = 1};
  RunRow waiting{.id = "next", .job = "tidy"};
  facts.open = {&running, &waiting};
  const JobDecision decision = Decision(facts, kNow + absl::Minutes(2));
  ASSERT_EQ(decision.runs.size(), 2U);
  EXPECT_EQ(decision.runs[0].phase, RunPhase::kWaiting);
  EXPECT_EQ(decision.runs[1].phase, RunPhase::kWaiting);
  EXPECT_TRUE(decision.changes.empty());
}

TEST(JobPlan, AfterAnOutageOfOursHostsGetTimeToTell) {
  const absl::Time now = kNow + absl::Hours(7);
  const JobDecision decision = Decision(Decided(Reported(absl::Hours(1)), kNow), now);
  ASSERT_EQ(decision.runs.size(), 7U);
  EXPECT_TRUE(decision.missed.empty());
  EXPECT_TRUE(decision.health.empty());
  EXPECT_EQ(decision.runs[0].start_by, now + absl::Minutes(2));
  EXPECT_EQ(decision.runs[6].start_by, now + absl::Minutes(15));
}

TEST(JobPlan, WhatLiesMoreThanADayBackIsMissedAllTheSame) {
  const JobDecision decision =
      Decision(Decided(Reported(absl::Hours(12)), kNow), kNow + absl::Hours(24 * 10));
  ASSERT_EQ(decision.missed.size(), 1U);
  EXPECT_EQ(decision.health.at(0).state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(decision.missed[0].slots + decision.runs.size(), 20U);
}

}  // namespace
}  // namespace muster::control
