#include "control-plane/store/run_store.h"

#include "control-plane/store/run_events.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

class RunStoreTest : public StoreTest {
 protected:
  RunRow RunOf(const std::string& id, absl::Time slot) const {
    RunRow run{.id = id,
               .job = "tidy",
               .slot = slot,
               .reason = "due",
               .due_at = slot,
               .start_by = slot + absl::Hours(1)};
    run.spec.mutable_command()->add_argv("/bin/true");
    return run;
  }

  JobDecision Decision(std::vector<RunRow> runs, std::optional<absl::Time> expected) const {
    JobDecision decision;
    decision.row.name = "tidy";
    decision.row.generation = 1;
    decision.row.decided_until = now_;
    decision.expected_until = expected;
    decision.runs = std::move(runs);
    return decision;
  }

  RunRow Found(const std::string& id) {
    const auto run = store_->runs().Find(id);
    EXPECT_TRUE(run.ok() && run->has_value()) << id;
    return run.ok() && run->has_value() ? **run : RunRow{};
  }

  // Decided, and given to db-1.
  RunRow OnHands(const std::string& id) {
    EXPECT_OK(store_->runs().Decide(epoch_, {Decision({RunOf(id, now_)}, std::nullopt)}, now_));
    RunRow row = Found(id);
    row.phase = RunPhase::kAssigned;
    row.agent = "db-1";
    row.fence = 1;
    row.assigned_at = now_;
    Change(row, RunPhase::kWaiting, 0);
    return Found(id);
  }

  uint64_t Change(const RunRow& row, RunPhase phase, uint64_t fence, bool concludes = false) {
    const auto made = store_->runs().Change(epoch_,
                                            {{.row = row,
                                              .expected_phase = phase,
                                              .expected_fence = fence,
                                              .what = "test",
                                              .concludes = concludes}},
                                            now_);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->made : 0;
  }

  v1::RunEvent Event(const std::string& id, uint64_t fence) const {
    v1::RunEvent event;
    event.set_run_id(id);
    event.set_fence(fence);
    *event.mutable_at() = wire::ToProto(now_ + absl::Seconds(5));
    return event;
  }

  v1::RunEvent Started(const std::string& id, uint64_t fence = 1) const {
    v1::RunEvent event = Event(id, fence);
    event.mutable_started()->set_what("/bin/true");
    return event;
  }

  v1::RunEvent Ended(const std::string& id, v1::RunOutcome outcome, uint64_t fence = 1) const {
    v1::RunEvent event = Event(id, fence);
    event.mutable_ended()->set_outcome(outcome);
    event.mutable_ended()->set_reason("exit code 0");
    event.mutable_ended()->set_dropped_lines(7);
    return event;
  }

  // In a batch of the agent's log.
  Status Tell(std::vector<v1::RunEvent> events, const std::string& agent = "db-1") {
    if (!sessions_.contains(agent)) {
      Enrol(agent);
      sessions_[agent] = {OpenSession(agent).epoch, 1};
    }
    auto& [session, first] = sessions_[agent];
    BatchCommit batch = Batch(agent, session, first);
    first += 5;
    batch.run_events = std::move(events);
    const auto outcomes = store_->history().Commit({batch}, now_);
    MUSTER_RETURN_IF_ERROR(outcomes.status());
    return (*outcomes)[0];
  }

  std::map<std::string, std::pair<uint64_t, uint64_t>> sessions_;
};

TEST_P(RunStoreTest, WhatIsDecidedTwiceIsStoredOnce) {
  const RunRow run = RunOf("run-1", now_);
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({run}, std::nullopt)}, now_));
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({run}, now_)}, now_));
  RunRow other = run;
  other.id = "run-2";  // another id for the same slot
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({other}, now_)}, now_));
  const auto open = store_->runs().Open();
  ASSERT_OK(open);
  ASSERT_EQ(open->size(), 1U);
  EXPECT_EQ((*open)[0].id, "run-1");
  EXPECT_EQ((*open)[0].spec.command().argv(0), "/bin/true");
  EXPECT_EQ((*open)[0].started_at, absl::InfinitePast());
  EXPECT_EQ((*open)[0].finished_at, absl::InfiniteFuture());
}

