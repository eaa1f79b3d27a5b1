// What holds for files of SQLite alone. tests/conformance states what holds for every database.
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/file.h"
#include "lib/exec/threads.h"
#include "lib/sql/database.h"
#include "lib/testing/servers.h"

namespace {

std::atomic<bool> disk_fails = false;
std::atomic<int> failed_syncs = 0;

int Sync(long call, int fd) {
  if (!disk_fails) return static_cast<int>(syscall(call, fd));
  ++failed_syncs;
  errno = EIO;
  return -1;
}

}  // namespace

// These stand before the C library's own, for SQLite too.
extern "C" int fdatasync(int fd) { return Sync(SYS_fdatasync, fd); }
extern "C" int fsync(int fd) { return Sync(SYS_fsync, fd); }

namespace muster::sql {
namespace {

using ::testing::HasSubstr;

class Sqlite : public ::testing::Test {
 protected:
  void SetUp() override { signal(SIGXFSZ, SIG_IGN); }
  void TearDown() override { disk_fails = false; }

  std::unique_ptr<Database> MustOpen(const std::string& path) {
    StatusOr<std::unique_ptr<Database>> opened = OpenSqlite(path);
    EXPECT_TRUE(opened.ok()) << Text(opened.status());
    if (!opened.ok()) return nullptr;
    const std::string_view schema[] = {
        "CREATE TABLE t (id BIGINT PRIMARY KEY, body BYTES NOT NULL)"};
    EXPECT_TRUE((*opened)->Migrate(schema).ok());
    return *std::move(opened);
  }

  const std::string& path() const { return path_; }
  muster::testing::TempFolder folder_;
  const std::string path_ = folder_.File("store.db");
};

Status Put(Database& database, int64_t id, std::string_view body = "x") {
  return database.Write([&](Transaction& t) -> Status {
    return t.Execute("INSERT INTO t (id, body) VALUES ($1, $2)", {id, Bytes{body}}).status();
  });
}

// How many rows there are, if they are 1, 2, 3 …; -1 if one is missing.
int64_t Contiguous(Database& database) {
  int64_t count = -1;
  const Status read = database.Read([&](Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const Rows rows,
                            t.Query("SELECT count(*), coalesce(max(id), 0) FROM t"));
    if (rows[0].Int(0) == rows[0].Int(1)) count = rows[0].Int(0);
    return OkStatus();
  });
  EXPECT_TRUE(read.ok()) << Text(read);
  return count;
}

// Writes until the first refusal, which it returns.
Status Fill(Database& database, int64_t& acknowledged) {
  const std::string body(20'000, 'b');
  for (int i = 0; i < 10'000; ++i) {
    MUSTER_RETURN_IF_ERROR(Put(database, acknowledged + 1, body));
    ++acknowledged;
  }
  return OkStatus();
}

void SetFileSizeLimit(rlim_t bytes) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = std::min(bytes, limit.rlim_max);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

mode_t ModeOf(const std::string& path) {
  struct stat found {};
  EXPECT_EQ(stat(path.c_str(), &found), 0) << path;
  return found.st_mode & 0777;
}

std::string EpochOf(Database& database) { return database.StoreEpoch().value_or("none"); }

// A file of a few pages, closed.
void MakeFile(const std::string& path, Database& database) {
  for (int64_t i = 1; i <= 200; ++i)
    ASSERT_TRUE(Put(database, i, std::string(500, 'b')).ok()) << path;
}

TEST_F(Sqlite, FilesAreForTheirOwnerAlone) {
  const auto database = MustOpen(path());
  ASSERT_TRUE(Put(*database, 1).ok());
  EXPECT_EQ(ModeOf(path()), 0600U);
  EXPECT_EQ(ModeOf(path() + "-wal"), 0600U);
  EXPECT_EQ(ModeOf(path() + "-shm"), 0600U);
}

TEST_F(Sqlite, AFolderThatIsMissingIsNamed) {
  const auto opened = OpenSqlite(folder_.File("nowhere/store.db"));
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(opened.status())), HasSubstr("nowhere/store.db"));
}

