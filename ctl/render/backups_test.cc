#include "ctl/render/backups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = *ParseTime("2026-11-28T12:00:00Z");

v1::StoredBackup Stored() {
  v1::StoredBackup stored;
  stored.set_job("nightly");
  stored.set_agent("db-1");
  stored.set_run("0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d");
  stored.set_verified(true);
  v1::Backup& backup = *stored.mutable_backup();
  backup.set_snapshot_id("302bd3fb" + std::string(56, '0'));
  backup.set_source("database orders at db-1:5432");
  backup.set_repository("/srv/backups");
  *backup.mutable_taken_at() = wire::ToProto(kNow - absl::Minutes(90));
  backup.set_source_bytes(3 << 20);
  backup.set_stored_bytes(1 << 20);
  backup.set_files(6);
  backup.set_table_count(3);
  backup.set_row_count(502);
  backup.set_proof(v1::BACKUP_PROOF_RESTORED);
  *backup.mutable_proven_at() = wire::ToProto(kNow - absl::Minutes(89));
  *backup.mutable_restore_took() = wire::ToProto(absl::Seconds(12));
  backup.set_made_by_job("nightly");
  return stored;
}

std::string Table(const v1::StoredBackup& stored) {
  return TableOf(*FindKind("backups"), Json::array({BackupJson(stored)}), {.now = kNow});
}

TEST(Backups, AreOneLineEach) {
  EXPECT_EQ(Table(Stored()),
            "ID        JOB      TAKEN      PROOF     SOURCE   STORED   RESTORED IN  AGENT  NOTE\n"
            "302bd3fb  nightly  1h30m ago  RESTORED  3.0 MiB  1.0 MiB  12s          db-1   -\n");
}

TEST(Backups, SayWhatMustBeKnownFirst) {
  v1::StoredBackup stored = Stored();
  stored.set_held_because("an audit");
  EXPECT_THAT(Table(stored), HasSubstr("held: an audit"));
  stored.mutable_backup()->set_problem("blob 3f is damaged");
  EXPECT_THAT(Table(stored), HasSubstr("blob 3f is damaged"));
  stored = Stored();
  stored.set_verified(false);
  EXPECT_THAT(Table(stored), HasSubstr("not verified"));
  *stored.mutable_forgotten_at() = wire::ToProto(kNow);
  stored.set_forgotten_by("run-7");
  EXPECT_THAT(Table(stored), HasSubstr("removed by run run-7"));
}

TEST(Backups, AreOneObjectForScripts) {
  const Json json = BackupJson(Stored());
  EXPECT_EQ(json.at("job"), "nightly");
  EXPECT_EQ(json.at("proof"), "RESTORED");
  EXPECT_EQ(json.at("sourceBytes"), 3 << 20);
  EXPECT_FALSE(json.contains("backup") || json.contains("madeByJob"));
}

TEST(Backups, AreDescribedWithTheirTables) {
  v1::StoredBackup stored = Stored();
  for (int i = 0; i < 21; ++i) {
    v1::TableRows& table = *stored.mutable_backup()->add_tables();
    table.set_table(fmt::format("public.t{}", i));
    table.set_rows(static_cast<uint64_t>(i));
  }
  const std::string text = DescribeBackupText(stored, {.now = kNow});
  EXPECT_THAT(text, HasSubstr("Proof:     RESTORED at 2026-11-28T10:31:00Z\n"));
  EXPECT_THAT(text, HasSubstr("Holds:     3.0 MiB in 6 files, 502 rows in 3 tables\n"));
  EXPECT_THAT(text, HasSubstr("Restored:  in 12s\n"));
  EXPECT_THAT(text, HasSubstr("public.t19"));
  EXPECT_THAT(text, HasSubstr("… and 1 more"));
  EXPECT_THAT(text, Not(HasSubstr("Problem")));
}

TEST(Backups, AreKeptOrDeletedForAReason) {
  v1::RetentionDecision decision;
  *decision.mutable_backup() = Stored();
  decision.set_reason("no rule names it");
  const std::string table =
      TableOf(*FindKind("decisions"), Json::array({DecisionJson(decision)}), {.now = kNow});
  EXPECT_THAT(table, HasSubstr("delete    no rule names it"));
}

}  // namespace
}  // namespace muster::ctl
