#include "control-plane/store/backup_store.h"

#include <gmock/gmock.h>

#include "control-plane/store/run_events.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Id(char digit) { return std::string(64, digit); }

// Runs on the hands of db-1, and what it tells of backups.
class BackupStoreTest : public StoreTest {
 protected:
  // A run that is to do what `fill` writes into its spec.
  template <typename Fill>
  void OnHands(const std::string& id, const std::string& action, Fill fill,
               const std::string& agent = "db-1") {
    RunRow run{.id = id,
               .job = "nightly",
               .slot = at_,
               .trigger = v1::RUN_TRIGGER_MANUAL,
               .action = action,
               .reason = "asked",
               .due_at = at_};
    fill(run.spec);
    const auto started = store_->runs().Start(run, Note());
    ASSERT_OK(started.status());
    RunRow row = *started;
    row.phase = RunPhase::kAssigned;
    row.agent = agent;
    row.fence = 1;
    row.assigned_at = at_;
    const auto made = store_->runs().Change(
        epoch_, {{.row = row, .expected_phase = RunPhase::kWaiting, .what = "assigned"}}, at_);
    ASSERT_OK(made.status());
    ASSERT_EQ(made->made, 1U);
  }

  void Backs(const std::string& run, bool restores = false, const std::string& agent = "db-1") {
    OnHands(
        run, "",
        [&](v1::JobSpec& spec) {
          spec.mutable_backup()->mutable_repository()->set_path("/srv/backups");
          spec.mutable_backup()->mutable_verify()->set_restore(restores);
        },
        agent);
  }

  v1::Backup Backup(const std::string& id, v1::BackupProof proof) const {
    v1::Backup backup;
    backup.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
    backup.set_repository_id("repository");
    backup.set_snapshot_id(id);
    backup.set_source("database orders");
    backup.set_source_bytes(1000);
    *backup.mutable_taken_at() = wire::ToProto(at_);
    backup.set_proof(proof);
    *backup.mutable_proven_at() = wire::ToProto(at_);
    return backup;
  }

  Status Tell(const std::string& run, const v1::Backup& backup, const std::string& agent = "db-1") {
    v1::RunArtifact artifact;
    *artifact.mutable_backup() = backup;
    return Tell(run, artifact, agent);
  }

  Status TellGone(const std::string& run, const std::vector<std::string>& ids,
                  const std::string& repository = "repository") {
    v1::RunArtifact artifact;
    artifact.mutable_forgotten()->set_repository_id(repository);
    for (const std::string& id : ids) artifact.mutable_forgotten()->add_snapshot_ids(id);
    return Tell(run, artifact, "db-1");
  }

  Status Tell(const std::string& run, const v1::RunArtifact& artifact, const std::string& agent) {
    v1::RunEvent event;
    event.set_run_id(run);
    event.set_fence(1);
    *event.mutable_at() = wire::ToProto(at_ + absl::Seconds(5));
    *event.mutable_artifact() = artifact;
    if (!sessions_.contains(agent)) {
      Enrol(agent);
      sessions_[agent] = {OpenSession(agent).epoch, 1};
    }
    auto& [session, first] = sessions_[agent];
    BatchCommit batch = Batch(agent, session, first);
    first += 5;
    batch.run_events = {event};
    const auto outcomes = store_->history().Commit({batch}, at_);
    MUSTER_RETURN_IF_ERROR(outcomes.status());
    return (*outcomes)[0];
  }

  BackupRow Found(const std::string& id) {
    const auto backup = store_->backups().Find(id);
    EXPECT_TRUE(backup.ok() && backup->has_value()) << id;
    return backup.ok() && backup->has_value() ? **backup : BackupRow{};
  }

  std::vector<std::string> Kept() {
    std::vector<std::string> ids;
    const auto kept = store_->backups().Kept();
    EXPECT_TRUE(kept.ok()) << kept.status();
    for (const BackupRow& row : *kept) ids.push_back(row.id().substr(0, 1));
    return ids;
  }

