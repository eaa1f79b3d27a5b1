#include "agent/tasks/backup/backup_fixture.h"
#include "lib/base/text.h"

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
  std::filesystem::remove_all(repository());  // then it is made
  const Told told = Run(PostgresTask());
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
  v1::BackupTask task = PostgresTask(true);
  task.mutable_verify()->add_queries("select count(*) = 500 from orders");
  task.mutable_verify()->add_queries("select current_database() = 'orders'");
  const Told told = Run(task);
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_GT(wire::FromProto(told.last().restore_took()), absl::ZeroDuration());
  ExpectNothingLeft();
}

TEST_F(PostgresBackups, FailWhenAQueryIsNotTrue) {
  v1::BackupTask task = PostgresTask(true);
  task.mutable_verify()->add_queries("select count(*) = 7 from orders");
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("answers 'f', not true"));
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_READ_BACK);
  EXPECT_EQ(told.last().problem(), told.end.reason());
  ExpectNothingLeft();
}

// Who may write a job must not come to what the host's policy does not allow by it.
TEST_F(PostgresBackups, AskQueriesThatReachTablesAndNothingElse) {
  for (const char* query :
       {"select pg_read_file('/etc/hostname') is not null", "select pg_ls_dir('/') is not null",
        "copy (select true) to program 'cat'", "set role muster_throw_away"}) {
    v1::BackupTask task = PostgresTask(true);
    task.mutable_verify()->add_queries(query);
    const Told told = Run(task);
    EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED) << query;
    EXPECT_THAT(told.end.reason(), HasSubstr("42501")) << query;
  }
}

// Whoever may write to the source could have put it there; the throw-away server is a superuser's,
// and runs as the user who owns the real ones.
TEST_F(PostgresBackups, KeepWhatTheyBringAlongFromTheHost) {
  if (!exec::CanConfineFiles()) GTEST_SKIP() << "this kernel has no Landlock";
  const std::string outside = File("outside");
  std::filesystem::create_directory(outside);
  ::chmod(outside.c_str(), 0777);
  Sql("create extension dblink; create table reached(id int)");
  Sql(fmt::format(
      "create function reach_out() returns bool language plpgsql as $$ begin "
      "begin copy (select 1) to program 'touch {0}/ran'; exception when others then null; end; "
      "begin copy (select 1) to '{0}/wrote'; exception when others then null; end; "
      "begin perform public.dblink_exec('host=127.0.0.1 port={1} user=postgres dbname=orders', "
      "'insert into public.reached values (1)'); exception when others then null; end; "
      "return true; end $$; "
      "create table sly(id int check (reach_out())); insert into sly values (1)",
      outside, Postgres().port()));
  // So it does what it is made for, where it may.
  EXPECT_TRUE(std::filesystem::remove(outside + "/ran"));
  EXPECT_TRUE(std::filesystem::remove(outside + "/wrote"));
  EXPECT_EQ(Sql("select count(*) from reached"), "1\n");

  const Told told = Run(PostgresTask(true));
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_TRUE(std::filesystem::is_empty(outside));
  EXPECT_EQ(Sql("select count(*) from reached"), "1\n");
  Sql("drop table sly, reached; drop function reach_out; drop extension dblink");
}

// Every process of the host, while a backup is made, and every file afterwards.
TEST_F(PostgresBackups, ShowNoPasswordToAnybody) {
  const std::string run = Assign(Job(PostgresTask(true)));
  std::set<std::string> seen;
  const Told told = Wait(run, [&] {
    for (const auto& process : std::filesystem::directory_iterator("/proc")) {
      const std::string line = ReadFile(process.path() / "cmdline").value_or("");
      seen.insert(line.substr(0, line.find('\0')));
      EXPECT_THAT(line, Not(HasSubstr(Canary()))) << line;
    }
  });
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  EXPECT_TRUE(seen.contains("/usr/bin/restic"));
  EXPECT_THAT(told.output, Not(HasSubstr(Canary())));
  StopAgent();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
    const std::string name = entry.path().filename();
    if (!entry.is_regular_file() || name == "pg.dsn" || name == "repository.key") continue;
    EXPECT_THAT(ReadFile(entry.path()).value_or(""), Not(HasSubstr(Canary()))) << entry.path();
  }
}

TEST_F(PostgresBackups, FailWithAClearReason) {
  v1::BackupTask task = PostgresTask();
  Write("pg.dsn", fmt::format("host=127.0.0.1 port={} user=keeper password=wrong dbname=orders",
                              Postgres().port()));
  Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("password authentication failed"));
  EXPECT_THAT(told.backups, IsEmpty());

  Write("pg.dsn", "host=127.0.0.1 port=1 user=keeper dbname=orders");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("Connection refused"));

  Write("pg.dsn", fmt::format("host=127.0.0.1 port={} user=stranger password={} dbname=orders",
                              Postgres().port(), PgPassword()));
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("grant pg_read_all_data"));

  Write("repository.key", "another");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("is wrong: it must be what"));

  task.mutable_repository()->set_path(File("elsewhere"));
  task.mutable_repository()->set_create(false);
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("set repository.create: true"));
  ExpectNothingLeft();
}

TEST_F(PostgresBackups, NeverBeginWhereThePolicyForbidsIt) {
  Allow("jobs: [command]");
  const Told told = Run(PostgresTask());
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_THAT(told.end.reason(), HasSubstr("add backup to jobs in policy.yaml"));

  Allow("jobs: [backup], networks: [10.0.0.0/8]");
  EXPECT_THAT(Run(PostgresTask()).end.reason(), HasSubstr("add 127.0.0.1/32 to networks"));

  v1::BackupTask task = PostgresTask();
  task.mutable_repository()->set_path("/srv/elsewhere");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("add /srv/elsewhere to paths"));
}

