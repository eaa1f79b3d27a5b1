// What operators get of backups, over real mutual TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/rpc/test_plane.h"
#include "control-plane/store/run_events.h"
#include "lib/testing/status.h"
#include "lib/wire/time.h"
#include "muster/v1/backup_service.grpc.pb.h"

namespace muster::control {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BackupServiceTest : public ::testing::Test {
 protected:
  BackupServiceTest()
      : stub_(v1::BackupService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_ADMIN, "ada")))) {
    plane_.Identity(v1::ROLE_AGENT, "db-1");
    Apply(2);
  }

  void Apply(uint32_t last) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Job");
    document.mutable_metadata()->set_name("nightly");
    v1::JobSpec& job = *document.mutable_job();
    (*job.mutable_agents())["role"] = "db";
    *job.mutable_deadline() = wire::ToProto(absl::Hours(2));
    v1::BackupTask& task = *job.mutable_backup();
    task.mutable_postgres()->set_dsn("host=127.0.0.1 dbname=orders");
    task.mutable_repository()->set_path("/srv/backups");
    task.mutable_repository()->set_create(true);
    task.mutable_repository()->mutable_password()->set_secret("file:/etc/muster/secrets/key");
    task.set_staging("/srv/staging");
    task.mutable_verify()->add_queries("select true");
    task.mutable_keep()->set_last(last);
    ASSERT_OK(plane_.store().specs().Apply(
        {document}, {"admin/ada", "spec.apply", "", "", plane_.clock().Now()}));
    spec_ = job;
  }

  // A backup that db-1 took and read back.
  std::string Take(char digit, absl::Duration age) {
    const absl::Time at = plane_.clock().Now() - age;
    RunRow run{.id = std::string("run-") + digit,
               .job = "nightly",
               .slot = at,
               .spec = spec_,
               .due_at = at};
    EXPECT_OK(plane_.store().runs().Start(run, {"admin/ada", "run.start", "", "", at}).status());
    run.phase = RunPhase::kAssigned;
    run.agent = "db-1";
    run.fence = 1;
    EXPECT_OK(
        plane_.store()
            .runs()
            .Change({}, {{.row = run, .expected_phase = RunPhase::kWaiting, .what = "given"}}, at)
            .status());
    v1::RunEvent event;
    event.set_run_id(run.id);
    event.set_fence(1);
    v1::Backup& backup = *event.mutable_artifact()->mutable_backup();
    backup.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
    backup.set_repository_id("repository");
    backup.set_snapshot_id(std::string(64, digit));
    backup.set_manifest_hash(std::string(32, '\x01'));
    *backup.mutable_taken_at() = wire::ToProto(at);
    backup.set_proof(v1::BACKUP_PROOF_READ_BACK);
    v1::TableRows& table = *backup.add_tables();
    table.set_table("public.orders");
    table.set_rows(7);
    EXPECT_OK(plane_.store().database().Write([&](sql::Transaction& t) {
      return StoreRunEvents(t, {{"db-1", &event, at}}, plane_.clock().Now());
    }));
    return backup.snapshot_id();
  }

  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::BackupService::Stub::*method)(grpc::ClientContext*,
                                                                    const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)));
    response.Clear();
    return (stub_.get()->*method)(&context, request, &response);
  }

  RunRow Found(const std::string& id) { return **plane_.store().runs().Find(id); }
  AuditNote LastNote() { return plane_.store().audit().List(0, 1000)->back().note; }

  TestPlane plane_;
  std::unique_ptr<v1::BackupService::Stub> stub_;
  v1::JobSpec spec_;
};

TEST_F(BackupServiceTest, ListsNewestFirstAndDescribesOneWithItsTables) {
  Take('a', absl::Hours(48));
  const std::string newest = Take('b', absl::Hours(24));
  v1::ListBackupsRequest request;
  request.set_page_size(1);
  v1::ListBackupsResponse page;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ListBackups, request, page).ok());
  ASSERT_EQ(page.items_size(), 1);
  EXPECT_EQ(page.items(0).backup().snapshot_id(), newest);
  EXPECT_TRUE(page.items(0).verified());
  EXPECT_EQ(page.items(0).backup().tables_size(), 0);
  request.set_page_token(page.next_page_token());
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ListBackups, request, page).ok());
  ASSERT_EQ(page.items_size(), 1);
  EXPECT_EQ(page.items(0).run(), "run-a");
  EXPECT_EQ(page.next_page_token(), "");

  v1::GetBackupRequest get;
  get.set_snapshot_id(newest);
  v1::GetBackupResponse backup;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::GetBackup, get, backup).ok());
  EXPECT_EQ(backup.backup().backup().tables(0).rows(), 7U);
  get.set_snapshot_id("none");
  const grpc::Status none = Call(&v1::BackupService::Stub::GetBackup, get, backup);
  EXPECT_EQ(none.error_code(), StatusCode::NOT_FOUND);
  request.set_id_prefix("x%");
  EXPECT_EQ(Call(&v1::BackupService::Stub::ListBackups, request, page).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(BackupServiceTest, AProofIsARunBesideTheJobsOwn) {
  v1::VerifyBackupRequest request;
  request.set_snapshot_id(Take('a', absl::Hours(1)));
  request.set_restore(true);
  request.set_request_id("6f1c");
  v1::VerifyBackupResponse response;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::VerifyBackup, request, response).ok());
  EXPECT_EQ(response.run().action(), "verify");
  EXPECT_EQ(response.run().job(), "nightly");
  const std::string first = response.run().id();
  const RunRow run = Found(first);
  EXPECT_EQ(run.spec.agents().at("agent"), "db-1");
  const v1::VerifyBackupTask& task = run.spec.verify_backup();
  EXPECT_TRUE(task.verify().restore());
  EXPECT_THAT(task.verify().queries(), ElementsAre("select true"));
  EXPECT_EQ(task.repository().password().secret(), "file:/etc/muster/secrets/key");
  EXPECT_FALSE(task.repository().create());
  EXPECT_EQ(task.backup().manifest_hash().substr(0, 4), "0101");
  EXPECT_EQ(LastNote().action, "backup.verify");
  EXPECT_EQ(LastNote().actor, "admin/ada");
  ASSERT_TRUE(Call(&v1::BackupService::Stub::VerifyBackup, request, response).ok());
  EXPECT_EQ(response.run().id(), first);

  request.set_agent("stranger");
  const grpc::Status refused = Call(&v1::BackupService::Stub::VerifyBackup, request, response);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("there is no agent stranger"));
}

