#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/sql/migrations.h"
#include "lib/sql/sqlite_connection.h"
#include "lib/sql/words.h"

namespace muster::sql {
namespace {

using Access = SqliteConnection::Access;

// Readers beyond these wait for one another.
constexpr size_t kMostReaders = 8;
// A larger file is not read through at every start; its header, size and schema are looked at.
constexpr int64_t kCheckedWhole = int64_t{256} << 20;

struct File {
  int64_t inode = 0;
  int64_t bytes = 0;
};

StatusOr<File> LookAt(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0)
    return Unavailable("look at {}: {}", path, std::strerror(errno));
  return File{static_cast<int64_t>(found.st_ino), int64_t{found.st_size}};
}

// The file, made if it is not there, for nobody else to read. An existing one is never opened here:
// closing it would drop the locks that SQLite holds on it elsewhere in this process.
Status OwnFile(const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) {
    close(fd);
    return OkStatus();
  }
  const int error = errno;
  if (error == EEXIST) {
    if (chmod(path.c_str(), 0600) == 0) return OkStatus();
    return PermissionDenied("{} belongs to somebody else: {}", path, std::strerror(errno));
  }
  if (error == ENOENT) return NotFound("the folder of {} is not there; make it", path);
  if (error == ENOSPC || error == EDQUOT)
    return ResourceExhausted("the disk under {} is full; make room", path);
  return FailedPrecondition("{} cannot be made: {}", path, std::strerror(error));
}

class SqliteDatabase final : public Database {
 public:
  static StatusOr<std::unique_ptr<Database>> Open(const std::string& path) {
    auto database = std::unique_ptr<SqliteDatabase>(new SqliteDatabase(path));
    if (!database->memory_) MUSTER_RETURN_IF_ERROR(OwnFile(path));
    MUSTER_RETURN_IF_ERROR(database->Check());
    MUSTER_RETURN_IF_ERROR(database->Prepare());
    return std::unique_ptr<Database>(std::move(database));
  }

  Status Write(Body body) override {
    absl::MutexLock lock(&writer_mutex_);
    const bool prove = !proven_;
    const Status status = WriteLocked([&](Transaction& t) -> Status {
      if (prove) MUSTER_RETURN_IF_ERROR(Prove(t));
      return body(t);
    });
    proven_ |= status.ok();
    return status;
  }