TEST_P(RunStoreTest, SlotsThatSomebodyElseDecidedAreNotDecidedAgain) {
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({}, std::nullopt)}, now_));
  const Status stale =
      store_->runs()
          .Decide(epoch_, {Decision({RunOf("run-1", now_)}, now_ - absl::Seconds(1))}, now_)
          .status();
  EXPECT_EQ(CodeOf(stale), absl::StatusCode::kAborted);
  EXPECT_TRUE(store_->runs().Open()->empty());
}

TEST_P(RunStoreTest, AnOldLeaderWritesNothing) {
  const LeaderEpoch old{epoch_.value + 1};
  EXPECT_TRUE(IsFenced(
      store_->runs().Decide(old, {Decision({RunOf("run-1", now_)}, std::nullopt)}, now_).status()));
  OnHands("run-2");
  RunRow row = Found("run-2");
  row.phase = RunPhase::kOver;
  EXPECT_TRUE(IsFenced(
      store_->runs()
          .Change(old, {{.row = row, .expected_phase = RunPhase::kAssigned, .expected_fence = 1}},
                  now_)
          .status()));
  EXPECT_EQ(Found("run-2").phase, RunPhase::kAssigned);
}

TEST_P(RunStoreTest, AChangeIsMadeOnlyFromWhatWasSeen) {
  RunRow row = OnHands("run-1");
  row.fence = 2;
  EXPECT_EQ(Change(row, RunPhase::kWaiting, 0), 0U);
  EXPECT_EQ(Found("run-1").fence, 1U);
  EXPECT_EQ(Change(row, RunPhase::kAssigned, 1), 1U);
  EXPECT_EQ(Found("run-1").fence, 2U);
}

TEST_P(RunStoreTest, AnAgentsEventsMoveItsRun) {
  OnHands("run-1");
  ASSERT_OK(Tell({Started("run-1")}));
  RunRow run = Found("run-1");
  EXPECT_EQ(run.phase, RunPhase::kBegan);
  EXPECT_EQ(run.state, v1::RUN_STATE_RUNNING);
  EXPECT_EQ(run.started_at, now_ + absl::Seconds(5));
  v1::RunEvent progress = Event("run-1", 1);
  progress.mutable_progress()->set_done(40);
  v1::RunEvent output = Event("run-1", 1);
  output.mutable_output()->set_stream(v1::RunOutput::STREAM_STDOUT);
  output.mutable_output()->set_first_line(1);
  output.mutable_output()->set_text(std::string("one\ntwo \0 three\n", 16));
  ASSERT_OK(Tell({progress, output, Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED)}));
  run = Found("run-1");
  EXPECT_EQ(run.phase, RunPhase::kAttemptOver);
  EXPECT_EQ(run.outcome, v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_EQ(run.progress.done(), 40U);
  EXPECT_EQ(run.dropped_lines, 7U);
  EXPECT_EQ(run.output_bytes, 16U);
  const auto lines = store_->runs().Output("run-1", {}, 10);
  ASSERT_OK(lines);
  ASSERT_EQ(lines->size(), 1U);
  EXPECT_EQ((*lines)[0].text, output.output().text());
  EXPECT_TRUE(store_->runs().Output("run-1", (*lines)[0], 10)->empty());
  const auto trail = store_->runs().Trail("run-1");
  ASSERT_OK(trail);
  std::vector<std::string> what;
  for (const TrailRow& entry : *trail) what.push_back(entry.what);
  EXPECT_THAT(what, ::testing::ElementsAre("due", "test", "started", "ended"));
}

TEST_P(RunStoreTest, ToldTwiceIsToldOnce) {
  OnHands("run-1");
  ASSERT_OK(Tell({Started("run-1"), Ended("run-1", v1::RUN_OUTCOME_FAILED)}));
  ASSERT_OK(Tell({Started("run-1"), Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED)}));
  EXPECT_EQ(Found("run-1").outcome, v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(store_->runs().Trail("run-1")->size(), 4U);
}

TEST_P(RunStoreTest, AnAgentMovesNoOtherAgentsRunAndNoOlderAttempt) {
  OnHands("run-1");
  ASSERT_OK(Tell({Started("run-1"), Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED)}, "web-1"));
  EXPECT_EQ(Found("run-1").phase, RunPhase::kAssigned);
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED, 2)}));
  EXPECT_EQ(Found("run-1").phase, RunPhase::kAssigned);
  ASSERT_OK(Tell({Ended("run-of-nobody", v1::RUN_OUTCOME_SUCCEEDED)}));
}

