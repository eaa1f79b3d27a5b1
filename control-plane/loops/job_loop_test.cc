#include "control-plane/loops/job_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/decide/schedule.h"
#include "control-plane/store/recovery.h"
#include "control-plane/store/run_events.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::IsEmpty;
using ::testing::Lt;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

// A store with one connected agent, and the loop over it.
class JobLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = *Store::OpenInMemory();
    const TokenRow token{
        .hash = std::string(32, 't'), .agent = "db-1", .expires_at = now_ + absl::Hours(1)};
    ASSERT_OK(store_->identity().SaveToken(token, Note()));
    ASSERT_OK(store_->identity().RedeemToken(token.hash,
                                             {.fingerprint = "f",
                                              .role = v1::ROLE_AGENT,
                                              .name = "db-1",
                                              .serial = "1",
                                              .not_before = now_,
                                              .not_after = now_ + absl::Hours(24),
                                              .der = "der",
                                              .public_key = "key"},
                                             now_, Note()));
    Connect();
    Restart();
  }

  void Connect() {
    const auto opened = store_->sessions().Open({.agent = "db-1",
                                                 .replica = "r1",
                                                 .version = "1",
                                                 .boot_id = "boot",
                                                 .log_epoch = "log",
                                                 .now = now_});
    ASSERT_OK(opened);
    session_ = opened->epoch;
  }

  // The last commits are lost, as with a standby that lagged.
  void LoseAt(absl::Duration after) {
    now_ = kStart + after;
    ASSERT_OK(store_->database().Write(
        [&](sql::Transaction& t) { return RecoverStore(t, {.before = "a", .after = "b"}, now_); }));
    Restart();
    Connect();
  }

  // A run that the lost store had given to the agent, as it is told of again.
  v1::RunEvent Lost(absl::Time slot, absl::Time began) const {
    v1::RunEvent started;
    started.set_run_id(RunId("tidy", slot));
    started.set_fence(1);
    *started.mutable_at() = wire::ToProto(began);
    started.mutable_started()->set_what("/bin/true");
    started.mutable_started()->mutable_assigned()->set_job("tidy");
    *started.mutable_started()->mutable_assigned()->mutable_slot() = wire::ToProto(slot);
    return started;
  }
  static v1::RunEvent EndOf(v1::RunEvent event) {
    event.mutable_ended()->set_outcome(v1::RUN_OUTCOME_SUCCEEDED);
    return event;
  }

  AuditNote Note() const { return {.actor = "admin/test", .action = "test", .at = now_}; }

  void Restart() {
    JobLoopOptions options;
    options.on_over = [this](v1::RunState state) { over_.push_back(state); };
    options.on_changed = [this] { on_changed_(); };
    loop_.emplace(*store_, LeaderEpoch{store_->cluster().Lease()->epoch}, std::move(options));
  }

  void Apply(absl::Duration every) {
    ASSERT_OK(store_->specs().Apply({Job("tidy", every)}, Note()));
  }

  static v1::Document Job(const std::string& name, absl::Duration every) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Job");
    document.mutable_metadata()->set_name(name);
    v1::JobSpec& job = *document.mutable_job();
    *job.mutable_schedule()->mutable_every() = wire::ToProto(every);
    *job.mutable_schedule()->mutable_catch_up() = wire::ToProto(absl::Hours(1));
    *job.mutable_deadline() = wire::ToProto(absl::Minutes(1));
    job.mutable_command()->add_argv("/bin/true");
    return document;
  }

  void TickAt(absl::Duration after) {
    now_ = kStart + after;
    ASSERT_OK(loop_->Tick(now_));
  }

  void Tell(v1::RunOutcome outcome, const RunRow& run) {
    v1::RunEvent started;
    started.set_run_id(run.id);
    started.set_fence(run.fence);
    *started.mutable_at() = wire::ToProto(now_);
    v1::RunEvent ended = started;
    started.mutable_started();
    ended.mutable_ended()->set_outcome(outcome);
    ended.mutable_ended()->set_reason("exit code");
    Tell({started, ended});
  }
  void Tell(std::vector<v1::RunEvent> events) {
    BatchCommit batch;
    batch.agent = "db-1";
    batch.session_epoch = session_;
    batch.log_epoch = "log";
    batch.expected_committed = sequence_;
    batch.first_sequence = sequence_ + 1;
    batch.last_sequence = sequence_ += events.size();
    batch.first_observed_at = absl::InfiniteFuture();
    batch.payload = "payload";
    batch.run_events = std::move(events);
    const auto outcomes = store_->history().Commit({batch}, now_);
    ASSERT_OK(outcomes);
    ASSERT_OK((*outcomes)[0]);
  }

  std::vector<RunRow> OnHands() { return *store_->runs().OnHands(); }

  absl::Time now_ = kStart;
  std::unique_ptr<Store> store_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  std::optional<JobLoop> loop_;
  std::vector<v1::RunState> over_;
  std::function<void()> on_changed_ = [] {};
};