  Status Read(Body body) override {
    if (memory_) return ReadMemory(body);
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<SqliteConnection> reader, TakeReader());
    const Status status = reader->ReadWith(body);
    GiveReader(std::move(reader));
    return status;
  }

  void OnRecovery(Recovery recovery) override { recovery_ = std::move(recovery); }

  StatusOr<absl::Time> Now() override { return SystemClock().Now(); }

  StatusOr<std::string> StoreEpoch() override {
    if (!Proven()) MUSTER_RETURN_IF_ERROR(Write([](Transaction&) { return OkStatus(); }));
    std::string epoch;
    MUSTER_RETURN_IF_ERROR(Read([&](Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const Rows rows, t.Query("SELECT epoch FROM store_meta"));
      if (rows.empty())
        return DataLoss("{} has lost its store epoch; restore the newest backup of it", path_);
      epoch = rows[0].Text(0);
      return OkStatus();
    }));
    return epoch;
  }

  Status Migrate(std::span<const std::string_view> migrations) override {
    bool done = false;
    while (!done) MUSTER_RETURN_IF_ERROR(MigrateOne(migrations, done));
    return OkStatus();
  }

  // A file is in one piece.
  StatusOr<int64_t> MakeDays(std::string_view, absl::Time, absl::Time) override { return 0; }
  StatusOr<std::optional<int>> DropDays(std::string_view, absl::Time) override {
    return std::optional<int>();
  }

 private:
  explicit SqliteDatabase(std::string path)
      : path_(std::move(path)), memory_(path_ == ":memory:") {}

  // After a failed write or fsync nothing is tried again on the same connection: a new one starts
  // from what the disk holds.
  Status NeedWriter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(writer_mutex_) {
    if (writer_ != nullptr) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(writer_, SqliteConnection::Open(path_, Access::kWrite));
    return OkStatus();
  }
  void DropBrokenWriter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(writer_mutex_) {
    if (writer_->broken() && !memory_) writer_.reset();
  }
  Status WriteLocked(Body body) ABSL_EXCLUSIVE_LOCKS_REQUIRED(writer_mutex_) {
    MUSTER_RETURN_IF_ERROR(NeedWriter());
    const Status status = writer_->WriteWith(body);
    DropBrokenWriter();
    return status;
  }
  bool Proven() {
    absl::MutexLock lock(&writer_mutex_);
    return proven_;
  }

  Status ReadMemory(Body body) {
    absl::MutexLock lock(&writer_mutex_);
    MUSTER_RETURN_IF_ERROR(NeedWriter());
    return writer_->ReadOnlyWith(body);
  }

  // At most kMostReaders at once; the others wait.
  StatusOr<std::unique_ptr<SqliteConnection>> TakeReader() {
    {
      absl::MutexLock lock(&readers_mutex_, absl::Condition(this, &SqliteDatabase::ReaderIsFree));
      ++reading_;
      if (!idle_.empty()) {
        std::unique_ptr<SqliteConnection> reader = std::move(idle_.back());
        idle_.pop_back();
        return reader;
      }
    }
    auto reader = SqliteConnection::Open(path_, Access::kRead);
    if (!reader.ok()) GiveReader(nullptr);
    return reader;
  }
  bool ReaderIsFree() const ABSL_SHARED_LOCKS_REQUIRED(readers_mutex_) {
    return reading_ < kMostReaders;
  }

  void GiveReader(std::unique_ptr<SqliteConnection> reader) {
    absl::MutexLock lock(&readers_mutex_);
    --reading_;
    if (reader != nullptr && !reader->broken()) idle_.push_back(std::move(reader));
  }

  Status Check() {
    if (memory_) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(const File file, LookAt(path_));
    absl::MutexLock lock(&writer_mutex_);
    return WriteLocked([&](Transaction& t) -> Status {
      if (file.bytes >= kCheckedWhole)
        return t.Query("SELECT count(*) FROM sqlite_master").status();
      MUSTER_ASSIGN_OR_RETURN(const Rows found, t.Query("PRAGMA quick_check(1)"));
      if (found.size() == 1 && found[0].Text(0) == "ok") return OkStatus();
      return DataLoss(
          "{} is damaged ({}); move it away together with its -wal and -shm files, and restore the "
          "newest backup of it",
          path_, found.empty() ? "no answer" : found[0].Text(0));
    });
  }

  // The file remembers its inode: a copy that was put in its place begins an epoch of its own.
  Status Prepare() {
    MUSTER_ASSIGN_OR_RETURN(file_, memory_ ? File() : LookAt(path_));
    const std::string fresh = RandomUuid();
    absl::MutexLock lock(&writer_mutex_);
    return WriteLocked([&](Transaction& t) -> Status {
      MUSTER_RETURN_IF_ERROR(
          t.Execute("CREATE TABLE IF NOT EXISTS store_meta (epoch TEXT NOT NULL)").status());
      MUSTER_RETURN_IF_ERROR(
          t.Execute("CREATE TABLE IF NOT EXISTS store_file (inode BIGINT NOT NULL)").status());
      MUSTER_ASSIGN_OR_RETURN(const Rows marked, t.Query("SELECT 1 FROM store_meta"));
      return marked.empty() ? Mark(t, fresh) : OkStatus();
    });
  }

  Status Mark(Transaction& t, const std::string& epoch) {
    MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM store_meta").status());
    MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM store_file").status());
    MUSTER_RETURN_IF_ERROR(
        t.Execute("INSERT INTO store_file (inode) VALUES ($1)", {file_.inode}).status());
    return t.Execute("INSERT INTO store_meta (epoch) VALUES ($1)", {std::string_view(epoch)})
        .status();
  }

  // In the first transaction of the first writer.
  Status Prove(Transaction& t) {
    MUSTER_ASSIGN_OR_RETURN(const Rows rows,
                            t.Query("SELECT epoch, (SELECT max(inode) FROM store_file) = $1 "
                                    "FROM store_meta",
                                    {file_.inode}));
    if (!rows.empty() && !rows[0].IsNull(1) && rows[0].Int(1) != 0) return OkStatus();
    const EpochChange change = {rows.empty() ? "" : rows[0].Text(0), RandomUuid()};
    MUSTER_RETURN_IF_ERROR(Mark(t, change.after));
    LogWarning("the file is a copy: a new epoch of the store begins", {{"store", path_}});
    return recovery_ == nullptr ? OkStatus() : recovery_(t, change);
  }

  // The next migration that is not there yet, in a transaction of its own.
  Status MigrateOne(std::span<const std::string_view> migrations, bool& done) {
    absl::MutexLock lock(&writer_mutex_);
    MUSTER_RETURN_IF_ERROR(NeedWriter());
    SqliteConnection& t = *writer_;
    const Status status = t.WriteWith([&](Transaction&) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const size_t applied, MigrationsApplied(t));
      done = applied >= migrations.size();
      if (done) return CheckNewer(t, path_, migrations.size(), applied);
      MUSTER_RETURN_IF_ERROR(
          t.Script(ReplaceWord(ForDriver(migrations[applied], "sqlite"), "BYTES", "BLOB")));
      return NoteMigration(t, migrations[applied], applied + 1);
    });
    DropBrokenWriter();
    return status;
  }

  const std::string path_;
  const bool memory_;
  File file_;          // as it was opened
  Recovery recovery_;  // set before the first Write
  absl::Mutex writer_mutex_;
  bool proven_ ABSL_GUARDED_BY(writer_mutex_) = false;  // the epoch
  std::unique_ptr<SqliteConnection> writer_ ABSL_GUARDED_BY(writer_mutex_);
  absl::Mutex readers_mutex_;
  std::vector<std::unique_ptr<SqliteConnection>> idle_ ABSL_GUARDED_BY(readers_mutex_);
  size_t reading_ ABSL_GUARDED_BY(readers_mutex_) = 0;
};

}  // namespace

double Row::Real(size_t column) const {
  if (const auto* whole = std::get_if<int64_t>(&cells_.at(column)))
    return static_cast<double>(*whole);
  return std::get<double>(cells_.at(column));
}

StatusOr<std::unique_ptr<Database>> OpenSqlite(const std::string& path) {
  return SqliteDatabase::Open(path);
}

}  // namespace muster::sql
