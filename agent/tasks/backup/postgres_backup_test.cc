#include "agent/tasks/backup/backup_fixture.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class PostgresBackups : public BackupJobs {
 protected:
  static void SetUpTestSuite() { MakeOrders(); }
};

TEST_F(PostgresBackups, IsTakenAndReadBack) {
  const Told told = Run(PostgresBackup());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  ASSERT_THAT(told.backups, SizeIs(2));
  EXPECT_EQ(told.backups[0].proof(), v1::BACKUP_PROOF_TAKEN);
  const v1::Backup& backup = told.last();
  EXPECT_EQ(backup.proof(), v1::BACKUP_PROOF_READ_BACK);
  EXPECT_EQ(backup.engine(), v1::BACKUP_ENGINE_POSTGRES_DUMP);
  EXPECT_EQ(backup.database(), "orders");
  EXPECT_EQ(backup.row_count(), 502U);
  ASSERT_THAT(backup.tables(), SizeIs(3));
  EXPECT_EQ(backup.tables(0).table(), "\"odd name\".\"a table\"");
  EXPECT_EQ(backup.system_identifier(),
            std::string(Postgres().Sql("select system_identifier from pg_control_system()"))
                .substr(0, backup.system_identifier().size()));
  EXPECT_GT(backup.stored_bytes(), 0U);
  EXPECT_THAT(backup.manifest_hash(), SizeIs(32));
  EXPECT_EQ(backup.problem(), "");
  ExpectNothingLeft();
}

TEST_F(PostgresBackups, IsRestoredAndAsked) {
  v1::BackupTask task = PostgresBackup(true);
  task.mutable_verify()->add_queries("select count(*) = 500 from orders");
  task.mutable_verify()->add_queries("select current_database() = 'orders'");
  const Told told = Run(task);
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_GT(wire::FromProto(told.last().restore_took()), absl::ZeroDuration());
  ExpectNothingLeft();
}

}  // namespace
}  // namespace muster::agent
