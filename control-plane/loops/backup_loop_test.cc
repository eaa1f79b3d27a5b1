#include "control-plane/loops/backup_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/store/run_events.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

// A store with a backup job that keeps two, and the loop over it.
class BackupLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = *Store::OpenInMemory();
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Job");
    document.mutable_metadata()->set_name("nightly");
    v1::JobSpec& job = *document.mutable_job();
    (*job.mutable_agents())["role"] = "db";
    v1::BackupTask& task = *job.mutable_backup();
    task.mutable_files()->add_paths("/srv/data");
    task.mutable_repository()->set_path("/srv/backups");
    task.mutable_keep()->set_last(2);
    ASSERT_OK(store_->specs().Apply({document}, Note()));
    JobDecision decision;
    decision.row = {.name = "nightly", .spec = job, .generation = 1, .decided_until = now_};
    ASSERT_OK(store_->runs().Decide({}, {decision}, now_));
    spec_ = job;
    Restart();
  }

  AuditNote Note() const { return {.actor = "admin/test", .action = "test", .at = now_}; }

  void Restart() {
    BackupLoopOptions options;
    options.on_summaries = [this](const auto& summaries) { summaries_ = summaries; };
    loop_.emplace(*store_, LeaderEpoch{}, std::move(options));
  }

  // A run of the job that took a backup, read it back, and ended so.
  std::string Run(char digit, v1::RunState state = v1::RUN_STATE_SUCCEEDED) {
    now_ += absl::Hours(24);
    RunRow run{.id = std::string("run-") + digit,
               .job = "nightly",
               .slot = now_,
               .spec = spec_,
               .due_at = now_};
    EXPECT_OK(store_->runs().Start(run, Note()).status());
    run.phase = RunPhase::kOver;
    run.state = state;
    run.agent = "db-1";
    run.fence = 1;
    run.finished_at = now_;
    EXPECT_OK(store_->runs()
                  .Change({},
                          {{.row = run,
                            .expected_phase = RunPhase::kWaiting,
                            .what = "over",
                            .concludes = true}},
                          now_)
                  .status());
    v1::RunEvent event;
    event.set_run_id(run.id);
    event.set_fence(1);
    v1::Backup& backup = *event.mutable_artifact()->mutable_backup();
    backup.set_engine(v1::BACKUP_ENGINE_FILES);
    backup.set_repository_id("repository");
    backup.set_snapshot_id(std::string(64, digit));
    *backup.mutable_taken_at() = wire::ToProto(now_);
    backup.set_proof(v1::BACKUP_PROOF_READ_BACK);
    backup.set_source_bytes(100);
    EXPECT_OK(store_->database().Write([&](sql::Transaction& t) {
      return StoreRunEvents(t, {{"db-1", &event, now_}}, now_);
    }));
    return backup.snapshot_id();
  }

  std::vector<RunRow> Removals() { return *store_->runs().Open(); }

  absl::Time now_ = kStart;
  std::unique_ptr<Store> store_;
  v1::JobSpec spec_;
  std::optional<BackupLoop> loop_;
  std::map<std::string, BackupSummary> summaries_;
};

TEST_F(BackupLoopTest, WhatIsNotKeptIsRemovedOnceByTheAgentThatReachesIt) {
  const std::string oldest = Run('a');
  Run('b');
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_THAT(Removals(), IsEmpty());
  Run('c');
  ASSERT_OK(loop_->Tick(now_));
  ASSERT_OK(loop_->Tick(now_));
  Restart();
  ASSERT_OK(loop_->Tick(now_));
  ASSERT_THAT(Removals(), SizeIs(1));
  const RunRow run = Removals()[0];
  EXPECT_EQ(run.action, "forget");
  EXPECT_EQ(run.trigger, v1::RUN_TRIGGER_FOLLOW_UP);
  EXPECT_EQ(run.spec.agents().at("agent"), "db-1");
  EXPECT_THAT(run.spec.forget_backups().snapshot_ids(), ElementsAre(oldest));
  EXPECT_TRUE(run.spec.forget_backups().prune());
  const auto audit = *store_->audit().List(0, 1000);
  EXPECT_EQ(audit.back().note.action, "backup.forget");
  EXPECT_THAT(audit.back().note.detail, HasSubstr("aaaaaaaa: no rule names it"));
}

TEST_F(BackupLoopTest, NothingIsRemovedAfterAFailure) {
  Run('a');
  Run('b');
  Run('c');
  Run('d', v1::RUN_STATE_FAILED);
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_THAT(Removals(), IsEmpty());
}

TEST_F(BackupLoopTest, WhatIsHeldStays) {
  const std::string oldest = Run('a');
  ASSERT_OK(store_->backups().Hold(oldest, "an audit", Note()).status());
  Run('b');
  Run('c');
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_THAT(Removals(), IsEmpty());
}

TEST_F(BackupLoopTest, AnOldLeaderRemovesNothing) {
  Run('a');
  Run('b');
  Run('c');
  loop_.emplace(*store_, LeaderEpoch{7}, BackupLoopOptions{});
  EXPECT_TRUE(IsFenced(loop_->Tick(now_)));
  EXPECT_THAT(Removals(), IsEmpty());
}

TEST_F(BackupLoopTest, SaysWhatTheCatalogueHoldsOfJobsThatThereAre) {
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_EQ(summaries_.at("nightly").kept, 0U);
  Run('a');
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_EQ(summaries_.at("nightly").verified, 1U);
  EXPECT_EQ(summaries_.at("nightly").verified_at, now_);
  ASSERT_OK(store_->specs().Delete({{"Job", "nightly"}}, Note()));
  ASSERT_OK(loop_->Tick(now_));
  EXPECT_THAT(summaries_, IsEmpty());
}

}  // namespace
}  // namespace muster::control