TEST_F(JobLoopTest, ASlotThatComesDueIsOnTheAgentsHands) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(1));
  EXPECT_THAT(OnHands(), IsEmpty());
  TickAt(absl::Minutes(10));
  ASSERT_THAT(OnHands(), SizeIs(1));
  EXPECT_EQ(OnHands()[0].agent, "db-1");
  EXPECT_EQ(OnHands()[0].id, RunId("tidy", kStart + absl::Minutes(10)));
  EXPECT_EQ(OnHands()[0].fence, 1U);
}

TEST_F(JobLoopTest, ALeaderThatComesNewDoublesNothing) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(10));
  Restart();
  TickAt(absl::Minutes(11));
  TickAt(absl::Minutes(12));
  ASSERT_THAT(OnHands(), SizeIs(1));
  EXPECT_EQ(OnHands()[0].fence, 1U);
}

TEST_F(JobLoopTest, WhatEndedIsJudgedOnceAndIsTheJobsHealth) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(10));
  Tell(v1::RUN_OUTCOME_FAILED, OnHands()[0]);
  TickAt(absl::Minutes(11));
  TickAt(absl::Minutes(12));
  EXPECT_THAT(over_, ElementsAre(v1::RUN_STATE_FAILED));
  EXPECT_EQ((*store_->runs().Jobs())[0].health.state, v1::RUN_STATE_FAILED);
  EXPECT_THAT(*store_->runs().Open(), IsEmpty());
}

TEST_F(JobLoopTest, AMonthWithoutALeaderCostsOneRunAndTwoRecords) {
  Apply(absl::Minutes(1));
  TickAt(absl::Seconds(1));
  Restart();
  TickAt(absl::Hours(24 * 30));
  EXPECT_THAT(OnHands(), SizeIs(1));
  const auto missed = store_->runs().ListMissed({}, now_ + absl::Hours(1), "", 100);
  ASSERT_OK(missed);
  EXPECT_THAT(*missed, SizeIs(2));
  EXPECT_EQ((*missed)[0].slots + (*missed)[1].slots + 1, 30U * 24 * 60);
}

TEST_F(JobLoopTest, ADeletedJobIsForgottenAndItsWaitingRunsAreMissed) {
  Apply(absl::Minutes(10));
  ASSERT_OK(store_->sessions().Close({{"db-1", session_, now_, now_}}));
  TickAt(absl::Minutes(10));
  EXPECT_THAT(OnHands(), IsEmpty());
  ASSERT_OK(store_->specs().Delete({{"Job", "tidy"}}, Note()));
  TickAt(absl::Minutes(11));
  EXPECT_THAT(over_, ElementsAre(v1::RUN_STATE_MISSED));
  EXPECT_THAT(*store_->runs().Jobs(), IsEmpty());
}

