// Runs that hosts begin by themselves and tell of, as every store keeps them.
#include "control-plane/store/reported_runs.h"

#include "lib/base/hash.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReportedRunTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    ApplyJob("nightly", {{"role", "web"}});
    Enrol("web-1");
    Enrol("web-2");
  }

  void ApplyJob(const std::string& name, const std::map<std::string, std::string>& agents) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Job");
    document.mutable_metadata()->set_name(name);
    *document.mutable_job() = Spec(agents);
    ASSERT_OK(store_->specs().Apply({document}, Note("spec.apply")));
  }

  static v1::JobSpec Spec(const std::map<std::string, std::string>& agents = {{"role", "web"}}) {
    v1::JobSpec spec;
    for (const auto& [key, value] : agents) (*spec.mutable_agents())[key] = value;
    spec.mutable_reported()->add_success(0);
    spec.mutable_reported()->add_success(3);
    return spec;
  }

  RunRow Slot(const std::string& id, absl::Time slot) const {
    return {.id = id,
            .job = "nightly",
            .slot = slot,
            .spec = Spec(),
            .due_at = slot,
            .start_by = slot + absl::Minutes(15)};
  }

  uint64_t Decide(std::vector<RunRow> runs) {
    JobDecision decision;
    decision.row.name = "nightly";
    decision.row.decided_until = now_;
    if (decided_) decision.expected_until = now_;
    decision.runs = std::move(runs);
    decided_ = true;
    const auto revision = store_->runs().Decide(epoch_, {decision}, now_);
    EXPECT_OK(revision);
    return revision.value_or(0);
  }

  v1::RunEvent Event(const std::string& id, absl::Time at) const {
    v1::RunEvent event;
    event.set_run_id(id);
    event.set_fence(1);
    *event.mutable_at() = wire::ToProto(at);
    return event;
  }

  v1::RunEvent Started(const std::string& id, absl::Time at,
                       const std::string& job = "nightly") const {
    v1::RunEvent event = Event(id, at);
    event.mutable_started()->set_what("/bin/report");
    event.mutable_started()->mutable_reported()->set_job(job);
    event.mutable_started()->mutable_reported()->set_user("root");
    return event;
  }

  v1::RunEvent Wrote(const std::string& id, absl::Time at) const {
    v1::RunEvent event = Event(id, at);
    event.mutable_output()->set_stream(v1::RunOutput::STREAM_STDOUT);
    event.mutable_output()->set_first_line(1);
    event.mutable_output()->set_text("done\n");
    return event;
  }

  v1::RunEvent Ended(const std::string& id, absl::Time at, int code) const {
    v1::RunEvent event = Event(id, at);
    event.mutable_ended()->set_outcome(code == 0 ? v1::RUN_OUTCOME_SUCCEEDED
                                                 : v1::RUN_OUTCOME_FAILED);
    event.mutable_ended()->set_exit_code(code);
    event.mutable_ended()->set_reason(fmt::format("exit code {}", code));
    return event;
  }

  // In a batch of the agent's log; what was refused.
  std::vector<std::string> Tell(std::vector<v1::RunEvent> events,
                                const std::string& agent = "web-1") {
    if (!sessions_.contains(agent)) sessions_[agent] = {OpenSession(agent).epoch, 1};
    auto& [session, first] = sessions_[agent];
    BatchCommit batch = Batch(agent, session, first);
    first += 5;
    batch.run_events = std::move(events);
    std::vector<RefusedReport> refused;
    const auto outcomes = store_->history().Commit({batch}, now_, &refused);
    EXPECT_OK(outcomes);
    if (outcomes.ok()) {
      EXPECT_OK((*outcomes)[0]);
    }
    std::vector<std::string> why;
    for (const RefusedReport& one : refused)
      why.push_back(fmt::format("{}/{}: {}", one.agent, one.job, one.why));
    return why;
  }

  RunRow Found(const std::string& id) {
    const auto run = store_->runs().Find(id);
    EXPECT_TRUE(run.ok() && run->has_value()) << id;
    return run.ok() && run->has_value() ? **run : RunRow{};
  }

  // Newest first.
  std::vector<RunRow> All() {
    const auto runs = store_->runs().List({}, absl::FromUnixSeconds(4'000'000'000), "", 100);
    EXPECT_OK(runs);
    return runs.value_or(std::vector<RunRow>());
  }

  std::vector<std::string> TrailOf(const std::string& id) {
    std::vector<std::string> what;
    const auto trail = store_->runs().Trail(id);
    EXPECT_OK(trail);
    for (const TrailRow& row : *trail) what.push_back(row.what);
    return what;
  }

  void Miss(const std::string& id) {
    RunRow row = Found(id);
    row.phase = RunPhase::kOver;
    row.state = v1::RUN_STATE_MISSED;
    row.finished_at = now_;
    ASSERT_OK(store_->runs().Change(epoch_,
                                    {{.row = row,
                                      .expected_phase = RunPhase::kWaiting,
                                      .expected_fence = 0,
                                      .what = "missed",
                                      .concludes = true}},
                                    now_));
  }

  const absl::Time slot_ = now_ - absl::Minutes(10);
  const std::string id_ = RandomUuid();
  bool decided_ = false;
  std::map<std::string, std::pair<uint64_t, uint64_t>> sessions_;
};

TEST_P(ReportedRunTest, AReportBeginsTheSlotThatWaitsForIt) {
  Decide({Slot("run-1", slot_)});
  EXPECT_TRUE(Tell({Started(id_, slot_ + absl::Seconds(2))}).empty());
  RunRow run = Found("run-1");
  EXPECT_EQ(run.phase, RunPhase::kBegan);
  EXPECT_EQ(run.state, v1::RUN_STATE_RUNNING);
  EXPECT_EQ(run.agent, "web-1");
  EXPECT_EQ(run.fence, 1U);
  EXPECT_EQ(run.started_at, slot_ + absl::Seconds(2));
  EXPECT_EQ(run.reported_id, id_);
  EXPECT_EQ(run.reason, "root runs /bin/report");
  EXPECT_TRUE(store_->runs().OnHands()->empty()) << "no agent is to do it";
  Tell({Wrote(id_, slot_ + absl::Seconds(5)), Ended(id_, slot_ + absl::Seconds(5), 0)});
  run = Found("run-1");
  EXPECT_EQ(run.phase, RunPhase::kAttemptOver);
  EXPECT_EQ(run.outcome, v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_EQ(run.finished_at, slot_ + absl::Seconds(5));
  EXPECT_EQ(store_->runs().Output("run-1", {}, 10)->size(), 1U);
  EXPECT_THAT(TrailOf("run-1"), ElementsAre("due", "reported", "started", "ended"));
  EXPECT_EQ(All().size(), 1U);
}

TEST_P(ReportedRunTest, ToldAgainIsTheSameRun) {
  Decide({Slot("run-1", slot_)});
  const std::vector<v1::RunEvent> events = {Started(id_, slot_), Wrote(id_, slot_),
                                            Ended(id_, slot_, 1)};
  Tell(events);
  const RunRow before = Found("run-1");
  Tell(events);
  Tell({Started(id_, slot_)});
  EXPECT_EQ(All().size(), 1U);
  EXPECT_EQ(Found("run-1").output_bytes, before.output_bytes);
  EXPECT_EQ(Found("run-1").outcome, v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(TrailOf("run-1").size(), 4U);
}

TEST_P(ReportedRunTest, TheNewestSlotThatWaitsIsBegunAndOlderOnesStay) {
  Decide({Slot("run-1", slot_ - absl::Hours(1)), Slot("run-2", slot_),
          Slot("run-3", slot_ + absl::Minutes(5))});
  Tell({Started(id_, slot_ + absl::Minutes(1))});
  EXPECT_EQ(Found("run-1").phase, RunPhase::kWaiting);
  EXPECT_EQ(Found("run-2").phase, RunPhase::kBegan);
  EXPECT_EQ(Found("run-3").phase, RunPhase::kWaiting);
}

TEST_P(ReportedRunTest, AClockThatGoesAheadALittleMeansTheSlot) {
  Decide({Slot("run-1", slot_)});
  Tell({Started(id_, slot_ - absl::Seconds(4))});
  EXPECT_EQ(Found("run-1").phase, RunPhase::kBegan);
  EXPECT_EQ(Found("run-1").started_at, slot_ - absl::Seconds(4));
}

TEST_P(ReportedRunTest, OutsideOfEverySlotItIsARunOfItsOwn) {
  EXPECT_TRUE(Tell({Started(id_, slot_), Ended(id_, slot_ + absl::Seconds(1), 0)}).empty());
  const RunRow run = Found(id_);
  EXPECT_EQ(run.trigger, v1::RUN_TRIGGER_REPORTED);
  EXPECT_EQ(run.slot, slot_);
  EXPECT_EQ(run.outcome, v1::RUN_OUTCOME_SUCCEEDED);
  // A second one at the same moment, and the first once more.
  const std::string other = RandomUuid();
  Tell({Started(other, slot_), Started(id_, slot_)});
  EXPECT_EQ(Found(other).slot, slot_ + absl::Microseconds(1));
  EXPECT_EQ(All().size(), 2U);
}

TEST_P(ReportedRunTest, TwoReportsOfOneBatchTakeTwoSlots) {
  Decide({Slot("run-1", slot_ - absl::Minutes(5)), Slot("run-2", slot_)});
  const std::string other = RandomUuid();
  Tell({Started(id_, slot_), Started(other, slot_ + absl::Seconds(1))});
  EXPECT_EQ(Found("run-2").reported_id, id_);
  EXPECT_EQ(Found("run-1").reported_id, other);
}

TEST_P(ReportedRunTest, TheTruthOfAMissedSlotComesLate) {
  Decide({Slot("run-1", slot_)});
  Miss("run-1");
  Tell({Started(id_, slot_ + absl::Seconds(1)), Ended(id_, slot_ + absl::Minutes(1), 0)});
  const RunRow run = Found("run-1");
  EXPECT_EQ(run.phase, RunPhase::kAttemptOver) << "the leader judges it";
  EXPECT_EQ(run.started_at, slot_ + absl::Seconds(1));
  EXPECT_EQ(run.finished_at, slot_ + absl::Minutes(1));
  EXPECT_THAT(TrailOf("run-1"), ElementsAre("due", "missed", "reported", "started", "ended"));
  EXPECT_EQ(All().size(), 1U);
}

TEST_P(ReportedRunTest, AnOlderMissedSlotIsNotMadeGoodByANewerRun) {
  Decide({Slot("run-1", slot_ - absl::Hours(1))});
  Miss("run-1");
  Decide({Slot("run-2", slot_)});
  Tell({Started(RandomUuid(), slot_)});
  Tell({Started(id_, slot_ + absl::Minutes(1))});
  EXPECT_EQ(Found("run-1").state, v1::RUN_STATE_MISSED);
  EXPECT_EQ(Found(id_).trigger, v1::RUN_TRIGGER_REPORTED);
}

TEST_P(ReportedRunTest, TheTruthOfARunThatWasGivenUpIsJudgedAnew) {
  Decide({Slot("run-1", slot_)});
  Tell({Started(id_, slot_)});
  RunRow run = Found("run-1");
  run.phase = RunPhase::kOver;
  run.state = v1::RUN_STATE_UNKNOWN;
  ASSERT_OK(store_->runs().Change(
      epoch_, {{.row = run, .expected_phase = RunPhase::kBegan, .expected_fence = 1}}, now_));
  Tell({Ended(id_, now_, 0)});
  EXPECT_EQ(Found("run-1").phase, RunPhase::kAttemptOver);
  EXPECT_EQ(Found("run-1").outcome, v1::RUN_OUTCOME_SUCCEEDED);
}

TEST_P(ReportedRunTest, ASlotThatIsDecidedAfterItsReportIsTheReports) {
  Tell({Started(id_, slot_ + absl::Seconds(1)), Ended(id_, slot_ + absl::Seconds(2), 0)});
  const uint64_t before = *store_->runs().Revision();
  EXPECT_EQ(Decide({Slot("run-1", slot_)}), before + 2) << "the leader has to look";
  EXPECT_EQ(Found(id_).slot, slot_);
  EXPECT_EQ(Found(id_).trigger, v1::RUN_TRIGGER_SCHEDULE);
  EXPECT_EQ(All().size(), 1U);
  Decide({Slot("run-1", slot_)});
  EXPECT_EQ(All().size(), 1U) << "decided twice is stored once";
  EXPECT_THAT(TrailOf(id_), Contains("due"));
}

TEST_P(ReportedRunTest, OfSeveralSlotsThatAreDecidedLateEachTakesItsOwnReport) {
  const absl::Time older = slot_ - absl::Hours(1);
  Tell({Started(id_, slot_ + absl::Seconds(1))});
  Decide({Slot("run-1", older), Slot("run-2", slot_)});
  EXPECT_EQ(Found(id_).slot, slot_);
  EXPECT_EQ(Found("run-1").phase, RunPhase::kWaiting);
  EXPECT_EQ(All().size(), 2U);
}

TEST_P(ReportedRunTest, ExitCodesAreSuccessWhereTheJobSaysSo) {
  for (const auto& [code, outcome] :
       std::vector<std::pair<int, v1::RunOutcome>>{{0, v1::RUN_OUTCOME_SUCCEEDED},
                                                   {3, v1::RUN_OUTCOME_SUCCEEDED},
                                                   {1, v1::RUN_OUTCOME_FAILED}}) {
    const std::string id = RandomUuid();
    Tell({Started(id, slot_), Ended(id, slot_, code)});
    EXPECT_EQ(Found(id).outcome, outcome) << code;
  }
  const std::string id = RandomUuid();
  v1::RunEvent killed = Ended(id, slot_, 0);
  killed.mutable_ended()->set_outcome(v1::RUN_OUTCOME_FAILED);
  killed.mutable_ended()->set_signal(9);
  killed.mutable_ended()->set_exit_code(-1);
  Tell({Started(id, slot_), killed});
  EXPECT_EQ(Found(id).outcome, v1::RUN_OUTCOME_FAILED);
}

TEST_P(ReportedRunTest, WhatNoJobAsksForIsRefusedAndCounted) {
  EXPECT_THAT(Tell({Started(id_, slot_, "nothing"), Ended(id_, slot_, 0)}),
              ElementsAre("web-1/nothing: there is no such job: apply it first"));
  ApplyJob("others", {{"role", "db"}});
  EXPECT_THAT(Tell({Started(id_, slot_, "others")}),
              ElementsAre(HasSubstr("the job does not ask for this agent")));
  v1::Document command;
  command.set_api_version("muster/v1");
  command.set_kind("Job");
  command.mutable_metadata()->set_name("command");
  command.mutable_job()->mutable_command()->add_argv("/bin/true");
  ASSERT_OK(store_->specs().Apply({command}, Note()));
  EXPECT_THAT(Tell({Started(id_, slot_, "command")}),
              ElementsAre(HasSubstr("the job is not reported")));
  EXPECT_TRUE(All().empty());
}

TEST_P(ReportedRunTest, AnAgentTakesNoIdThatIsNotAReports) {
  // As the leader makes it of a job and its slot: the slot would count as decided.
  const std::string slots = NameUuid("run/nightly/1");
  EXPECT_EQ(Tell({Started(slots, slot_)}).size(), 1U);
  v1::RunEvent second = Started(id_, slot_);
  second.set_fence(2);
  EXPECT_EQ(Tell({second}).size(), 1U);
  EXPECT_TRUE(All().empty());
}

TEST_P(ReportedRunTest, AnAgentMovesNoOtherAgentsReport) {
  Tell({Started(id_, slot_)});
  Tell({Started(id_, slot_), Ended(id_, slot_, 1)}, "web-2");
  EXPECT_EQ(Found(id_).phase, RunPhase::kBegan);
  EXPECT_EQ(Found(id_).agent, "web-1");
  Decide({Slot("run-1", slot_)});
  const std::string taken = RandomUuid();
  Tell({Started(taken, slot_ + absl::Seconds(1))});
  Tell({Ended(taken, now_, 1)}, "web-2");
  EXPECT_EQ(All()[0].phase, RunPhase::kBegan);
}

TEST_P(ReportedRunTest, NobodyEndsWhatAHostHasBegun) {
  Tell({Started(id_, slot_)});
  const auto stopped = store_->runs().Stop(id_, RunStop::kCancel, "by ada", Note("run.cancel"));
  EXPECT_EQ(CodeOf(stopped.status()), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(stopped.status()), HasSubstr("end it on web-1"));
}

MUSTER_ON_EVERY_BACKEND(ReportedRunTest);

}  // namespace
}  // namespace muster::control
