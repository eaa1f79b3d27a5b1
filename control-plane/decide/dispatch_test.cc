#include "control-plane/decide/dispatch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::control {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

RunRow Waiting(const std::string& id, const std::string& job = "nightly") {
  RunRow run{.id = id, .job = job, .slot = kNow, .due_at = kNow, .start_by = kNow + absl::Hours(1)};
  (*run.spec.mutable_agents())["role"] = "db";
  run.spec.mutable_deadline()->set_seconds(3600);
  run.spec.mutable_command()->add_argv("/bin/true");
  return run;
}

RunRow Assigned(const std::string& id) {
  RunRow run = Waiting(id);
  run.phase = RunPhase::kAssigned;
  run.agent = "db-1";
  run.fence = 1;
  run.assigned_at = kNow;
  return run;
}

RunRow Ended(const std::string& id, v1::RunOutcome outcome) {
  RunRow run = Assigned(id);
  run.phase = RunPhase::kAttemptOver;
  run.state = v1::RUN_STATE_RUNNING;
  run.outcome = outcome;
  run.reason = "exit code 3";
  run.finished_at = kNow;
  return run;
}

DispatchFacts Facts(std::vector<RunRow> open) {
  return {.open = std::move(open),
          .agents = {{"db-1", {.labels = {{"role", "db"}}, .connected = true}},
                     {"db-2", {.labels = {{"role", "db"}}, .connected = true}},
                     {"web-1", {.labels = {{"role", "web"}}, .connected = true}}},
          .jobs = {"nightly", "other"}};
}

RunChange Only(const DispatchPlan& plan) {
  EXPECT_EQ(plan.changes.size(), 1U);
  return plan.changes.empty() ? RunChange{} : plan.changes[0];
}

TEST(Dispatch, GivesARunToTheFirstConnectedAgentThatTheJobAsksFor) {
  const RunChange change = Only(DecideDispatch(Facts({Waiting("a")}), kNow));
  EXPECT_EQ(change.row.phase, RunPhase::kAssigned);
  EXPECT_EQ(change.row.agent, "db-1");
  EXPECT_EQ(change.row.fence, 1U);
  EXPECT_EQ(change.expected_phase, RunPhase::kWaiting);
  EXPECT_EQ(change.expected_fence, 0U);
  DispatchFacts away = Facts({Waiting("a")});
  away.agents["db-1"].connected = false;
  EXPECT_EQ(Only(DecideDispatch(away, kNow)).row.agent, "db-2");
  away.agents["db-2"].revoked = true;
  const RunChange held = Only(DecideDispatch(away, kNow));
  EXPECT_EQ(held.what, "held");
  EXPECT_EQ(held.row.reason, "no agent that the job asks for is connected: db-1");
}

TEST(Dispatch, WaitsForItsMomentAndSaysWhenToLookAgain) {
  RunRow later = Waiting("a");
  later.due_at = kNow + absl::Minutes(5);
  const DispatchPlan plan = DecideDispatch(Facts({later}), kNow);
  EXPECT_TRUE(plan.changes.empty());
  EXPECT_EQ(plan.next_look, later.due_at);
}

TEST(Dispatch, RunsOfOneJobOneAfterTheOtherUnlessTheyMayOverlap) {
  const DispatchPlan plan = DecideDispatch(Facts({Assigned("a"), Waiting("b")}), kNow);
  EXPECT_EQ(Only(plan).what, "held");
  EXPECT_EQ(plan.changes[0].row.reason, "job/nightly: run a holds it");
  RunRow free = Waiting("b");
  free.spec.mutable_schedule()->set_overlap(v1::OVERLAP_POLICY_ALLOW);
  EXPECT_EQ(Only(DecideDispatch(Facts({Assigned("a"), free}), kNow)).what, "assigned");
}

TEST(Dispatch, KeepsRunsOfOneDatabaseApart) {
  RunRow backup = Waiting("a");
  RunRow migration = Waiting("b", "other");
  for (RunRow* run : {&backup, &migration}) run->spec.add_exclusive("database/orders");
  const DispatchPlan plan = DecideDispatch(Facts({backup, migration}), kNow);
  ASSERT_EQ(plan.changes.size(), 2U);
  EXPECT_EQ(plan.changes[0].what, "assigned");
  EXPECT_EQ(plan.changes[1].what, "held");
  EXPECT_EQ(plan.changes[1].row.reason, "database/orders: run a holds it");
}

