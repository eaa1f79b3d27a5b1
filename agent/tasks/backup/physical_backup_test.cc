// Backups of whole servers, by pg_basebackup and by pgBackRest.
#include "agent/tasks/backup/backup_fixture.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class BaseBackups : public BackupJobs {
 protected:
  BaseBackups() { WriteDsn("copier"); }
  // "copier" may replicate.
  static void SetUpTestSuite() {
    MakeOrders();
    Postgres().Sql(
        fmt::format("create role copier login replication password '{}'; "
                    "grant pg_read_all_stats to copier",
                    PgPassword()));
    Postgres().Sql(
        "copy (values ('host replication all 127.0.0.1/32 scram-sha-256')) to "
        "program 'cat >> $(dirname $PWD/x)/pg_hba.conf'");
    Postgres().Sql("select pg_reload_conf()");
  }

  void WriteDsn(const std::string& user) {
    Write("pg.dsn", fmt::format("host=127.0.0.1 port={} user={} password={} dbname=orders",
                                Postgres().port(), user, PgPassword()));
  }
  v1::BackupTask Task(bool restore) const {
    v1::BackupTask task = PostgresTask(restore);
    task.mutable_postgres()->set_method(v1::POSTGRES_METHOD_BASE);
    return task;
  }
};

TEST_F(BaseBackups, AreServersThatAnswer) {
  v1::BackupTask task = Task(true);
  task.mutable_verify()->add_queries("select count(*) = 500 from orders");
  task.mutable_verify()->add_queries(
      "/* database: postgres */ select current_database() = 'postgres'");
  task.mutable_verify()->add_queries(
      "select not rolsuper from pg_roles where rolname = current_user");
  task.mutable_verify()->add_queries("select current_setting('archive_mode') = 'off'");
  const Told told = Run(task);
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().engine(), v1::BACKUP_ENGINE_POSTGRES_BASE);
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_EQ(told.last().database(), "orders");
  EXPECT_GT(told.last().source_bytes(), 1U << 20);
  EXPECT_THAT(told.output, Not(HasSubstr(Canary())));
  ExpectNothingLeft();
}

TEST_F(BaseBackups, AreNotTakenByWhoMayNot) {
  WriteDsn("keeper");
  const Told told = Run(Task(false));
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("run ALTER ROLE \"keeper\" REPLICATION"));
  EXPECT_THAT(told.backups, IsEmpty());
  ExpectNothingLeft();
}

TEST_F(BaseBackups, FailWhenAQueryIsNotTrue) {
  v1::BackupTask task = Task(true);
  task.mutable_verify()->add_queries("select count(*) = 7 from orders");
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_READ_BACK);
  EXPECT_EQ(told.last().problem(), told.end.reason());
  ExpectNothingLeft();
}

TEST_F(BaseBackups, CannotBeAskedForWhatOnlyASuperuserMay) {
  v1::BackupTask task = Task(true);
  task.mutable_verify()->add_queries("select pg_read_file('/etc/passwd') <> ''");
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("SQLSTATE 42501"));
}

// A server that archives, its stanza, and its configuration.
struct Archived {
  testing::TempFolder folder;
  std::string config = folder.File("pgbackrest.conf");
  testing::PostgresServer server{
      {"archive_mode = on", fmt::format("archive_command = 'pgbackrest --config={} --stanza=main "
                                        "archive-push %p'",
                                        config)}};

  Archived() {
    std::ofstream(config) << fmt::format(
        "[global]\nrepo1-path={0}/repository\nlog-level-file=off\nlog-path={0}\nlock-path={0}\n"
        "spool-path={0}\narchive-timeout=20\nstart-fast=y\ncompress-level=1\n[main]\npg1-path={1}\n"
        "pg1-port={2}\npg1-socket-path={3}\n",
        folder.path(), Setting("data_directory"), server.port(),
        Setting("unix_socket_directories"));
    testing::RunProgram({"chown", "-R", "postgres", folder.path()});
    ::chmod(folder.path().c_str(), 0755);
    Run({"stanza-create"});
    server.Sql("create table notes(id int)");
    std::atexit([] { Get().server.Stop(); });
  }
  static Archived& Get() {
    static auto& archived = *new Archived;
    return archived;
  }
  std::string Setting(const std::string& name) {
    return std::string(Trim(server.Sql("show " + name)));
  }
  std::string Run(std::vector<std::string> words) {
    std::vector<std::string> argv = {"setpriv",       "--reuid=postgres", "--regid=postgres",
                                     "--init-groups", "pgbackrest",       "--config=" + config,
                                     "--stanza=main"};
    argv.insert(argv.end(), words.begin(), words.end());
    return testing::RunProgram(argv).out;
  }
};

