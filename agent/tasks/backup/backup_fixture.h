// Jobs of backups as the agent runs them, from assignment to the records of its log, against real
// servers and repositories.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/jobs/executor.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/testing/servers.h"
#include "lib/wire/time.h"

namespace muster::agent {

// Passwords hold this word, which must be found nowhere. It is this process's own: the same tests
// in another process show theirs as they prepare.
inline const std::string& Canary() {
  static const auto& word = *new std::string(fmt::format("canary-{}-", ::getpid()));
  return word;
}
inline std::string PgPassword() { return Canary() + "of-postgres"; }
inline std::string RepositoryPassword() { return Canary() + "of-the-repository"; }

// One server for all tests of a program: the superuser "postgres" is trusted, "keeper" (a member
// of pg_read_all_data) and "stranger" have a password.
inline testing::PostgresServer& Postgres() {
  static auto& server = *[] {
    auto* made = new testing::PostgresServer({"max_connections = 40"});
    made->Sql(
        fmt::format("create role keeper login password '{0}'; "
                    "create role stranger login password '{0}'; "
                    "grant pg_read_all_data to keeper",
                    PgPassword()));
    made->Sql(
        "copy (values ('local all all trust'), ('host all postgres 127.0.0.1/32 trust'), "
        "('host all all 127.0.0.1/32 scram-sha-256')) to "
        "program 'cat > $(dirname $PWD/x)/pg_hba.conf'");
    made->Sql("select pg_reload_conf()");
    std::atexit([] { Postgres().Stop(); });
    return made;
  }();
  return server;
}

// An empty repository to copy: to make one takes a second.
inline const std::string& EmptyRepository() {
  static const auto& folder = *[] {
    static testing::TempFolder folder;
    auto* made = &folder;
    std::ofstream(made->File("key")) << RepositoryPassword();
    testing::RunProgram({"restic", "-r", made->File("repository"), "--no-cache", "--password-file",
                         made->File("key"), "init"});
    return made;
  }();
  static const std::string path = folder.File("repository");
  return path;
}

class BackupJobs : public ::testing::Test {
 protected:
  BackupJobs() {
    Write("pg.dsn", fmt::format("host=127.0.0.1 port={} user=keeper password={} dbname=orders",
                                Postgres().port(), PgPassword()));
    Write("repository.key", RepositoryPassword());
    Allow("jobs: [backup, restore, forget]");
    std::filesystem::copy(EmptyRepository(), repository(),
                          std::filesystem::copy_options::recursive);
    ::chmod(folder_.path().c_str(), 0711);
  }
  ~BackupJobs() override { StopAgent(); }

  std::string File(const std::string& name) const { return folder_.File(name); }
  std::string staging() const { return File("staging"); }
  std::string repository() const { return File("repository"); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(File(name)) << text;
    ::chmod(File(name).c_str(), 0600);
  }

  void Allow(const std::string& jobs) {
    StatusOr<Policy> policy =
        Policy::Parse(fmt::format("{{{}, paths: [{}]}}", jobs, folder_.path()), "policy.yaml");
    ASSERT_TRUE(policy.ok()) << policy.status();
    policy_ = std::make_unique<Policy>(*std::move(policy));
  }

  static void MakeOrders() {
    Postgres().Sql("drop database if exists orders");
    Postgres().Sql("create database orders");
    Sql("create table orders(id int primary key, note text); "
        "insert into orders select i, E'line\\none\\t\\\\' || i from generate_series(1, 500) i; "
        "create table empty(id int); create schema \"odd name\"; "
        "create table \"odd name\".\"a table\"(id int); "
        "insert into \"odd name\".\"a table\" values (1), (2)");
  }
  static std::string Sql(const std::string& sql) {
    const std::string dsn =
        fmt::format("host=127.0.0.1 port={} user=postgres dbname=orders", Postgres().port());
    return testing::RunProgram({"psql", "-X", "-q", "-At", "-d", dsn, "-c", sql}).out;
  }

  v1::BackupRepository RepositorySpec() const {
    v1::BackupRepository spec;
    spec.set_path(repository());
    spec.mutable_password()->set_secret("file:" + File("repository.key"));
    spec.set_create(true);
    return spec;
  }