TEST_P(RunStoreTest, NothingHappenedBeforeTheAgentWasGivenTheRun) {
  OnHands("run-1");
  v1::RunEvent started = Started("run-1");
  started.clear_at();  // 1970, as the store writes "never"
  v1::RunEvent ended = Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED);
  ended.clear_at();
  ASSERT_OK(Tell({started, ended}));
  EXPECT_EQ(Found("run-1").started_at, now_);
  EXPECT_EQ(Found("run-1").finished_at, now_);
}

TEST_P(RunStoreTest, TheTruthComesLateButComes) {
  RunRow run = OnHands("run-1");
  run.phase = RunPhase::kOver;
  run.state = v1::RUN_STATE_UNKNOWN;
  ASSERT_EQ(Change(run, RunPhase::kAssigned, 1), 1U);
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED)}));
  EXPECT_EQ(Found("run-1").state, v1::RUN_STATE_SUCCEEDED);
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_FAILED)}));
  EXPECT_EQ(Found("run-1").state, v1::RUN_STATE_SUCCEEDED);
}

TEST_P(RunStoreTest, TheTruthOfALaterAttemptComesLateToo) {
  RunRow run = OnHands("run-1");
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_FAILED)}));
  run.fence = 2;
  ASSERT_EQ(Change(run, RunPhase::kAttemptOver, 1), 1U);
  run.phase = RunPhase::kOver;
  run.state = v1::RUN_STATE_UNKNOWN;
  ASSERT_EQ(Change(run, RunPhase::kAssigned, 2), 1U);
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED, 2)}));
  EXPECT_EQ(Found("run-1").state, v1::RUN_STATE_SUCCEEDED);
}

TEST_P(RunStoreTest, OutputIsBounded) {
  OnHands("run-1");
  const std::string megabyte(1 << 20, 'x');
  std::vector<v1::RunEvent> events;
  for (uint64_t i = 1; i <= 5; ++i) {
    v1::RunEvent output = Event("run-1", 1);
    output.mutable_output()->set_stream(v1::RunOutput::STREAM_STDOUT);
    output.mutable_output()->set_first_line(i);
    output.mutable_output()->set_text(megabyte.substr(1) + "\n");
    events.push_back(output);
  }
  ASSERT_OK(Tell(events));
  EXPECT_EQ(Found("run-1").output_bytes, kMostRunOutput);
  EXPECT_EQ(Found("run-1").dropped_lines, 1U);
  EXPECT_EQ(store_->runs().Output("run-1", {}, 10)->size(), 4U);
}

TEST_P(RunStoreTest, WhatIsOnAgentsHandsAndWhenItChanges) {
  const uint64_t before = *store_->runs().AssignmentRevision();
  OnHands("run-1");
  const auto hands = store_->runs().OnHands();
  ASSERT_OK(hands);
  ASSERT_EQ(hands->size(), 1U);
  EXPECT_EQ((*hands)[0].agent, "db-1");
  const uint64_t assigned = *store_->runs().AssignmentRevision();
  EXPECT_GT(assigned, before);
  ASSERT_OK(Tell({Ended("run-1", v1::RUN_OUTCOME_SUCCEEDED)}));
  EXPECT_TRUE(store_->runs().OnHands()->empty());
  EXPECT_GT(*store_->runs().AssignmentRevision(), assigned);
}