class PgBackRests : public BackupJobs {
 protected:
  PgBackRests() {
    StatusOr<Policy> policy =
        Policy::Parse(fmt::format("{{jobs: [backup, restore, forget], paths: [{}, {}]}}",
                                  folder_.path(), server_.folder.path()),
                      "policy.yaml");
    policy_ = std::make_unique<Policy>(*std::move(policy));
  }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "pgBackRest is run as postgres, which root alone can";
  }

  v1::PgBackRestSource Source() const {
    v1::PgBackRestSource source;
    source.set_stanza("main");
    source.set_config_file(server_.config);
    return source;
  }
  v1::BackupTask Task(v1::PgBackRestType type) const {
    v1::BackupTask task;
    *task.mutable_pgbackrest() = Source();
    task.mutable_pgbackrest()->set_type(type);
    task.set_staging(staging());
    return task;
  }
  v1::JobSpec Restore(const std::string& label, const std::string& moment = "") const {
    v1::JobSpec spec;
    v1::RestoreBackupTask& task = *spec.mutable_restore_backup();
    *task.mutable_pgbackrest() = Source();
    task.mutable_backup()->set_snapshot_id(label);
    task.mutable_backup()->set_engine(v1::BACKUP_ENGINE_PGBACKREST);
    task.set_staging(staging());
    task.set_folder(File("restored"));
    task.set_target_time(moment);
    *spec.mutable_deadline() = wire::ToProto(absl::Minutes(5));
    return spec;
  }
  v1::JobSpec Forget(const std::vector<std::string>& labels) const {
    v1::JobSpec spec;
    *spec.mutable_forget_backups()->mutable_pgbackrest() = Source();
    for (const std::string& label : labels) spec.mutable_forget_backups()->add_snapshot_ids(label);
    *spec.mutable_deadline() = wire::ToProto(absl::Minutes(5));
    return spec;
  }

  Archived& server_ = Archived::Get();
};

TEST_F(PgBackRests, TakeAFullOneFirstAndBuildUponIt) {
  v1::BackupTask task = Task(v1::PG_BACK_REST_TYPE_INCREMENTAL);
  task.mutable_verify()->set_restore(true);
  task.mutable_verify()->add_queries("select count(*) >= 0 from notes");
  task.mutable_verify()->add_queries("select not pg_is_in_recovery()");
  const Told first = Run(task);
  ASSERT_EQ(first.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << first.end.reason() << first.output;
  ASSERT_THAT(first.backups, SizeIs(3));
  EXPECT_THAT(first.last().snapshot_id(), EndsWith("F"));
  EXPECT_EQ(first.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_TRUE(first.last().has_recoverable_until());
  const Told second = Run(Task(v1::PG_BACK_REST_TYPE_INCREMENTAL));
  ASSERT_EQ(second.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << second.end.reason();
  EXPECT_EQ(second.last().proof(), v1::BACKUP_PROOF_READ_BACK);
  EXPECT_EQ(second.last().prior_id(), first.last().snapshot_id());
  EXPECT_EQ(second.last().repository_id(), first.last().repository_id());
  ExpectNothingLeft();

  // What the other needs is not removed, nor the other with it.
  const Told kept = Run(Forget({first.last().snapshot_id()}));
  EXPECT_EQ(kept.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(kept.end.reason(), HasSubstr("needs " + first.last().snapshot_id()));
  EXPECT_THAT(server_.Run({"info"}), HasSubstr(second.last().snapshot_id()));

  const Told early = Run(Restore(second.last().snapshot_id(), "2020-01-01T00:00:00Z"));
  EXPECT_THAT(early.end.reason(), HasSubstr("choose an older backup"));
  EXPECT_FALSE(std::filesystem::exists(File("restored")));
  const Told restored = Run(Restore(second.last().snapshot_id()));
  ASSERT_EQ(restored.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << restored.end.reason();
  EXPECT_TRUE(std::filesystem::exists(File("restored/recovery.signal")));
  EXPECT_THAT(restored.end.reason(), HasSubstr("pg_ctl -D " + File("restored") + " start"));
}

TEST_F(PgBackRests, SayWhatIsMissing) {
  v1::BackupTask task = Task(v1::PG_BACK_REST_TYPE_FULL);
  task.mutable_pgbackrest()->set_stanza("other");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("stanza-create"));
  task.mutable_pgbackrest()->set_config_file(File("none.conf"));
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("correct config_file"));
  task.mutable_pgbackrest()->set_config_file("/etc/pgbackrest.conf");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("paths"));
  task.mutable_pgbackrest()->set_config_file(File("a;b.conf"));
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("which a shell reads"));
  task = Task(v1::PG_BACK_REST_TYPE_FULL);
  task.mutable_pgbackrest()->set_user("nobody-of-that-name");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("set pgbackrest.user"));
  task.mutable_pgbackrest()->set_stanza("../main");
  EXPECT_THAT(Run(task).end.reason(), HasSubstr("no stanza's name"));
}

}  // namespace
}  // namespace muster::agent