TEST_F(Sqlite, AFileOfAnotherKindIsRefusedAndLeftAsItWas) {
  const std::string content(8192, 'j');
  ASSERT_TRUE(WriteFileAtomically(path(), content).ok());
  const auto opened = OpenSqlite(path());
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << Text(opened.status());
  EXPECT_THAT(std::string(Message(opened.status())), HasSubstr("restore the newest backup"));
  EXPECT_THAT(std::string(Message(opened.status())), HasSubstr(path()));
  EXPECT_EQ(ReadFile(path()).value_or(""), content);
}

TEST_F(Sqlite, ADamagedPageIsFoundAtStart) {
  MakeFile(path(), *MustOpen(path()));
  std::string content = ReadFile(path()).value_or("");
  ASSERT_GT(content.size(), 40'000U);
  for (size_t page = 2; page * 4096 < content.size(); ++page)
    content.replace(page * 4096, 64, 64, '\xee');
  ASSERT_TRUE(WriteFileAtomically(path(), content).ok());
  EXPECT_EQ(OpenSqlite(path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(Sqlite, AFileThatWasCutOffIsRefused) {
  MakeFile(path(), *MustOpen(path()));
  ASSERT_EQ(truncate(path().c_str(), 16384), 0);
  EXPECT_EQ(OpenSqlite(path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(Sqlite, ALargeFileIsJudgedByItsHeaderAndOpensAtOnce) {
  MakeFile(path(), *MustOpen(path()));
  ASSERT_EQ(truncate(path().c_str(), off_t{300} << 20), 0);
  EXPECT_EQ(Contiguous(*MustOpen(path())), 200);
  ASSERT_EQ(truncate(path().c_str(), 0), 0);
  ASSERT_TRUE(WriteFileAtomically(path(), std::string(100, 'j')).ok());
  ASSERT_EQ(truncate(path().c_str(), off_t{300} << 20), 0);
  EXPECT_EQ(OpenSqlite(path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(Sqlite, TheEpochStaysWithTheFileAndNotWithItsCopy) {
  const std::string epoch = EpochOf(*MustOpen(path()));
  EXPECT_EQ(epoch.size(), 36U);
  EXPECT_EQ(EpochOf(*MustOpen(path())), epoch);
  const std::string backup = folder_.File("backup.db");
  std::filesystem::copy_file(path(), backup);
  std::filesystem::rename(backup, path());
  const std::string restored = EpochOf(*MustOpen(path()));
  EXPECT_NE(restored, epoch);
  EXPECT_EQ(EpochOf(*MustOpen(path())), restored);
}

TEST_F(Sqlite, MemoryDatabasesShareNothing) {
  const auto one = MustOpen(":memory:");
  const auto other = MustOpen(":memory:");
  ASSERT_TRUE(Put(*one, 1).ok());
  EXPECT_EQ(Contiguous(*one), 1);
  EXPECT_EQ(Contiguous(*other), 0);
  EXPECT_NE(EpochOf(*one), EpochOf(*other));
}

TEST_F(Sqlite, AFileThatMayNotGrowLosesNothingAndGoesOnWithoutARestart) {
  const auto database = MustOpen(path());
  int64_t acknowledged = 0;
  SetFileSizeLimit(1 << 20);
  const Status refused = Fill(*database, acknowledged);
  SetFileSizeLimit(RLIM_INFINITY);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << Text(refused);
  EXPECT_GT(acknowledged, 0);
  EXPECT_EQ(Contiguous(*database), acknowledged);
  EXPECT_TRUE(Put(*database, acknowledged + 1).ok());
  EXPECT_EQ(Contiguous(*database), acknowledged + 1);
}

TEST_F(Sqlite, AFullDiskLosesNothingAndGoesOnWithoutARestart) {
  const std::string disk = folder_.File("disk");
  ASSERT_TRUE(MakeFolder(disk).ok());
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "only root may make a small disk; the limit on a file's size stands in for it";
  }
  {
    const auto database = MustOpen(disk + "/store.db");
    int64_t acknowledged = 0;
    const Status refused = Fill(*database, acknowledged);
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << Text(refused);
    EXPECT_THAT(std::string(Message(refused)), HasSubstr("is full; make room"));
    EXPECT_GT(acknowledged, 0);
    EXPECT_EQ(Contiguous(*database), acknowledged);
    ASSERT_EQ(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT, "size=16m"), 0);
    EXPECT_TRUE(Put(*database, acknowledged + 1).ok());
    EXPECT_EQ(Contiguous(*database), acknowledged + 1);
  }
  EXPECT_EQ(umount(disk.c_str()), 0);
}

TEST_F(Sqlite, AFailedFsyncIsNeverAnAcknowledgement) {
  const auto database = MustOpen(path());
  ASSERT_TRUE(Put(*database, 1).ok());
  failed_syncs = 0;
  disk_fails = true;
  const Status status = Put(*database, 2);
  disk_fails = false;
  ASSERT_GT(failed_syncs, 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown) << Text(status);
  // Whichever it was, the same write again settles it.
  const Status again = Put(*database, 2);
  EXPECT_TRUE(again.ok() || again.code() == absl::StatusCode::kAlreadyExists) << Text(again);
  ASSERT_TRUE(Put(*database, 3).ok());
  EXPECT_EQ(Contiguous(*database), 3);
  EXPECT_EQ(Contiguous(*MustOpen(path())), 3);
}

TEST_F(Sqlite, ReadersNeitherBlockTheWriterNorSeeHalf) {
  const auto database = MustOpen(path());
  ASSERT_TRUE(Put(*database, 1).ok());
  absl::Notification reading;
  absl::Notification written;
  int64_t before = 0;
  int64_t after = 0;
  exec::Thread reader("reader", [&] {
    const Status read = database->Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const Rows first, t.Query("SELECT count(*) FROM t"));
      reading.Notify();
      written.WaitForNotification();
      MUSTER_ASSIGN_OR_RETURN(const Rows second, t.Query("SELECT count(*) FROM t"));
      before = first[0].Int(0);
      after = second[0].Int(0);
      return OkStatus();
    });
    EXPECT_TRUE(read.ok()) << Text(read);
  });
  reading.WaitForNotification();
  EXPECT_TRUE(Put(*database, 2).ok());
  written.Notify();
  reader.Join();
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 1);
  EXPECT_EQ(Contiguous(*database), 2);
}

// A program that stores rows and says on `out` which ones were acknowledged, until it is killed.
[[noreturn]] void WriteForEver(const std::string& path, int out) {
  const auto opened = OpenSqlite(path);
  if (!opened.ok()) _exit(1);
  int64_t id = Contiguous(**opened);
  while (Put(**opened, ++id, std::string(3000, 'k')).ok()) {
    if (write(out, &id, sizeof id) != sizeof id) _exit(2);
  }
  _exit(3);
}

// Kills a writer after it acknowledged `enough` rows; returns the last one that it acknowledged.
int64_t KillAfter(const std::string& path, int enough) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) WriteForEver(path, ends[1]);
  close(ends[1]);
  int64_t acknowledged = 0;
  for (int i = 0; i < enough; ++i) EXPECT_EQ(read(ends[0], &acknowledged, sizeof acknowledged), 8);
  kill(child, SIGKILL);
  int64_t more = 0;
  while (read(ends[0], &more, sizeof more) == sizeof more) acknowledged = more;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself: " << status;
  return acknowledged;
}

TEST_F(Sqlite, KeepsEveryAcknowledgedCommitThroughKill) {
  MustOpen(path());
  for (int round = 0; round < 12; ++round) {
    const int64_t acknowledged = KillAfter(path(), 3 + round * 29);
    const int64_t stored = Contiguous(*MustOpen(path()));
    EXPECT_GE(stored, acknowledged);
    EXPECT_LE(stored, acknowledged + 1);
  }
}

}  // namespace
}  // namespace muster::sql