  RunRow ForgetRun(const std::string& id, const std::vector<std::string>& backups) const {
    RunRow run{.id = id,
               .job = "nightly",
               .slot = at_ + absl::Seconds(1),
               .trigger = v1::RUN_TRIGGER_FOLLOW_UP,
               .action = "forget",
               .reason = "1 backups that keep does not keep",
               .due_at = at_};
    for (const std::string& one : backups) run.spec.mutable_forget_backups()->add_snapshot_ids(one);
    return run;
  }

  absl::Time at_ = now_;
  std::map<std::string, std::pair<uint64_t, uint64_t>> sessions_;
};

TEST_P(BackupStoreTest, WhatIsToldIsKnown) {
  Backs("run-1");
  v1::Backup told = Backup(Id('a'), v1::BACKUP_PROOF_TAKEN);
  v1::TableRows& table = *told.add_tables();
  table.set_table("public.orders");
  table.set_rows(7);
  const uint64_t before = *store_->backups().Revision();
  ASSERT_OK(Tell("run-1", told));
  EXPECT_GT(*store_->backups().Revision(), before);
  const BackupRow row = Found(Id('a'));
  EXPECT_EQ(row.job, "nightly");
  EXPECT_EQ(row.agent, "db-1");
  EXPECT_EQ(row.run, "run-1");
  EXPECT_EQ(row.spec.backup().repository().path(), "/srv/backups");
  ASSERT_EQ(row.backup.tables_size(), 1);
  EXPECT_EQ(row.backup.tables(0).rows(), 7U);
  EXPECT_FALSE(IsVerified(row));
  // Lists go without the tables.
  EXPECT_EQ((*store_->backups().Kept())[0].backup.tables_size(), 0);
}