TEST_P(RunStoreTest, WhatChangedSinceARevisionIsFoundWhoeverChangedIt) {
  const auto changed = [this](uint64_t since) {
    const auto rows = store_->runs().ChangedSince(since);
    EXPECT_OK(rows.status());
    std::set<std::string> ids;
    for (const RunRow& run : *rows) ids.insert(run.id);
    return ids;
  };
  using Ids = std::set<std::string>;
  uint64_t before = *store_->runs().Revision();
  const RunRow run = OnHands("run-1");
  EXPECT_EQ(changed(before), Ids({"run-1"}));
  before = *store_->runs().Revision();
  ASSERT_OK(store_->runs().Start(RunOf("run-2", now_ + absl::Seconds(1)), Note("run.start")));
  EXPECT_EQ(changed(before), Ids({"run-2"}));
  before = *store_->runs().Revision();
  ASSERT_OK(Tell({Started("run-1")}));
  EXPECT_EQ(changed(before), Ids({"run-1"}));
  before = *store_->runs().Revision();
  ASSERT_OK(store_->runs().Stop("run-2", RunStop::kCancel, "enough", Note("run.cancel")));
  EXPECT_EQ(changed(before), Ids({"run-2"}));
  before = *store_->runs().Revision();
  RunRow over = Found("run-2");
  over.phase = RunPhase::kOver;
  over.state = v1::RUN_STATE_MISSED;
  EXPECT_EQ(Change(over, RunPhase::kWaiting, 0), 1U);
  EXPECT_EQ(changed(before), Ids({"run-2"}));
  before = *store_->runs().Revision();
  ASSERT_OK(store_->runs().Backfill({RunOf("run-2", now_ + absl::Seconds(1))}, Note("backfill")));
  EXPECT_EQ(changed(before), Ids({"run-2"}));
  EXPECT_EQ(changed(*store_->runs().Revision()), Ids());
}

TEST_P(RunStoreTest, WhatARunDoesMayBeDecidedWithItsAssignment) {
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({RunOf("run-1", now_)}, std::nullopt)}, now_));
  RunRow row = Found("run-1");
  row.spec.Clear();
  row.spec.mutable_verify_backup()->set_staging("/srv/staging");
  const auto assign = [&](bool new_spec) {
    row.fence += 1;
    return store_->runs().Change(epoch_,
                                 {{.row = row,
                                   .expected_phase = RunPhase::kWaiting,
                                   .expected_fence = row.fence - 1,
                                   .new_spec = new_spec,
                                   .what = "assigned"}},
                                 now_);
  };
  ASSERT_OK(assign(false));
  EXPECT_TRUE(Found("run-1").spec.has_command());
  ASSERT_OK(assign(true));
  EXPECT_EQ(Found("run-1").spec.verify_backup().staging(), "/srv/staging");
}

TEST_P(RunStoreTest, AskedForAgainIsTheSameRun) {
  const auto first = store_->runs().Start(RunOf("run-1", now_), Note("run.start"));
  ASSERT_OK(first);
  const auto again =
      store_->runs().Start(RunOf("run-1", now_ + absl::Seconds(1)), Note("run.start"));
  ASSERT_OK(again);
  EXPECT_EQ(again->slot, now_);
  const auto other = store_->runs().Start(RunOf("run-2", now_), Note("run.start"));
  ASSERT_OK(other);
  EXPECT_EQ(other->slot, now_ + absl::Microseconds(1));
}

TEST_P(RunStoreTest, AStopIsKeptAndNeverBecomesLess) {
  OnHands("run-1");
  ASSERT_OK(store_->runs().Stop("run-1", RunStop::kTerminate, "by ada", Note("run.cancel")));
  ASSERT_OK(store_->runs().Stop("run-1", RunStop::kCancel, "by bob", Note("run.cancel")));
  EXPECT_EQ(Found("run-1").stop, RunStop::kTerminate);
  EXPECT_EQ(Found("run-1").stop_reason, "by ada");
  RunRow run = Found("run-1");
  run.phase = RunPhase::kOver;
  Change(run, RunPhase::kAssigned, 1);
  EXPECT_EQ(CodeOf(store_->runs().Stop("run-1", RunStop::kCancel, "", Note()).status()),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf(store_->runs().Stop("nobody", RunStop::kCancel, "", Note()).status()),
            absl::StatusCode::kNotFound);
}

TEST_P(RunStoreTest, TheNewestSlotThatIsOverIsTheJobsHealth) {
  RunRow run = OnHands("run-1");
  run.phase = RunPhase::kOver;
  run.state = v1::RUN_STATE_FAILED;
  run.reason = "exit code 3";
  Change(run, RunPhase::kAssigned, 1, true);
  auto jobs = store_->runs().Jobs();
  ASSERT_OK(jobs);
  ASSERT_EQ(jobs->size(), 1U);
  EXPECT_EQ((*jobs)[0].health.state, v1::RUN_STATE_FAILED);
  EXPECT_EQ((*jobs)[0].health.run, "run-1");
  JobDecision older = Decision({}, now_);
  older.health = {{"run-0", now_ - absl::Hours(1), v1::RUN_STATE_MISSED, "outage", now_}};
  ASSERT_OK(store_->runs().Decide(epoch_, {older}, now_));
  EXPECT_EQ((*store_->runs().Jobs())[0].health.run, "run-1");
}

