#include "control-plane/decide/backup_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

v1::JobSpec Nightly() {
  v1::JobSpec job;
  (*job.mutable_agents())["role"] = "db";
  job.add_exclusive("database/orders");
  v1::BackupTask& task = *job.mutable_backup();
  task.mutable_postgres()->set_dsn("host=127.0.0.1");
  task.mutable_postgres()->set_parallel(3);
  task.mutable_repository()->set_path("/srv/backups");
  task.mutable_repository()->set_create(true);
  task.mutable_verify()->add_queries("select true");
  return job;
}

v1::JobSpec Drill() {
  v1::JobSpec job;
  job.mutable_deadline()->set_seconds(600);
  job.mutable_drill_backup()->set_job("nightly");
  return job;
}

BackupRow Backup(char digit, const std::string& problem = "") {
  BackupRow row;
  row.backup.set_snapshot_id(std::string(64, digit));
  row.backup.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
  row.backup.set_problem(problem);
  row.job = "nightly";
  row.agent = "db-1";
  row.spec = Nightly();
  return row;
}

TEST(Drill, ProvesTheNewestBackupThatNothingIsWrongWith) {
  const v1::JobSpec job = Nightly();
  const auto spec =
      DrillOf(Drill(), {Backup('c', "it is not whole"), Backup('b'), Backup('a')}, &job);
  ASSERT_TRUE(spec.has_value());
  const v1::VerifyBackupTask& task = spec->verify_backup();
  EXPECT_EQ(task.backup().snapshot_id(), std::string(64, 'b'));
  EXPECT_TRUE(task.verify().restore());
  EXPECT_THAT(task.verify().queries(), ElementsAre("select true"));
  EXPECT_EQ(task.parallel(), 3U);
  EXPECT_EQ(task.repository().path(), "/srv/backups");
  EXPECT_FALSE(task.repository().create());
  EXPECT_EQ(spec->deadline().seconds(), 600);
}

TEST(Drill, WithoutAWholeBackupThereIsNothingToProve) {
  const v1::JobSpec job = Nightly();
  EXPECT_FALSE(DrillOf(Drill(), {}, &job).has_value());
  EXPECT_FALSE(DrillOf(Drill(), {Backup('a', "spoilt")}, &job).has_value());
}

TEST(Drill, RunsWhereTheBackupWasMadeUnlessItSaysWhere) {
  const v1::JobSpec job = Nightly();
  EXPECT_EQ(DrillOf(Drill(), {Backup('a')}, &job)->agents().at("agent"), "db-1");
  v1::JobSpec elsewhere = Drill();
  (*elsewhere.mutable_agents())["role"] = "drill";
  const auto spec = DrillOf(elsewhere, {Backup('a')}, &job);
  EXPECT_EQ(spec->agents().size(), 1U);
  EXPECT_EQ(spec->agents().at("role"), "drill");
}

TEST(Drill, HoldsWhatTheJobHolds) {
  const v1::JobSpec job = Nightly();
  EXPECT_THAT(DrillOf(Drill(), {Backup('a')}, &job)->exclusive(),
              IsSupersetOf({"database/orders", "job/nightly"}));
}

TEST(Drill, OfAJobThatIsDeletedGoesByWhatMadeTheBackup) {
  const auto spec = DrillOf(Drill(), {Backup('a')}, nullptr);
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->verify_backup().repository().path(), "/srv/backups");
}

}  // namespace
}  // namespace muster::control