TEST_P(BackupStoreTest, AProofIsAddedAndNoLesserOneTakesItAway) {
  Backs("run-1", /*restores=*/true);
  ASSERT_OK(Tell("run-1", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  EXPECT_FALSE(IsVerified(Found(Id('a'))));  // its job asks for more
  v1::Backup restored = Backup(Id('a'), v1::BACKUP_PROOF_RESTORED);
  *restored.mutable_restore_took() = wire::ToProto(absl::Seconds(9));
  ASSERT_OK(Tell("run-1", restored));
  EXPECT_TRUE(IsVerified(Found(Id('a'))));
  OnHands("run-2", "verify", [](v1::JobSpec& spec) {
    spec.mutable_verify_backup()->mutable_backup()->set_snapshot_id(Id('a'));
  });
  ASSERT_OK(Tell("run-2", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  const BackupRow row = Found(Id('a'));
  EXPECT_EQ(row.backup.proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_EQ(wire::FromProto(row.backup.restore_took()), absl::Seconds(9));
}

TEST_P(BackupStoreTest, AProblemCountsUntilTheNextProof) {
  Backs("run-1");
  ASSERT_OK(Tell("run-1", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  OnHands("run-2", "verify", [](v1::JobSpec& spec) {
    spec.mutable_verify_backup()->mutable_backup()->set_snapshot_id(Id('a'));
  });
  v1::Backup bad = Backup(Id('a'), v1::BACKUP_PROOF_TAKEN);
  bad.set_problem("a byte\nis wrong");
  ASSERT_OK(Tell("run-2", bad));
  EXPECT_EQ(Found(Id('a')).backup.problem(), "a byte is wrong");
  EXPECT_FALSE(IsVerified(Found(Id('a'))));
  ASSERT_OK(Tell("run-2", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  EXPECT_TRUE(IsVerified(Found(Id('a'))));
}

TEST_P(BackupStoreTest, AnAgentTellsOfItsOwnBackupsOnly) {
  Backs("run-1");
  ASSERT_OK(Tell("run-1", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  // Another run of backup, on another agent.
  at_ += absl::Seconds(1);
  Backs("run-2", false, "db-2");
  v1::Backup bad = Backup(Id('a'), v1::BACKUP_PROOF_TAKEN);
  bad.set_problem("not so");
  ASSERT_OK(Tell("run-2", bad, "db-2"));
  EXPECT_TRUE(IsVerified(Found(Id('a'))));
  // Of a run that is another agent's.
  ASSERT_OK(Tell("run-1", bad, "db-2"));
  EXPECT_TRUE(IsVerified(Found(Id('a'))));
  // A run that does nothing with backups makes none.
  at_ += absl::Seconds(1);
  OnHands("run-3", "", [](v1::JobSpec& spec) { spec.mutable_command()->add_argv("/bin/true"); });
  ASSERT_OK(Tell("run-3", Backup(Id('b'), v1::BACKUP_PROOF_RESTORED)));
  EXPECT_FALSE(store_->backups().Find(Id('b'))->has_value());
  // What is no snapshot's id is none.
  ASSERT_OK(Tell("run-1", Backup("../etc", v1::BACKUP_PROOF_RESTORED)));
  EXPECT_THAT(Kept(), ElementsAre("a"));
}

TEST_P(BackupStoreTest, AClockAheadMakesNoBackupYounger) {
  Backs("run-1");
  v1::Backup backup = Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK);
  *backup.mutable_taken_at() = wire::ToProto(at_ + absl::Hours(1000));
  ASSERT_OK(Tell("run-1", backup));
  EXPECT_EQ(wire::FromProto(Found(Id('a')).backup.taken_at()), at_);
}

TEST_P(BackupStoreTest, OnlyWhatWasToBeRemovedIsForgotten) {
  Backs("run-1");
  for (const char digit : {'a', 'b', 'c'})
    ASSERT_OK(Tell("run-1", Backup(Id(digit), v1::BACKUP_PROOF_READ_BACK)));
  OnHands("run-2", "forget", [](v1::JobSpec& spec) {
    spec.mutable_forget_backups()->add_snapshot_ids(Id('a'));
    spec.mutable_forget_backups()->add_snapshot_ids(Id('b'));
  });
  ASSERT_OK(TellGone("run-2", {Id('a'), Id('c')}));
  EXPECT_THAT(Kept(), ElementsAre("b", "c"));
  EXPECT_EQ(Found(Id('a')).forgotten_by, "run-2");
  // In another repository it is still there.
  ASSERT_OK(TellGone("run-2", {Id('b')}, "another"));
  EXPECT_THAT(Kept(), ElementsAre("b", "c"));
  const auto audit = store_->audit().List(0, 1000);
  ASSERT_OK(audit.status());
  EXPECT_EQ(audit->back().note.action, "backup.forgotten");
  EXPECT_EQ(audit->back().note.actor, "agent/db-1");
}

TEST_P(BackupStoreTest, AListOfTheRepositoryBringsBackWhatIsNotKnown) {
  OnHands("run-1", "list", [](v1::JobSpec& spec) {
    spec.mutable_list_backups()->mutable_repository()->set_path("/srv/backups");
  });
  v1::Backup listed = Backup(Id('a'), v1::BACKUP_PROOF_TAKEN);
  listed.set_made_by_job("nightly");
  listed.set_made_by_run("run-0");
  ASSERT_OK(Tell("run-1", listed));
  EXPECT_EQ(Found(Id('a')).run, "run-0");
  EXPECT_FALSE(IsVerified(Found(Id('a'))));
  // Of another job than was asked for, and proven: neither is taken from a list.
  at_ += absl::Seconds(1);
  OnHands("run-3", "list",
          [](v1::JobSpec& spec) { spec.mutable_list_backups()->set_job("nightly"); });
  v1::Backup boast = Backup(Id('b'), v1::BACKUP_PROOF_RESTORED);
  boast.set_made_by_job("weekly");
  ASSERT_OK(Tell("run-3", boast));
  EXPECT_EQ(Found(Id('b')).job, "nightly");
  EXPECT_FALSE(IsVerified(Found(Id('b'))));
  // What is known better stays as it is.
  OnHands("run-2", "verify", [](v1::JobSpec& spec) {
    spec.mutable_verify_backup()->mutable_backup()->set_snapshot_id(Id('a'));
  });
  ASSERT_OK(Tell("run-2", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  listed.set_problem("its manifest cannot be read");
  ASSERT_OK(Tell("run-1", listed));
  EXPECT_TRUE(IsVerified(Found(Id('a'))));
}

// Whoever has an agent's certificate must not fill the store with backups that are nowhere.
TEST_P(BackupStoreTest, ACatalogueTakesSoManyOfOneAgentAndNoMore) {
  OnHands("run-1", "list", [](v1::JobSpec& spec) {
    spec.mutable_list_backups()->mutable_repository()->set_path("/srv/backups");
  });
  ASSERT_OK(Tell("run-1", Backup(Id('a'), v1::BACKUP_PROOF_TAKEN)));
  const Status filled = store_->database().Write([](sql::Transaction& t) {
    return t
        .Execute(
            "INSERT INTO backups (snapshot_id, job, agent, run, spec, body, tables, taken_at, "
            "held_because, held_by, forgotten_at, forgotten_by) WITH RECURSIVE n(i) AS (SELECT 1 "
            "UNION ALL SELECT i + 1 FROM n WHERE i < 99998) SELECT 'x' || i, job, agent, run, "
            "spec, body, tables, taken_at, held_because, held_by, forgotten_at, forgotten_by FROM "
            "n, backups",
            {})
        .status();
  });
  ASSERT_OK(filled);
  ASSERT_OK(Tell("run-1", Backup(Id('b'), v1::BACKUP_PROOF_TAKEN)));
  EXPECT_EQ(Found(Id('b')).agent, "db-1");
  ASSERT_OK(Tell("run-1", Backup(Id('c'), v1::BACKUP_PROOF_TAKEN)));
  EXPECT_FALSE(store_->backups().Find(Id('c'))->has_value());
}

TEST_P(BackupStoreTest, ALabelIsOneServersBackupOrSaysOfWhich) {
  constexpr char kLabel[] = "20261128-020000F";
  constexpr char kNext[] = "20261128-020000F_20261128-140000I";
  const auto of_stanza = [&](const std::string& label, const std::string& repository) {
    v1::Backup backup = Backup(label, v1::BACKUP_PROOF_READ_BACK);
    backup.set_engine(v1::BACKUP_ENGINE_PGBACKREST);
    backup.set_repository_id(repository);
    return backup;
  };
  Backs("run-1");
  ASSERT_OK(Tell("run-1", of_stanza(kLabel, "main:1")));
  ASSERT_OK(Tell("run-1", of_stanza(kNext, "main:1")));
  EXPECT_EQ(Found(kLabel).id(), "20261128-020000F@main:1");
  EXPECT_EQ(Found(kNext).id(), "20261128-020000F_20261128-140000I@main:1");
  Backs("run-2", false, "db-2");
  ASSERT_OK(Tell("run-2", of_stanza(kLabel, "main:2"), "db-2"));
  const Status which = store_->backups().Find(kLabel).status();
  EXPECT_EQ(CodeOf(which), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Message(which)), HasSubstr("20261128-020000F@main:2"));
  EXPECT_EQ(Found("20261128-020000F@main:2").agent, "db-2");
  // What is removed of one server is there of the other.
  OnHands("run-3", "forget",
          [&](v1::JobSpec& spec) { spec.mutable_forget_backups()->add_snapshot_ids(kLabel); });
  ASSERT_OK(TellGone("run-3", {kLabel}, "main:1"));
  EXPECT_EQ(Found("20261128-020000F@main:1").forgotten_by, "run-3");
  EXPECT_EQ(Found("20261128-020000F@main:2").forgotten_by, "");
  // A label without its server is nobody's.
  ASSERT_OK(Tell("run-1", of_stanza("20261128-030000F", "")));
  EXPECT_FALSE(store_->backups().Find("20261128-030000F")->has_value());
}

TEST_P(BackupStoreTest, WhatIsHeldIsNotRemoved) {
  Backs("run-1");
  ASSERT_OK(Tell("run-1", Backup(Id('a'), v1::BACKUP_PROOF_READ_BACK)));
  const auto held = store_->backups().Hold(Id('a'), "an audit", Note("backup.hold"));
  ASSERT_OK(held.status());
  EXPECT_EQ(held->held_because, "an audit");
  RunRow run = ForgetRun("run-2", {Id('a')});
  EXPECT_EQ(CodeOf(store_->backups().StartForget(epoch_, run, Note()).status()),
            absl::StatusCode::kAborted);
  ASSERT_OK(store_->backups().Hold(Id('a'), "", Note("backup.release")).status());
  const auto added = store_->backups().StartForget(epoch_, run, Note());
  ASSERT_OK(added.status());
  EXPECT_TRUE(*added);
  EXPECT_FALSE(*store_->backups().StartForget(epoch_, run, Note()));
  // Too late to hold it, for now.
  const Status late = store_->backups().Hold(Id('a'), "wait", Note()).status();
  EXPECT_EQ(CodeOf(late), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Message(late)), HasSubstr("musterctl cancel run-2"));
}

TEST_P(BackupStoreTest, AnOldLeaderRemovesNothing) {
  RunRow run = ForgetRun("run-2", {Id('a')});
  EXPECT_TRUE(
      IsFenced(store_->backups().StartForget(LeaderEpoch{epoch_.value + 1}, run, Note()).status()));
  EXPECT_THAT(*store_->runs().Open(), IsEmpty());
}

TEST_P(BackupStoreTest, WhyBackupsCouldNotBeRemovedIsKnownOfTheJob) {
  JobDecision decision;
  decision.row = {.name = "nightly", .generation = 1, .decided_until = at_};
  ASSERT_OK(store_->runs().Decide(epoch_, {decision}, at_));
  const auto conclude = [&](const std::string& id, v1::RunState state, const std::string& why) {
    RunRow run = ForgetRun(id, {Id('a')});
    run.slot = at_ += absl::Seconds(1);
    ASSERT_OK(store_->backups().StartForget(epoch_, run, Note()).status());
    run.phase = RunPhase::kOver;
    run.state = state;
    run.reason = why;
    ASSERT_OK(store_->runs()
                  .Change(epoch_,
                          {{.row = run,
                            .expected_phase = RunPhase::kWaiting,
                            .what = "over",
                            .concludes = true}},
                          at_)
                  .status());
  };
  conclude("run-1", v1::RUN_STATE_FAILED, "add forget to jobs in policy.yaml");
  const JobRow failed = (*store_->runs().Jobs())[0];
  EXPECT_EQ(failed.keep_problem, "add forget to jobs in policy.yaml");
  EXPECT_EQ(failed.health.run, "");  // the job's own health is its own runs'
  conclude("run-2", v1::RUN_STATE_SUCCEEDED, "removed 1 backups");
  EXPECT_EQ((*store_->runs().Jobs())[0].keep_problem, "");
}

TEST_P(BackupStoreTest, ListsNewestFirstByPagesAndDropsWhatWasForgottenLongAgo) {
  Backs("run-1");
  const absl::Time start = at_;
  for (const char digit : {'a', 'b', 'c'}) {
    at_ += absl::Seconds(10);
    ASSERT_OK(Tell("run-1", Backup(Id(digit), v1::BACKUP_PROOF_READ_BACK)));
  }
  const auto first = store_->backups().List({.job = "nightly"}, at_ + absl::Hours(1), "", 2);
  ASSERT_OK(first.status());
  ASSERT_EQ(first->size(), 2U);
  EXPECT_EQ((*first)[0].id(), Id('c'));
  const auto rest = store_->backups().List({}, wire::FromProto((*first)[1].backup.taken_at()),
                                           (*first)[1].id(), 2);
  ASSERT_EQ(rest->size(), 1U);
  EXPECT_EQ((*rest)[0].id(), Id('a'));
  EXPECT_THAT(*store_->backups().List({.id_prefix = "bbbb"}, at_ + absl::Hours(1), "", 9),
              ::testing::SizeIs(1));
  OnHands("run-2", "forget",
          [](v1::JobSpec& spec) { spec.mutable_forget_backups()->add_snapshot_ids(Id('a')); });
  ASSERT_OK(TellGone("run-2", {Id('a')}));
  EXPECT_THAT(*store_->backups().List({.forgotten = true}, at_ + absl::Hours(1), "", 9),
              ::testing::SizeIs(3));
  EXPECT_EQ(*store_->backups().DropForgottenBefore(epoch_, start, 10), 0U);
  EXPECT_EQ(*store_->backups().DropForgottenBefore(epoch_, at_ + absl::Hours(1), 10), 1U);
  EXPECT_FALSE(store_->backups().Find(Id('a'))->has_value());
}

MUSTER_ON_EVERY_BACKEND(BackupStoreTest);

}  // namespace
}  // namespace muster::control