// A program of an older release, beside this one, changes runs and marks nothing.
TEST_F(JobLoopTest, WhatIsNotMarkedAsChangedIsSeenWithinHalfAMinute) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(10));
  Tell(v1::RUN_OUTCOME_FAILED, OnHands()[0]);
  ASSERT_OK(store_->database().Write(
      [](sql::Transaction& t) { return t.Execute("UPDATE runs SET revision = 0").status(); }));
  TickAt(absl::Minutes(10) + absl::Seconds(2));
  EXPECT_THAT(over_, IsEmpty());
  TickAt(absl::Minutes(10) + absl::Seconds(31));
  EXPECT_THAT(over_, ElementsAre(v1::RUN_STATE_FAILED));
}

TEST_F(JobLoopTest, ManyRunsOnManyHandsAreEachSeenToTheirEnd) {
  Apply(absl::Minutes(10));
  constexpr int kRuns = 30;
  for (int i = 0; i < kRuns; ++i) {
    TickAt(absl::Minutes(10) * (i + 1));
    ASSERT_THAT(OnHands(), SizeIs(1)) << i;
    EXPECT_EQ(OnHands()[0].slot, kStart + absl::Minutes(10) * (i + 1));
    Tell(v1::RUN_OUTCOME_SUCCEEDED, OnHands()[0]);
    TickAt(absl::Minutes(10) * (i + 1) + absl::Seconds(1));
  }
  EXPECT_THAT(over_, SizeIs(kRuns));
  EXPECT_THAT(*store_->runs().Open(), IsEmpty());
}

// Of six slots the agent had been given four; the store that is there now knows of the first.
TEST_F(JobLoopTest, RunsThatAStoreLostAreNeitherMissedNorMadeAgain) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(10));
  ASSERT_THAT(OnHands(), SizeIs(1));
  Tell(v1::RUN_OUTCOME_SUCCEEDED, OnHands()[0]);
  TickAt(absl::Minutes(10) + absl::Seconds(1));
  LoseAt(absl::Minutes(61));
  TickAt(absl::Minutes(61) + absl::Seconds(10));
  EXPECT_THAT(OnHands(), IsEmpty()) << "slots are decided before agents could tell";
  const auto slot = [](int number) { return kStart + absl::Minutes(10) * number; };
  std::vector<v1::RunEvent> told;
  for (const int number : {2, 4}) {
    told.push_back(Lost(slot(number), slot(number) + absl::Seconds(1)));
    told.push_back(EndOf(told.back()));
  }
  told.push_back(Lost(slot(6), slot(6) + absl::Seconds(1)));  // it still runs
  Tell(told);
  TickAt(absl::Minutes(61) + absl::Seconds(20));
  TickAt(absl::Minutes(61) + absl::Seconds(21));
  ASSERT_THAT(OnHands(), SizeIs(1));
  EXPECT_EQ(OnHands()[0].slot, slot(6));
  EXPECT_EQ(OnHands()[0].state, v1::RUN_STATE_RUNNING);
  EXPECT_EQ(OnHands()[0].fence, 1U);
  const auto missed = *store_->runs().ListMissed({}, now_ + absl::Hours(1), "", 100);
  std::vector<absl::Time> slots;
  for (const MissedRow& row : missed) {
    EXPECT_EQ(row.slots, 1U);
    slots.push_back(row.slot);
  }
  EXPECT_THAT(slots, ::testing::UnorderedElementsAre(slot(3), slot(5)));
  EXPECT_THAT(over_, SizeIs(3));
  EXPECT_THAT(over_, ::testing::Each(v1::RUN_STATE_SUCCEEDED));
  Tell({EndOf(Lost(slot(6), now_))});
  TickAt(absl::Minutes(62));
  EXPECT_THAT(*store_->runs().Open(), IsEmpty());
  TickAt(absl::Minutes(70));
  ASSERT_THAT(OnHands(), SizeIs(1)) << "it goes on";
  EXPECT_EQ(OnHands()[0].slot, slot(7));
}