TEST(Dispatch, ADrillIsAssignedWithWhatItIsToProve) {
  RunRow drill = Waiting("a", "drill");
  drill.spec.mutable_drill_backup()->set_job("nightly");
  DispatchFacts facts = Facts({drill});
  facts.jobs.insert("drill");
  v1::JobSpec& proves = facts.drills["a"];
  (*proves.mutable_agents())["agent"] = "db-2";
  proves.mutable_verify_backup()->set_staging("/var/lib/muster/staging");
  const RunChange change = Only(DecideDispatch(facts, kNow));
  EXPECT_EQ(change.what, "assigned");
  EXPECT_EQ(change.row.agent, "db-2");
  EXPECT_TRUE(change.row.spec.has_verify_backup());
  EXPECT_TRUE(change.new_spec);
}

TEST(Dispatch, ADrillWithoutABackupWaitsAndIsMissedWithThatReason) {
  RunRow drill = Waiting("a", "drill");
  drill.spec.mutable_drill_backup()->set_job("nightly");
  DispatchFacts facts = Facts({drill});
  facts.jobs.insert("drill");
  const RunChange held = Only(DecideDispatch(facts, kNow));
  EXPECT_EQ(held.what, "held");
  EXPECT_THAT(held.row.reason, HasSubstr("no whole backup of nightly"));
  EXPECT_TRUE(held.row.spec.has_drill_backup());
  const RunChange missed = Only(DecideDispatch(facts, kNow + absl::Hours(2)));
  EXPECT_EQ(missed.row.state, v1::RUN_STATE_MISSED);
  EXPECT_THAT(missed.row.reason, HasSubstr("no whole backup of nightly"));
  EXPECT_TRUE(missed.concludes);
}

TEST(Dispatch, ADrillIsKeptApartFromTheJobWhoseBackupItProves) {
  RunRow drill = Waiting("b", "drill");
  drill.spec.mutable_drill_backup()->set_job("nightly");
  DispatchFacts facts = Facts({Assigned("a"), drill});
  facts.jobs.insert("drill");
  facts.drills["b"] = drill.spec;
  facts.drills["b"].add_exclusive("job/nightly");
  const RunChange held = Only(DecideDispatch(facts, kNow));
  EXPECT_EQ(held.what, "held");
  EXPECT_EQ(held.row.reason, "job/nightly: run a holds it");
}

TEST(Dispatch, AReasonIsStoredOnce) {
  DispatchFacts facts = Facts({Waiting("a")});
  facts.agents.clear();
  RunRow held = Only(DecideDispatch(facts, kNow)).row;
  facts.open = {held};
  EXPECT_TRUE(DecideDispatch(facts, kNow).changes.empty());
}

TEST(Dispatch, WhatCouldNotBeginInTimeIsMissedWithItsReason) {
  DispatchFacts facts = Facts({Waiting("a")});
  facts.agents.clear();
  const RunChange change = Only(DecideDispatch(facts, kNow + absl::Hours(2)));
  EXPECT_EQ(change.row.state, v1::RUN_STATE_MISSED);
  EXPECT_TRUE(change.concludes);
  EXPECT_EQ(change.row.reason,
            "had not begun by 2027-01-15T09:00:00Z: no agent carries the labels that the job asks "
            "for");
}

TEST(Dispatch, AStoppedRunThatWaitsIsCancelledAndRaisesNothing) {
  RunRow run = Waiting("a");
  run.stop = RunStop::kCancel;
  run.stop_reason = "cancelled by admin/ada";
  const RunChange change = Only(DecideDispatch(Facts({run}), kNow));
  EXPECT_EQ(change.row.state, v1::RUN_STATE_CANCELLED);
  EXPECT_EQ(change.row.reason, "cancelled by admin/ada");
  EXPECT_FALSE(change.concludes);
}

TEST(Dispatch, ADeletedJobsRunsDoNotBegin) {
  DispatchFacts facts = Facts({Waiting("a"), Assigned("b")});
  facts.jobs.clear();
  const RunChange change = Only(DecideDispatch(facts, kNow));
  EXPECT_EQ(change.row.id, "a");
  EXPECT_EQ(change.row.state, v1::RUN_STATE_MISSED);
}