TEST_P(RunStoreTest, APauseLastsUntilItIsResumed) {
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({}, std::nullopt)}, now_));
  const PauseRow pause{.job = "tidy", .since = now_, .reason = "freeze", .by = "admin/ada"};
  ASSERT_OK(store_->runs().Pause(pause, Note("job.pause")));
  EXPECT_EQ(CodeOf(store_->runs().Pause(pause, Note("job.pause"))),
            absl::StatusCode::kFailedPrecondition);
  auto pauses = (*store_->runs().Jobs())[0].pauses;
  ASSERT_EQ(pauses.size(), 1U);
  EXPECT_EQ(pauses[0].until, absl::InfiniteFuture());
  AuditNote resume = Note("job.resume");
  resume.at = now_ + absl::Hours(1);
  ASSERT_OK(store_->runs().Resume("tidy", resume));
  EXPECT_EQ((*store_->runs().Jobs())[0].pauses[0].until, resume.at);
  EXPECT_EQ(CodeOf(store_->runs().Resume("tidy", resume)), absl::StatusCode::kFailedPrecondition);
}

TEST_P(RunStoreTest, AMissedRunThatIsBackfilledWaitsAgain) {
  RunRow missed = RunOf("run-1", now_);
  missed.phase = RunPhase::kOver;
  missed.state = v1::RUN_STATE_MISSED;
  missed.finished_at = now_;
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision({missed}, std::nullopt)}, now_));
  RunRow again = RunOf("run-1", now_);
  again.trigger = v1::RUN_TRIGGER_BACKFILL;
  const auto made =
      store_->runs().Backfill({again, RunOf("run-2", now_ - absl::Hours(1))}, Note("job.backfill"));
  ASSERT_OK(made);
  EXPECT_EQ(made->size(), 2U);
  EXPECT_EQ(Found("run-1").phase, RunPhase::kWaiting);
  EXPECT_EQ(Found("run-1").start_by, absl::InfiniteFuture());
  EXPECT_TRUE(store_->runs().Backfill({again}, Note("job.backfill"))->empty());
}

TEST_P(RunStoreTest, ListsNewestSlotFirstByPages) {
  std::vector<RunRow> runs;
  for (int i = 0; i < 5; ++i) {
    runs.push_back(RunOf(fmt::format("run-{}", i), now_ + absl::Seconds(i)));
  }
  ASSERT_OK(store_->runs().Decide(epoch_, {Decision(runs, std::nullopt)}, now_));
  const auto page = store_->runs().List({}, now_ + absl::Hours(1), "", 2);
  ASSERT_OK(page);
  ASSERT_EQ(page->size(), 2U);
  EXPECT_EQ((*page)[0].id, "run-4");
  const auto next = store_->runs().List({}, (*page)[1].slot, (*page)[1].id, 10);
  EXPECT_EQ(next->size(), 3U);
  EXPECT_TRUE(store_->runs().List({.job = "other"}, now_ + absl::Hours(1), "", 9)->empty());
  EXPECT_EQ(store_->runs().List({.id_prefix = "run-3"}, now_ + absl::Hours(1), "", 9)->size(), 1U);
  EXPECT_TRUE(store_->runs()
                  .List({.state = {v1::RUN_STATE_FAILED}}, now_ + absl::Hours(1), "", 9)
                  ->empty());
}

TEST_P(RunStoreTest, OldRunsAreDroppedWithTheirTrailAndOutput) {
  RunRow run = OnHands("run-1");
  run.phase = RunPhase::kOver;
  run.finished_at = now_;
  Change(run, RunPhase::kAssigned, 1);
  EXPECT_EQ(*store_->runs().DropBefore(epoch_, now_, 10), 0U);
  EXPECT_EQ(*store_->runs().DropBefore(epoch_, now_ + absl::Seconds(1), 10), 1U);
  EXPECT_FALSE(store_->runs().Find("run-1")->has_value());
  EXPECT_TRUE(store_->runs().Trail("run-1")->empty());
}

MUSTER_ON_EVERY_BACKEND(RunStoreTest);

}  // namespace
}  // namespace muster::control