// The agent came after slots had been decided again.
TEST_F(JobLoopTest, ARunThatIsToldOfLateIsMissedNoMore) {
  Apply(absl::Minutes(10));
  TickAt(absl::Seconds(1));
  LoseAt(absl::Minutes(61));
  TickAt(absl::Minutes(61) + absl::Seconds(16));
  const auto slots = [&] {
    uint64_t count = 0;
    const auto missed = *store_->runs().ListMissed({}, now_ + absl::Hours(1), "", 100);
    for (const MissedRow& row : missed) count += row.slots;
    return count;
  };
  ASSERT_EQ(slots(), 5U) << "all but the newest";
  const auto slot = [](int number) { return kStart + absl::Minutes(10) * number; };
  const auto tell = [&](int number) {
    const v1::RunEvent began = Lost(slot(number), slot(number) + absl::Seconds(1));
    Tell({began, EndOf(began)});
  };
  TickAt(absl::Minutes(61) + absl::Seconds(20));
  tell(3);
  // By a look at all runs, which is due by now.
  TickAt(absl::Minutes(61) + absl::Seconds(55));
  EXPECT_EQ(slots(), 4U);
  Tell(v1::RUN_OUTCOME_SUCCEEDED, OnHands()[0]);
  TickAt(absl::Minutes(62));
  TickAt(absl::Minutes(62) + absl::Hours(2));
  EXPECT_EQ(slots(), 4U + 11U);
  for (const int number : {1, 2, 4, 5}) tell(number);
  EXPECT_EQ(slots(), 11U);
}

TEST_F(JobLoopTest, WhatIsDueDoesNotWaitUntilAllThatIsDueIsPlanned) {
  constexpr size_t kJobs = 5000;
  std::vector<v1::Document> documents;
  for (size_t i = 0; i < kJobs; ++i) {
    documents.push_back(Job(fmt::format("job-{:04}", i), absl::Minutes(10)));
  }
  ASSERT_OK(store_->specs().Apply(documents, Note()));
  TickAt(absl::Seconds(1));
  size_t planned = 0;
  on_changed_ = [&] {
    if (planned == 0 && !OnHands().empty()) planned = store_->runs().Open()->size();
  };
  TickAt(absl::Minutes(10));
  EXPECT_THAT(OnHands(), SizeIs(4));
  EXPECT_THAT(planned, AllOf(Gt(0U), Lt(kJobs)));
  EXPECT_THAT(*store_->runs().Open(), SizeIs(kJobs)) << "all of them were planned";
}

TEST_F(JobLoopTest, NoAgentMakesARunUp) {
  Apply(absl::Minutes(10));
  TickAt(absl::Minutes(1));
  const absl::Time slot = kStart + absl::Minutes(10);
  const auto runs = [&] { return store_->runs().SlotsAfter("tidy", absl::UnixEpoch())->size(); };
  Tell({Lost(slot, slot)});
  EXPECT_EQ(runs(), 0U) << "nothing was lost";
  LoseAt(absl::Minutes(11));
  v1::RunEvent told = Lost(slot + absl::Minutes(10), now_);
  Tell({told});
  EXPECT_EQ(runs(), 0U) << "a slot that is to come";
  Tell({Lost(slot, now_ + absl::Minutes(2))});
  EXPECT_EQ(runs(), 0U) << "it began when nothing was lost any more";
  Tell({Lost(slot - absl::Hours(24 * 8), slot)});
  EXPECT_EQ(runs(), 0U) << "no store lags by a week";
  told = Lost(slot, slot);
  told.set_run_id("4f1b9bd4-8a3c-4c5e-9a5d-000000000001");
  Tell({told});
  EXPECT_EQ(runs(), 0U) << "an id that hosts give";
  told = Lost(slot, slot);
  told.mutable_started()->mutable_assigned()->set_job("other");
  Tell({told});
  EXPECT_EQ(runs(), 0U) << "no such job";
  Tell({Lost(slot, slot)});
  EXPECT_EQ(runs(), 1U);
}

}  // namespace
}  // namespace muster::control
