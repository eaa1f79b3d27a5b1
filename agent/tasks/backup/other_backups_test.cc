#include "agent/tasks/backup/backup_fixture.h"
#include "agent/tasks/backup/programs.h"
#include "agent/tasks/backup/tar_reader.h"
#include "agent/tasks/backup/workspace.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/testing/redis_server.h"
#include "lib/testing/small_disk.h"

namespace muster::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class OtherBackups : public BackupJobs {
 protected:
  v1::BackupTask RedisTask(const testing::RedisServer& server) {
    Write("redis.key", Canary() + "of-redis");
    v1::BackupTask task;
    task.mutable_redis()->set_address(fmt::format("127.0.0.1:{}", server.port()));
    task.mutable_redis()->mutable_auth()->set_secret("file:" + File("redis.key"));
    *task.mutable_repository() = RepositorySpec();
    task.set_staging(staging());
    task.mutable_verify()->set_restore(true);
    task.mutable_verify()->set_user("nobody");
    return task;
  }
  v1::BackupTask FilesTask() {
    std::filesystem::create_directories(File("source/deep"));
    Write("source/one", std::string(300'000, 'x'));
    Write("source/deep/two", "2");
    Write("source/" + std::string(180, 'n'), "a name that no tar header of old can hold");
    Write("source/left.tmp", "out");
    v1::BackupTask task;
    task.mutable_files()->add_paths(File("source"));
    task.mutable_files()->add_exclude("*.tmp");
    *task.mutable_repository() = RepositorySpec();
    task.set_staging(staging());
    return task;
  }

  // A whole one: restic writes it under another name first.
  bool HasLock() const {
    for (const auto& entry : std::filesystem::directory_iterator(repository() + "/locks")) {
      if (entry.path().filename().string().size() == 64) return true;
    }
    return false;
  }
};

TEST_F(OtherBackups, RedisIsTakenAndRestored) {
  testing::RedisServer server({"--requirepass", Canary() + "of-redis"});
  for (int i = 0; i < 50; ++i)
    server.Cli({"-a", Canary() + "of-redis", "SET", fmt::format("key{}", i), "value"});
  server.Cli({"-a", Canary() + "of-redis", "SET", "soon", "gone", "EX", "100"});
  const Told told = Run(RedisTask(server));
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_RESTORED);
  EXPECT_EQ(told.last().key_count(), 51U);
  EXPECT_THAT(told.last().server_version(), Not(IsEmpty()));
  EXPECT_THAT(told.output, Not(HasSubstr(Canary())));
  ExpectNothingLeft();

  Write("redis.key", "wrong");
  v1::BackupTask wrong = RedisTask(server);
  Write("redis.key", "wrong");
  EXPECT_THAT(Run(wrong).end.reason(), HasSubstr("WRONGPASS"));
}

TEST_F(OtherBackups, FilesAreTakenAndReadBack) {
  const Told told = Run(FilesTask());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason() << told.output;
  EXPECT_EQ(told.last().proof(), v1::BACKUP_PROOF_READ_BACK);
  EXPECT_EQ(told.last().files(), 3U);
  EXPECT_EQ(told.last().source_bytes(), 300'042U);
  ExpectNothingLeft();

  v1::JobSpec restore;
  v1::RestoreBackupTask& to = *restore.mutable_restore_backup();
  to.mutable_backup()->set_snapshot_id(told.last().snapshot_id());
  to.mutable_backup()->set_engine(v1::BACKUP_ENGINE_FILES);
  to.mutable_backup()->set_manifest_hash(HexEncode(told.last().manifest_hash()));
  *to.mutable_repository() = RepositorySpec();
  to.set_staging(staging());
  to.set_folder(File("source"));
  *restore.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  EXPECT_THAT(Run(restore).end.reason(), HasSubstr("there and not empty"));
  to.set_folder(File("restored"));
  const Told restored = Run(restore);
  EXPECT_EQ(restored.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << restored.end.reason();
  EXPECT_EQ(*ReadFile(File("restored") + File("source/deep/two")), "2");
}

TEST_F(OtherBackups, AListTellsOfWhatMusterMadeForTheJob) {
  const Told told = Run(FilesTask());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  testing::RunProgram({"restic", "-r", repository(), "--no-cache", "--password-file",
                       File("repository.key"), "backup", File("source")});
  v1::JobSpec list;
  *list.mutable_list_backups()->mutable_repository() = RepositorySpec();
  list.mutable_list_backups()->set_staging(staging());
  *list.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  const Told listed = Run(list);
  EXPECT_EQ(listed.end.reason(), "1 backups in " + repository());
  ASSERT_THAT(listed.backups, SizeIs(1));
  EXPECT_EQ(listed.last().snapshot_id(), told.last().snapshot_id());
  EXPECT_EQ(listed.last().engine(), v1::BACKUP_ENGINE_FILES);
  EXPECT_EQ(listed.last().source_bytes(), told.last().source_bytes());
  EXPECT_EQ(listed.last().made_by_job(), "nightly");
  EXPECT_THAT(listed.last().made_by_run(), Not(IsEmpty()));
  list.mutable_list_backups()->set_job("another");
  EXPECT_THAT(Run(list).backups, IsEmpty());
}

TEST_F(OtherBackups, OneWhoseSnapshotIsSpoiltHasAProblem) {
  const Told told = Run(FilesTask());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  const std::string id = told.last().snapshot_id();
  std::filesystem::permissions(repository() + "/snapshots/" + id,
                               std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::ofstream(repository() + "/snapshots/" + id, std::ios::app) << "spoilt";
  v1::JobSpec verify;
  v1::VerifyBackupTask& task = *verify.mutable_verify_backup();
  task.mutable_backup()->set_snapshot_id(id);
  task.mutable_backup()->set_engine(v1::BACKUP_ENGINE_FILES);
  *task.mutable_repository() = RepositorySpec();
  task.set_staging(staging());
  *verify.mutable_deadline() = wire::ToProto(absl::Minutes(5));
  const Told spoilt = Run(verify);
  EXPECT_EQ(spoilt.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(spoilt.end.reason(), HasSubstr("is damaged"));
  EXPECT_THAT(spoilt.end.reason(), HasSubstr("restic check --read-data"));
  ASSERT_THAT(spoilt.backups, SizeIs(1));
  EXPECT_EQ(spoilt.last().snapshot_id(), id);
  EXPECT_EQ(spoilt.last().repository_id(), told.last().repository_id());
  EXPECT_EQ(spoilt.last().problem(), spoilt.end.reason());
}

TEST_F(OtherBackups, NoRepositoryIsMadeOverAnOldOne) {
  const Told told = Run(FilesTask());
  ASSERT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  std::filesystem::rename(repository() + "/config", File("config"));
  const Told failed = Run(FilesTask());
  EXPECT_EQ(failed.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(failed.end.reason(), HasSubstr("its file config is missing"));
  EXPECT_FALSE(std::filesystem::exists(repository() + "/config"));
  std::filesystem::rename(File("config"), repository() + "/config");
  EXPECT_EQ(Run(FilesTask()).end.outcome(), v1::RUN_OUTCOME_SUCCEEDED);
}

TEST_F(OtherBackups, AMissingFolderIsNoEmptyBackup) {
  v1::BackupTask task = FilesTask();
  task.mutable_files()->add_paths(File("not-mounted"));
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("mount it, or take it out"));
  EXPECT_THAT(told.backups, IsEmpty());
}

TEST_F(OtherBackups, AStaleLockIsRemoved) {
  const v1::BackupTask task = FilesTask();
  Write("source/large", RandomBytes(3 << 20));
  const Told first = Run(task);
  ASSERT_EQ(first.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << first.end.reason();
  // An exclusive lock, as a process leaves one that is killed while it checks the repository. It
  // reads so slowly that it is at it for most of a minute.
  const std::vector<std::string> check = {"/usr/bin/restic",
                                          "-r",
                                          repository(),
                                          "--no-cache",
                                          "--password-file",
                                          File("repository.key"),
                                          "--limit-download",
                                          "64",
                                          "check",
                                          "--read-data"};
  testing::ServerProcess killed(check, File("check.log"));
  ASSERT_TRUE(testing::Eventually([&] { return HasLock(); }));
  killed.Stop(9);
  ASSERT_TRUE(HasLock()) << "it was over before it was killed";
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << told.end.reason();
  EXPECT_THAT(told.output, HasSubstr("stale locks are removed"));
}

TEST_F(OtherBackups, ASmallStagingDiskIsNoticedBeforehand) {
  const testing::SmallDisk disk(staging(), "65m");
  if (!disk.mounted()) GTEST_SKIP() << "this user mounts nothing";
  testing::RedisServer server({"--requirepass", Canary() + "of-redis"});
  const Told told = Run(RedisTask(server));
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("free, and the backup needs about"));
  EXPECT_THAT(told.backups, IsEmpty());
}

TEST_F(OtherBackups, AFullRepositoryIsNoBackup) {
  const testing::SmallDisk disk(repository(), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "this user mounts nothing";
  v1::BackupTask task = FilesTask();
  Write("source/large", RandomBytes(4 << 20));
  const Told told = Run(task);
  EXPECT_EQ(told.end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_THAT(told.end.reason(), HasSubstr("is full: make room"));
  EXPECT_THAT(told.backups, IsEmpty());
  ExpectNothingLeft();
}

TEST(Programs, AreThoseOfTheServersVersionOrANewerOne) {
  testing::TempFolder folder;
  for (const char* major : {"14", "16"}) {
    std::filesystem::create_directories(folder.File(major) + "/bin");
    std::ofstream(folder.File(major) + "/bin/pg_dump") << "#!/bin/sh\n";
    ::chmod((folder.File(major) + "/bin/pg_dump").c_str(), 0700);
  }
  const auto find = [&](int major) {
    return backup::FindPostgres(major, "pg_dump", "postgresql-client", folder.path());
  };
  EXPECT_EQ(*find(14), folder.File("14") + "/bin");
  EXPECT_EQ(*find(15), folder.File("16") + "/bin");
  EXPECT_THAT(std::string(Message(find(17).status())),
              HasSubstr("apt-get install postgresql-client-17"));
}

TEST(Workspace, SaysThatItHasNoRoom) {
  testing::TempFolder folder;
  int removed = 0;
  const auto workspace = *backup::Workspace::Open(folder.File("staging"), RandomUuid(), removed);
  const Status refused = workspace->NeedRoom(uint64_t{1} << 60, "the backup");
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("the backup needs about 1024.0 PiB"));
}

TEST(Workspace, OfARunThatLivesIsLeftAlone) {
  testing::TempFolder folder;
  int removed = 0;
  const auto first = *backup::Workspace::Open(folder.File("staging"), RandomUuid(), removed);
  const auto second = *backup::Workspace::Open(folder.File("staging"), RandomUuid(), removed);
  EXPECT_EQ(removed, 0);
  EXPECT_TRUE(FileExists(first->path()));
}

TEST(TarReader, TakesNoArchiveThatEndsInTheMiddle) {
  testing::TempFolder folder;
  std::ofstream(folder.File("file")) << std::string(2000, 'x');
  const std::string tar =
      testing::RunProgram({"tar", "-C", folder.path(), "--format=pax", "-cf", "-", "file"}).out;
  const auto read = [](std::string_view bytes) {
    uint64_t total = 0;
    backup::TarReader reader({.begin = [](const std::string&, uint64_t) {},
                              .bytes = [&](std::string_view piece) { total += piece.size(); },
                              .end = [] {}});
    for (size_t at = 0; at < bytes.size(); at += 7) {
      if (const Status taken = reader.Take(bytes.substr(at, 7)); !taken.ok()) return taken;
    }
    EXPECT_LE(total, 2000U);
    return reader.Finish();
  };
  EXPECT_TRUE(read(tar).ok());
  EXPECT_FALSE(read(std::string_view(tar).substr(0, 1500)).ok());
  std::string spoilt = tar;
  spoilt[tar.find("ustar") - 200] = '9';
  EXPECT_FALSE(read(spoilt).ok());
}

}  // namespace
}  // namespace muster::agent