TEST_F(PostgresBackups, RemoveWhatADeadRunLeft) {
  std::filesystem::create_directories(staging() + "/run-dead/make/dump");
  std::ofstream(staging() + "/run-dead/make/dump/1.dat") << "half";
  const Told told = Run(PostgresTask());
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  EXPECT_THAT(told.output, HasSubstr("removed what 1 runs had left"));
  ExpectNothingLeft();
}

TEST_F(PostgresBackups, EndWhenTheyAreCancelledAndAtTheirDeadline) {
  const std::string holder =
      fmt::format("host=127.0.0.1 port={} user=postgres dbname=orders", Postgres().port());
  // Somebody holds a table, so the backup waits for it.
  testing::ServerProcess lock(
      {"psql", "-X", "-d", holder, "-c", "begin; lock table orders; select pg_sleep(60)"},
      File("lock.log"));
  ASSERT_TRUE(testing::Eventually([] {
    return Sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted")
               .substr(0, 1) != "0";
  }));
  const std::string run = Assign(Job(PostgresTask()));
  ASSERT_TRUE(testing::Eventually([] {
    return Sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
               .substr(0, 1) != "0";
  }));
  Stop(run);
  const Told told = Wait(run);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_CANCELLED) << told.end.reason();
  EXPECT_THAT(told.backups, IsEmpty());
  v1::JobSpec late = Job(PostgresTask());
  *late.mutable_deadline() = wire::ToProto(absl::Seconds(4));
  const Told timed_out = Run(late);
  EXPECT_EQ(timed_out.end.outcome(), v1::RUN_OUTCOME_TIMED_OUT) << timed_out.end.reason();
  ExpectNothingLeft();
  lock.Stop(9);
  Sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and "
      "pid <> pg_backend_pid()");
}

// What restic stored is spoilt behind its back: reading all of it back notices.
TEST_F(PostgresBackups, AreNotReadBackFromADamagedRepository) {
  const Told told = Run(PostgresTask());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  v1::JobSpec verify;
  v1::VerifyBackupTask& task = *verify.mutable_verify_backup();
  task.mutable_backup()->set_snapshot_id(told.last().snapshot_id());
  task.mutable_backup()->set_engine(told.last().engine());
  task.mutable_backup()->set_manifest_hash(HexEncode(told.last().manifest_hash()));
  *task.mutable_repository() = RepositorySpec();
  task.set_staging(staging());
  *verify.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  const Told good = Run(verify);
  EXPECT_EQ(good.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << good.end.reason();
  EXPECT_EQ(good.last().proof(), v1::BACKUP_PROOF_READ_BACK);

  // A catalogue that was lost has it again from the repository, and the way to prove it.
  v1::JobSpec list;
  *list.mutable_list_backups()->mutable_repository() = RepositorySpec();
  list.mutable_list_backups()->set_staging(staging());
  *list.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  const Told listed = Run(list);
  EXPECT_EQ(listed.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << listed.end.reason();
  EXPECT_EQ(listed.last().snapshot_id(), told.last().snapshot_id());
  EXPECT_EQ(listed.last().manifest_hash(), told.last().manifest_hash());
  EXPECT_EQ(listed.last().system_identifier(), told.last().system_identifier());
  EXPECT_EQ(listed.last().source_bytes(), told.last().source_bytes());
  EXPECT_EQ(listed.last().proof(), v1::BACKUP_PROOF_TAKEN);

  // A restore goes to a new database, never over one that is there.
  v1::JobSpec restore;
  v1::RestoreBackupTask& to = *restore.mutable_restore_backup();
  *to.mutable_backup() = task.backup();
  *to.mutable_repository() = RepositorySpec();
  to.set_staging(staging());
  to.mutable_postgres()->set_dsn(
      fmt::format("host=127.0.0.1 port={} user=postgres dbname=postgres", Postgres().port()));
  to.mutable_postgres()->set_database("orders");
  *restore.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  EXPECT_THAT(Run(restore).end.reason(), HasSubstr("already exists"));
  to.mutable_postgres()->set_database("orders_of_yesterday");
  const Told restored = Run(restore);
  EXPECT_EQ(restored.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << restored.end.reason();
  EXPECT_TRUE(restored.artifacts.at(0).has_restore());
  Postgres().Sql("drop database orders_of_yesterday");

  std::string largest;
  uintmax_t size = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(repository() + "/data")) {
    if (!entry.is_regular_file() || entry.file_size() < size) continue;
    size = entry.file_size();
    largest = entry.path();
  }
  std::filesystem::permissions(largest, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::fstream(largest, std::ios::in | std::ios::out).seekp(100) << "spoilt";
  const Told spoilt = Run(verify);
  EXPECT_EQ(spoilt.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(spoilt.end.reason(), HasSubstr("is damaged"));
  EXPECT_EQ(spoilt.last().problem(), spoilt.end.reason());

  v1::JobSpec forget;
  v1::ForgetBackupsTask& which = *forget.mutable_forget_backups();
  *which.mutable_repository() = RepositorySpec();
  which.add_snapshot_ids(told.last().snapshot_id());
  which.set_staging(staging());
  *forget.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  const Told gone = Run(forget);
  EXPECT_EQ(gone.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << gone.end.reason();
  EXPECT_THAT(gone.artifacts.at(0).forgotten().snapshot_ids(),
              ElementsAre(told.last().snapshot_id()));
}

}  // namespace
}  // namespace muster::agent