  v1::BackupTask PostgresTask(bool restore = false) const {
    v1::BackupTask task;
    task.mutable_postgres()->mutable_connection()->set_secret("file:" + File("pg.dsn"));
    task.mutable_postgres()->set_parallel(2);
    *task.mutable_repository() = RepositorySpec();
    task.set_staging(staging());
    task.mutable_verify()->set_restore(restore);
    return task;
  }

  // What a run told.
  struct Told {
    v1::RunEnded end;
    std::vector<v1::Backup> backups;
    std::vector<v1::RunArtifact> artifacts;
    std::string output;
    const v1::Backup& last() const { return backups.back(); }
  };

  void StartAgent() {
    if (executor_ != nullptr) return;
    spool_ = *Spool::Open(File("log.db"), {}, SystemClock());
    journal_ = *RunJournal::Open(File("runs.db"));
    recorder_ =
        std::make_unique<Recorder>(*spool_, SystemClock(), RecorderOptions{}, [](Urgency) {});
    executor_ = std::make_unique<Executor>(
        *journal_, *recorder_, *spool_,
        [this](const v1::JobSpec& spec) { return MakeTask(spec, *policy_); }, SystemClock(),
        ExecutorOptions{.at_once = 4, .tick = absl::Milliseconds(20), .ends = {}});
  }
  void StopAgent() {
    executor_.reset();
    recorder_.reset();
    journal_.reset();
    spool_.reset();
  }

  static v1::JobSpec Job(const v1::BackupTask& task) {
    v1::JobSpec spec;
    *spec.mutable_backup() = task;
    *spec.mutable_deadline() = wire::ToProto(absl::Minutes(10));
    return spec;
  }

  // The run's id.
  std::string Assign(const v1::JobSpec& spec) {
    StartAgent();
    v1::Assignment assignment;
    assignment.set_run_id(RandomUuid());
    assignment.set_fence(1);
    assignment.set_job("nightly");
    *assignment.mutable_spec() = spec;
    *assigned_.add_items() = assignment;
    executor_->Take(assigned_);
    return assignment.run_id();
  }
  void Stop(const std::string& run) {
    for (v1::Assignment& one : *assigned_.mutable_items())
      if (one.run_id() == run) one.set_stop(v1::Assignment::STOP_CANCEL);
    executor_->Take(assigned_);
  }

  Told Look(const std::string& run) {
    Told told;
    const auto records = spool_->ReadFrom(1, 100'000, 64 << 20);
    EXPECT_TRUE(records.ok());
    for (const v1::Record& record : *records) {
      if (!record.has_run_event() || record.run_event().run_id() != run) continue;
      const v1::RunEvent& event = record.run_event();
      if (event.has_ended()) told.end = event.ended();
      if (event.has_output()) told.output += event.output().text();
      if (!event.has_artifact()) continue;
      told.artifacts.push_back(event.artifact());
      if (event.artifact().has_backup()) told.backups.push_back(event.artifact().backup());
    }
    return told;
  }

  // Waits for its end; `meanwhile` is called again and again.
  Told Wait(
      const std::string& run, const std::function<void()>& meanwhile = [] {}) {
    EXPECT_TRUE(testing::Eventually(
        [&] {
          meanwhile();
          return Look(run).end.outcome() != v1::RUN_OUTCOME_UNSPECIFIED;
        },
        absl::Minutes(3)));
    return Look(run);
  }
  Told Run(const v1::JobSpec& spec) { return Wait(Assign(spec)); }
  Told Run(const v1::BackupTask& task) { return Run(Job(task)); }

  // That nothing is left in the staging folder.
  void ExpectNothingLeft() const {
    for (const auto& entry : std::filesystem::directory_iterator(staging()))
      EXPECT_EQ(entry.path().filename(), ".lock") << entry.path();
  }

  testing::TempFolder folder_;
  std::unique_ptr<Policy> policy_;
  v1::Assignments assigned_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<RunJournal> journal_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace muster::agent
