#include "control-plane/decide/backup_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/decide/backup_run.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = *ParseTime("2026-11-28T12:00:00Z");

BackupRow Backup(char digit, absl::Duration age, uint64_t mebibytes = 100) {
  BackupRow row;
  row.job = "nightly";
  row.agent = "db-1";
  row.backup.set_snapshot_id(std::string(64, digit));
  row.backup.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
  row.backup.set_proof(v1::BACKUP_PROOF_READ_BACK);
  row.backup.set_source_bytes(mebibytes << 20);
  *row.backup.mutable_taken_at() = wire::ToProto(kNow - age);
  return row;
}

// One each day: the newest is an hour old.
std::vector<BackupRow> Daily(int days) {
  std::vector<BackupRow> rows;
  for (int i = 0; i < days; ++i)
    rows.push_back(Backup(static_cast<char>('a' + i), absl::Hours(1 + 24 * i)));
  return rows;
}

BackupHealth Judge(const std::vector<BackupRow>& rows, absl::Duration within = absl::Hours(26),
                   absl::Duration since = absl::Hours(1000), const std::string& keep = "") {
  v1::BackupTask task;
  *task.mutable_verified_within() = wire::ToProto(within);
  const auto summaries = Summaries(rows);
  const auto found = summaries.find("nightly");
  const BackupSummary summary = found == summaries.end() ? BackupSummary{} : found->second;
  return JudgeBackups({task, summary, keep, kNow - since}, kNow);
}

TEST(BackupHealth, IsGoodWithAYoungVerifiedBackup) {
  EXPECT_EQ(Judge(Daily(5)).severity, v1::SEVERITY_UNSPECIFIED);
}

TEST(BackupHealth, ASummaryIsOfEachJob) {
  std::vector<BackupRow> rows = Daily(3);
  rows[1].job = "weekly";
  rows[0].backup.clear_proof();
  *rows[2].backup.mutable_restore_took() = wire::ToProto(absl::Seconds(7));
  const auto summaries = Summaries(rows);
  const BackupSummary& nightly = summaries.at("nightly");
  EXPECT_EQ(nightly.kept, 2U);
  EXPECT_EQ(nightly.verified, 1U);
  EXPECT_EQ(nightly.newest_at, kNow - absl::Hours(1));
  EXPECT_EQ(nightly.verified_at, kNow - absl::Hours(49));
  EXPECT_EQ(nightly.restore_took, absl::Seconds(7));
  EXPECT_EQ(summaries.at("weekly").kept, 1U);
}

TEST(BackupHealth, OneThatIsTooOldIsCritical) {
  std::vector<BackupRow> rows = {Backup('a', absl::Hours(30))};
  const BackupHealth health = Judge(rows);
  EXPECT_EQ(health.severity, v1::SEVERITY_CRITICAL);
  EXPECT_EQ(health.summary,
            "no verified backup is younger than 1d2h: the newest is of 2026-11-27T06:00:00Z");
}

TEST(BackupHealth, OneThatWasNotVerifiedCountsForNothing) {
  std::vector<BackupRow> rows = {Backup('a', absl::Hours(1))};
  rows[0].backup.set_proof(v1::BACKUP_PROOF_TAKEN);
  EXPECT_THAT(Judge(rows).summary, HasSubstr("there is none"));
  rows[0].backup.set_proof(v1::BACKUP_PROOF_READ_BACK);
  rows[0].spec.mutable_backup()->mutable_verify()->set_restore(true);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_CRITICAL);
  // Of files, that every byte is there is all that can be proven.
  rows[0].backup.set_engine(v1::BACKUP_ENGINE_FILES);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_UNSPECIFIED);
}

TEST(BackupHealth, ANewJobHasItsTime) {
  EXPECT_EQ(Judge({}, absl::Hours(26), absl::Hours(25)).severity, v1::SEVERITY_UNSPECIFIED);
  EXPECT_EQ(Judge({}, absl::Hours(26), absl::Hours(27)).severity, v1::SEVERITY_CRITICAL);
}

TEST(BackupHealth, ABadOneIsToldAndWorseIfItIsTheNewest) {
  std::vector<BackupRow> rows = Daily(4);
  rows[2].backup.set_problem("blob 3f is damaged");
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_WARNING);
  EXPECT_THAT(Judge(rows).summary,
              HasSubstr("the backup cccccccc of 2026-11-26T11:00:00Z must not be relied upon: blob "
                        "3f is damaged"));
  rows[0].backup.set_problem("not whole");
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_CRITICAL);
}