TEST_F(BackupServiceTest, ARestoreGoesToANewPlaceThatIsNamed) {
  v1::RestoreBackupRequest request;
  request.set_snapshot_id(Take('a', absl::Hours(1)));
  v1::RestoreBackupResponse response;
  const auto restore = [&] {
    return Call(&v1::BackupService::Stub::RestoreBackup, request, response);
  };
  EXPECT_THAT(restore().error_message(), HasSubstr("needs a target"));
  request.set_folder("relative");
  EXPECT_THAT(restore().error_message(), HasSubstr("no absolute path"));
  request.mutable_postgres()->set_database("orders_again");
  EXPECT_THAT(restore().error_message(), HasSubstr("needs a connection or a dsn"));
  request.mutable_postgres()->mutable_connection()->set_secret("file:/etc/muster/secrets/dsn");
  ASSERT_TRUE(restore().ok());
  EXPECT_EQ(Found(response.run().id()).spec.restore_backup().postgres().database(), "orders_again");
  EXPECT_THAT(LastNote().detail, HasSubstr("to database orders_again"));
  request.set_folder("/srv/restored");
  ASSERT_TRUE(restore().ok());
  EXPECT_EQ(Found(response.run().id()).spec.restore_backup().folder(), "/srv/restored");
  EXPECT_EQ(response.run().action(), "restore");
}

TEST_F(BackupServiceTest, ABackupOfADeletedJobCanStillBeRestored) {
  v1::RestoreBackupRequest request;
  request.set_snapshot_id(Take('a', absl::Hours(1)));
  ASSERT_OK(plane_.store().specs().Delete(
      {{"Job", "nightly"}}, {"admin/ada", "spec.delete", "", "", plane_.clock().Now()}));
  request.set_folder("/srv/restored");
  v1::RestoreBackupResponse response;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::RestoreBackup, request, response).ok());
  const RunRow run = Found(response.run().id());
  EXPECT_EQ(run.spec.restore_backup().repository().path(), "/srv/backups");
  EXPECT_EQ(wire::FromProto(run.spec.deadline()), absl::Hours(2));
}

TEST_F(BackupServiceTest, WhatKeepDecidesIsShownAndDoneOnDemand) {
  const std::string oldest = Take('a', absl::Hours(72));
  Take('b', absl::Hours(48));
  Take('c', absl::Hours(24));
  v1::PlanRetentionRequest request;
  request.set_job("nightly");
  v1::PlanRetentionResponse plan;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::PlanRetention, request, plan).ok());
  ASSERT_EQ(plan.items_size(), 3);
  EXPECT_TRUE(plan.items(0).keep());
  EXPECT_FALSE(plan.items(2).keep());
  EXPECT_EQ(plan.items(2).reason(), "no rule names it");

  v1::HoldBackupRequest hold;
  hold.set_snapshot_id(oldest);
  v1::HoldBackupResponse held;
  EXPECT_EQ(Call(&v1::BackupService::Stub::HoldBackup, hold, held).error_code(),
            StatusCode::INVALID_ARGUMENT);
  hold.set_reason("an audit");
  ASSERT_TRUE(Call(&v1::BackupService::Stub::HoldBackup, hold, held).ok());
  EXPECT_EQ(held.backup().held_by(), "admin/ada");
  EXPECT_EQ(LastNote().action, "backup.hold");
  v1::ApplyRetentionRequest apply;
  apply.set_job("nightly");
  v1::ApplyRetentionResponse applied;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ApplyRetention, apply, applied).ok());
  EXPECT_FALSE(applied.has_run());

  v1::ReleaseBackupRequest release;
  release.set_snapshot_id(oldest);
  v1::ReleaseBackupResponse released;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ReleaseBackup, release, released).ok());
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ApplyRetention, apply, applied).ok());
  const RunRow run = Found(applied.run().id());
  EXPECT_EQ(run.action, "forget");
  EXPECT_THAT(run.spec.forget_backups().snapshot_ids(), ElementsAre(oldest));
  EXPECT_THAT(LastNote().detail, HasSubstr("aaaaaaaa: no rule names it"));
}

TEST_F(BackupServiceTest, AnImportAsksAnAgentOfTheJob) {
  v1::ImportBackupsRequest request;
  request.set_job("nightly");
  v1::ImportBackupsResponse response;
  ASSERT_TRUE(Call(&v1::BackupService::Stub::ImportBackups, request, response).ok());
  const RunRow run = Found(response.run().id());
  EXPECT_EQ(run.action, "list");
  EXPECT_EQ(run.spec.agents().at("role"), "db");
  EXPECT_EQ(run.spec.list_backups().job(), "nightly");
  request.set_job("other");
  EXPECT_EQ(Call(&v1::BackupService::Stub::ImportBackups, request, response).error_code(),
            StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace muster::control