TEST(Dispatch, AnAttemptThatEndedIsOverAsItEnded) {
  const std::pair<v1::RunOutcome, v1::RunState> pairs[] = {
      {v1::RUN_OUTCOME_SUCCEEDED, v1::RUN_STATE_SUCCEEDED},
      {v1::RUN_OUTCOME_FAILED, v1::RUN_STATE_FAILED},
      {v1::RUN_OUTCOME_TIMED_OUT, v1::RUN_STATE_TIMED_OUT},
      {v1::RUN_OUTCOME_CANCELLED, v1::RUN_STATE_CANCELLED},
      {v1::RUN_OUTCOME_NEVER_BEGAN, v1::RUN_STATE_FAILED},
      {v1::RUN_OUTCOME_UNKNOWN, v1::RUN_STATE_UNKNOWN}};
  for (const auto& [outcome, state] : pairs) {
    const RunChange change = Only(DecideDispatch(Facts({Ended("a", outcome)}), kNow));
    EXPECT_EQ(change.row.state, state);
    EXPECT_EQ(change.row.phase, RunPhase::kOver);
    EXPECT_EQ(change.concludes, outcome != v1::RUN_OUTCOME_CANCELLED);
  }
}

TEST(Dispatch, AFailureIsTriedAgainOnlyIfTheTaskMayBeRepeated) {
  RunRow run = Ended("a", v1::RUN_OUTCOME_FAILED);
  run.spec.mutable_retry()->set_attempts(3);
  EXPECT_EQ(Only(DecideDispatch(Facts({run}), kNow)).row.phase, RunPhase::kOver);
  run.spec.mutable_command()->set_repeatable(true);
  const RunChange again = Only(DecideDispatch(Facts({run}), kNow));
  EXPECT_EQ(again.row.phase, RunPhase::kWaiting);
  EXPECT_EQ(again.row.state, v1::RUN_STATE_QUEUED);
  EXPECT_GT(again.row.due_at, kNow);
  run.fence = 3;
  const RunChange last = Only(DecideDispatch(Facts({run}), kNow));
  EXPECT_EQ(last.row.state, v1::RUN_STATE_FAILED);
  EXPECT_EQ(last.row.reason, "attempt 3 of 3: exit code 3");
}

TEST(Dispatch, ABackupThatFailedMayBeTriedAgain) {
  RunRow run = Ended("a", v1::RUN_OUTCOME_FAILED);
  run.spec.mutable_retry()->set_attempts(2);
  run.spec.mutable_backup();
  EXPECT_EQ(Only(DecideDispatch(Facts({run}), kNow)).row.phase, RunPhase::kWaiting);
}

TEST(Dispatch, ARunWhoseNextAttemptCannotBeginIsAsItsLastOneEnded) {
  RunRow run = Ended("a", v1::RUN_OUTCOME_TIMED_OUT);
  run.spec.mutable_retry()->set_attempts(2);
  run.spec.mutable_command()->set_repeatable(true);
  DispatchFacts facts = Facts({Only(DecideDispatch(Facts({run}), kNow)).row});
  DispatchFacts deleted = facts;
  deleted.jobs.clear();
  EXPECT_EQ(Only(DecideDispatch(deleted, kNow)).row.state, v1::RUN_STATE_TIMED_OUT);
  facts.agents.clear();
  const RunChange late = Only(DecideDispatch(facts, kNow + absl::Hours(3)));
  EXPECT_EQ(late.row.state, v1::RUN_STATE_TIMED_OUT);
  EXPECT_TRUE(late.concludes);
  EXPECT_TRUE(late.row.reason.starts_with("attempt 1 did not succeed, and no further one began"));
}

TEST(Dispatch, AFurtherAttemptKnowsNothingOfTheLastOnesEnd) {
  RunRow run = Ended("a", v1::RUN_OUTCOME_FAILED);
  run.exit_code = 3;
  run.phase = RunPhase::kWaiting;
  const RunChange again = Only(DecideDispatch(Facts({run}), kNow));
  EXPECT_EQ(again.row.fence, 2U);
  EXPECT_EQ(again.row.outcome, v1::RUN_OUTCOME_UNSPECIFIED);
  EXPECT_EQ(again.row.exit_code, -1);
}

TEST(Dispatch, AnUnknownOutcomeIsNeverTriedAgain) {
  RunRow run = Ended("a", v1::RUN_OUTCOME_UNKNOWN);
  run.spec.mutable_retry()->set_attempts(3);
  run.spec.mutable_command()->set_repeatable(true);
  EXPECT_EQ(Only(DecideDispatch(Facts({run}), kNow)).row.state, v1::RUN_STATE_UNKNOWN);
}