TEST(BackupHealth, AnUnusualSizeIsTold) {
  std::vector<BackupRow> rows = Daily(5);
  rows[0].backup.set_source_bytes(49 << 20);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_WARNING);
  EXPECT_THAT(Judge(rows).summary, HasSubstr("is of 49.0 MiB, and 100.0 MiB are usual"));
  rows[0].backup.set_source_bytes(uint64_t{201} << 20);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_WARNING);
  rows[0].backup.set_source_bytes(uint64_t{60} << 20);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_UNSPECIFIED);
  // Three before it are too few to know what is usual; small differences say nothing.
  rows.resize(3);
  rows[0].backup.set_source_bytes(0);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_UNSPECIFIED);
  rows = Daily(5);
  for (BackupRow& row : rows) row.backup.set_source_bytes(1000);
  rows[0].backup.set_source_bytes(100'000);
  EXPECT_EQ(Judge(rows).severity, v1::SEVERITY_UNSPECIFIED);
}

TEST(BackupHealth, ThatNothingIsRemovedIsTold) {
  const BackupHealth health =
      Judge(Daily(3), absl::Hours(26), absl::Hours(1000), "add forget to jobs in policy.yaml");
  EXPECT_EQ(health.severity, v1::SEVERITY_WARNING);
  EXPECT_EQ(health.summary, "old backups could not be removed: add forget to jobs in policy.yaml");
}

TEST(BackupRun, IsOnTheAgentAloneAndHoldsNothingBack) {
  v1::JobSpec job;
  (*job.mutable_agents())["role"] = "db";
  *job.mutable_deadline() = wire::ToProto(absl::Hours(2));
  job.add_exclusive("database/orders");
  job.mutable_schedule()->set_cron("@daily");
  job.mutable_retry()->set_attempts(3);
  const v1::JobSpec beside = Beside(job, "db-1");
  EXPECT_EQ(beside.agents().at("agent"), "db-1");
  EXPECT_EQ(beside.agents_size(), 1);
  EXPECT_EQ(wire::FromProto(beside.deadline()), absl::Hours(2));
  EXPECT_FALSE(beside.has_schedule() || beside.has_retry());
  EXPECT_EQ(beside.exclusive_size(), 0);
  EXPECT_EQ(Beside(job, "").agents().at("role"), "db");
}

TEST(BackupRun, MakesNoRepositoryWhereItOnlyReads) {
  v1::BackupTask task;
  task.mutable_repository()->set_path("/srv/backups");
  task.mutable_repository()->set_create(true);
  task.set_staging("/srv/staging");
  BackupRow row = Backup('a', absl::Hours(1));
  row.backup.set_manifest_hash(std::string(32, '\x0f'));
  const v1::VerifyBackupTask verify = VerifyTask(task, row.backup, true);
  EXPECT_FALSE(verify.repository().create());
  EXPECT_EQ(verify.repository().path(), "/srv/backups");
  EXPECT_EQ(verify.staging(), "/srv/staging");
  EXPECT_TRUE(verify.verify().restore());
  EXPECT_EQ(verify.backup().snapshot_id(), row.id());
  EXPECT_THAT(verify.backup().manifest_hash(), HasSubstr("0f0f"));
  EXPECT_EQ(verify.parallel(), 1U);
  EXPECT_FALSE(VerifyTask(task, row.backup, false).verify().restore());
}

TEST(BackupRun, ReachesABackupWhoseJobIsDeleted) {
  BackupRow row = Backup('a', absl::Hours(1));
  EXPECT_FALSE(TaskOf(row, nullptr).ok());
  row.spec.mutable_backup()->mutable_repository()->set_path("/srv/old");
  EXPECT_EQ(TaskOf(row, nullptr)->repository().path(), "/srv/old");
  v1::JobSpec job;
  job.mutable_backup()->mutable_repository()->set_path("/srv/new");
  EXPECT_EQ(TaskOf(row, &job)->repository().path(), "/srv/new");
  row.spec.mutable_list_backups()->mutable_repository()->set_path("/srv/listed");
  EXPECT_EQ(TaskOf(row, nullptr)->repository().path(), "/srv/listed");
}

TEST(BackupRun, RemovesTheOldestFirst) {
  const std::vector<BackupRow> rows = Daily(4);
  const std::vector<RetentionDecision> decisions = {{rows[0].id(), true, "newest"},
                                                    {rows[1].id(), false, "no rule names it"},
                                                    {rows[2].id(), true, "held"},
                                                    {rows[3].id(), false, "no rule names it"}};
  const Dispensable gone = DispensableOf(rows, decisions);
  EXPECT_EQ(gone.agent, "db-1");
  EXPECT_THAT(gone.ids, ElementsAre(rows[3].id(), rows[1].id()));
  EXPECT_EQ(gone.named, "; dddddddd: no rule names it; bbbbbbbb: no rule names it");
  EXPECT_TRUE(DispensableOf({}, {}).ids.empty());
}

}  // namespace
}  // namespace muster::control
