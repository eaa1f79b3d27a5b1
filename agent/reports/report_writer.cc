#include "agent/reports/report_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/reports/drop_folder.h"
#include "agent/reports/user_name.h"

namespace muster::agent {
namespace {

Status Failed(std::string_view doing, const std::string& path) {
  return Unavailable("{} {}: {}", doing, path, std::strerror(errno));
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

}  // namespace

ReportWriter::ReportWriter(std::string data, Report begun)
    : data_(std::move(data)), begun_(std::move(begun)), thread_("report", [this] { Work(); }) {}

Status ReportWriter::Finish(Report ended, absl::Duration within) {
  absl::MutexLock lock(&mutex_);
  ended_ = std::move(ended);
  if (mutex_.AwaitWithTimeout(absl::Condition(&over_), within)) return outcome_;
  return DeadlineExceeded("{} takes nothing", DropFolderOf(data_));
}

void ReportWriter::Work() {
  const Status started = WriteStart();
  Report ended;
  {
    const auto told = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return ended_.has_value(); };
    absl::MutexLock lock(&mutex_, absl::Condition(&told));
    ended = *ended_;
  }
  // The end says all that the start would have said.
  const Status outcome = WriteEnd(ended);
  start_.Close();
  absl::MutexLock lock(&mutex_);
  outcome_ = !outcome.ok() && !started.ok() ? started : outcome;
  over_ = true;
}

Status ReportWriter::WriteStart() {
  MUSTER_RETURN_IF_ERROR(OpenFolder());
  return Put({begun_.run_id, ReportName::Kind::kStart}, Pack(begun_), start_);
}

Status ReportWriter::WriteEnd(const Report& report) {
  MUSTER_RETURN_IF_ERROR(OpenFolder());
  MUSTER_RETURN_IF_ERROR(CheckTaken());
  exec::Fd end;
  MUSTER_RETURN_IF_ERROR(Put({report.run_id, ReportName::Kind::kEnd}, Pack(report), end));
  // Where no agent has taken it, one file is enough.
  const std::string start = FileName({report.run_id, ReportName::Kind::kStart});
  unlinkat(folder_.get(), start.c_str(), 0);
  return OkStatus();
}

// An agent that takes a report renames it; one that refuses it removes it.
Status ReportWriter::CheckTaken() const {
  struct stat facts {};
  if (!start_.open() || fstat(start_.get(), &facts) != 0 || facts.st_nlink > 0) return OkStatus();
  return PermissionDenied(
      "the agent does not take it, and its log says why; \"{}:{}\" may be missing in reports of "
      "its "
      "policy file",
      UserNameOf(geteuid()), begun_.job);
}

// Nobody but the agent may read the folder; passing through is enough.
Status ReportWriter::OpenFolder() {
  if (folder_.open()) return OkStatus();
  const std::string path = DropFolderOf(data_);
  folder_ = exec::Fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return folder_.open() ? OkStatus() : Failed("no agent that takes reports: open", path);
}

Status ReportWriter::Put(const ReportName& name, std::string_view bytes, exec::Fd& file) const {
  const std::string path = DropFolderOf(data_);
  const std::string final_name = FileName(name);
  const std::string name_before = "." + final_name;
  file = exec::Fd(openat(folder_.get(), name_before.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.open()) return Failed("make a file in", path);
  // The agent may be another user. Who cannot list the folder cannot guess the name.
  const bool written =
      fchmod(file.get(), 0644) == 0 && flock(file.get(), LOCK_EX | LOCK_NB) == 0 &&
      WriteAll(file.get(), bytes) && fsync(file.get()) == 0 &&
      renameat(folder_.get(), name_before.c_str(), folder_.get(), final_name.c_str()) == 0;
  // The folder cannot be opened to be flushed; with the file goes the journal that has its name.
  if (written && fsync(file.get()) == 0) return OkStatus();
  const Status failed = Failed("write a report into", path);
  unlinkat(folder_.get(), name_before.c_str(), 0);
  file.Close();
  return failed;
}

}  // namespace muster::agent