TEST(Dispatch, ARunWhoseAgentTellsNothingIsGivenUpAsUnknown) {
  DispatchFacts facts = Facts({Assigned("a")});
  facts.agents["db-1"].connected = false;
  EXPECT_TRUE(DecideDispatch(facts, kNow + absl::Hours(2)).changes.empty());
  const absl::Time late = kNow + absl::Hours(2) + kGiveUpAfter;
  const RunChange change = Only(DecideDispatch(facts, late));
  EXPECT_EQ(change.row.state, v1::RUN_STATE_UNKNOWN);
  EXPECT_TRUE(change.concludes);
  facts.agents["db-1"].revoked = true;
  EXPECT_EQ(Only(DecideDispatch(facts, kNow)).row.reason,
            "agent db-1 was revoked while it had the run");
}

TEST(Dispatch, AHostTakesSoManyRunsAtOnce) {
  std::vector<RunRow> open;
  for (int i = 0; i < 6; ++i) {
    open.push_back(Waiting(fmt::format("r{}", i), "other"));
    open.back().spec.mutable_schedule()->set_overlap(v1::OVERLAP_POLICY_ALLOW);
  }
  const DispatchPlan plan = DecideDispatch(Facts(open), kNow);
  const auto assigned = std::count_if(plan.changes.begin(), plan.changes.end(),
                                      [](const RunChange& c) { return c.what == "assigned"; });
  EXPECT_EQ(assigned, 4);
}

RunRow Expected(const std::string& id) {
  RunRow run = Waiting(id);
  run.spec.mutable_reported();
  return run;
}

RunRow Reported(const std::string& id) {
  RunRow run = Assigned(id);
  run.spec.mutable_reported();
  run.phase = RunPhase::kBegan;
  run.state = v1::RUN_STATE_RUNNING;
  run.started_at = kNow;
  run.reported_id = "of the agent";
  return run;
}

TEST(Dispatch, ARunThatItsHostBeginsIsGivenToNobody) {
  const DispatchPlan plan = DecideDispatch(Facts({Expected("a")}), kNow);
  EXPECT_TRUE(plan.changes.empty());
  EXPECT_EQ(plan.next_look, kNow + absl::Hours(1) + absl::Nanoseconds(1));
}

TEST(Dispatch, ARunThatNobodyTellsOfIsMissed) {
  DispatchFacts facts = Facts({Expected("a")});
  const absl::Time later = kNow + absl::Hours(1) + absl::Seconds(1);
  RunChange change = Only(DecideDispatch(facts, later));
  EXPECT_EQ(change.row.state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(change.row.reason, "nobody has told of it by 2027-01-15T09:00:00Z");
  EXPECT_TRUE(change.concludes);
  facts.agents["db-1"].connected = facts.agents["db-2"].connected = false;
  change = Only(DecideDispatch(facts, later));
  EXPECT_EQ(change.row.reason,
            "nobody has told of it by 2027-01-15T09:00:00Z: no agent that the job asks for is "
            "connected: db-1, db-2");
}

TEST(Dispatch, ARunOfAHostHoldsNothingThatOthersWaitFor) {
  DispatchFacts facts = Facts({Reported("a"), Waiting("b")});
  facts.per_host = 1;
  EXPECT_EQ(Only(DecideDispatch(facts, kNow)).what, "assigned");
}

TEST(Dispatch, ARunOfAHostThatGoesOnTooLongIsUnknownUntilItIsToldOf) {
  const DispatchFacts facts = Facts({Reported("a")});
  EXPECT_TRUE(DecideDispatch(facts, kNow + absl::Hours(1)).changes.empty());
  const RunChange change = Only(DecideDispatch(facts, kNow + absl::Hours(1) + kGiveUpAfter));
  EXPECT_EQ(change.row.state, v1::RUN_STATE_UNKNOWN);
  EXPECT_TRUE(change.concludes);
}

TEST(Dispatch, AFailureOfAHostIsNotTriedAgain) {
  RunRow failed = Ended("a", v1::RUN_OUTCOME_FAILED);
  failed.spec.mutable_reported();
  const RunChange change = Only(DecideDispatch(Facts({failed}), kNow));
  EXPECT_EQ(change.row.phase, RunPhase::kOver);
  EXPECT_EQ(change.row.state, v1::RUN_STATE_FAILED);
  EXPECT_TRUE(change.concludes);
}

}  // namespace
}  // namespace muster::control
