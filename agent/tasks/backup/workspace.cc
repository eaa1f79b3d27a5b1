#include "agent/tasks/backup/workspace.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/tasks/backup/bytes.h"
#include "lib/base/file.h"

namespace muster::agent::backup {
namespace {

namespace fs = std::filesystem;
constexpr char kPrefix[] = "run-";
constexpr char kLock[] = "/lock";

StatusOr<exec::Fd> OpenLock(const std::string& path) {
  exec::Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.open()) return Unavailable("cannot write {}: {}", path, std::strerror(errno));
  return fd;
}

bool Take(const exec::Fd& lock, int how) { return flock(lock.get(), how) == 0; }

// Of runs whose agent is gone: nobody holds their lock.
int RemoveDead(const std::string& staging) {
  std::vector<fs::path> dead;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(staging, error)) {
    const bool ours = entry.path().filename().native().starts_with(kPrefix);
    if (!ours || entry.is_symlink(error) || !entry.is_directory(error)) continue;
    const StatusOr<exec::Fd> lock = OpenLock(entry.path().native() + kLock);
    if (lock.ok() && Take(*lock, LOCK_EX | LOCK_NB)) dead.push_back(entry.path());
  }
  int removed = 0;
  for (const fs::path& path : dead) {
    fs::remove_all(path, error);
    if (!error) ++removed;
  }
  return removed;
}

}  // namespace

StatusOr<uint64_t> FreeBytes(const std::string& path) {
  struct statvfs facts {};
  if (statvfs(path.c_str(), &facts) != 0) {
    return Unavailable("cannot look at the disk of {}: {}", path, std::strerror(errno));
  }
  return static_cast<uint64_t>(facts.f_bavail) * facts.f_frsize;
}

uint64_t FolderBytes(const std::string& path) {
  uint64_t bytes = 0;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(path, error);
       at != fs::recursive_directory_iterator(); at.increment(error)) {
    if (error) break;
    std::error_code gone;
    if (at->is_symlink(gone) || !at->is_regular_file(gone)) continue;
    const uint64_t size = at->file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

Status CheckNewFolder(const std::string& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return OkStatus();
  if (fs::is_directory(folder, error) && fs::is_empty(folder, error)) {
    return OkStatus();
  }
  return FailedPrecondition("{} is there and not empty: a backup is restored to a new place",
                            folder);
}

Workspace::Workspace(std::string staging, std::string path, exec::Fd lock)
    : staging_(std::move(staging)), path_(std::move(path)), lock_(std::move(lock)) {}

StatusOr<std::unique_ptr<Workspace>> Workspace::Open(const std::string& staging,
                                                     const std::string& run_id, int& removed) {
  MUSTER_RETURN_IF_ERROR(Annotate(MakeFolder(staging), "the staging folder cannot be made"));
  // Held while folders are made and removed, so that none is removed before it is locked.
  MUSTER_ASSIGN_OR_RETURN(const exec::Fd all, OpenLock(staging + "/.lock"));
  if (!Take(all, LOCK_EX)) return Unavailable("cannot lock {}: {}", staging, std::strerror(errno));
  removed = RemoveDead(staging);
  const std::string path = fmt::format("{}/{}{}", staging, kPrefix, run_id);
  if (mkdir(path.c_str(), 0700) != 0) {
    return Unavailable("cannot make {}: {}", path, std::strerror(errno));
  }
  MUSTER_ASSIGN_OR_RETURN(exec::Fd lock, OpenLock(path + kLock));
  if (!Take(lock, LOCK_EX | LOCK_NB)) return Unavailable("{} is in use", path);
  return std::unique_ptr<Workspace>(new Workspace(staging, path, std::move(lock)));
}

Workspace::~Workspace() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

StatusOr<std::string> Workspace::MakeSub(const std::string& name) const {
  std::string path = File(name);
  if (mkdir(path.c_str(), 0700) == 0) return path;
  return Unavailable("cannot make {}: {}", path, std::strerror(errno));
}

Status Workspace::RemoveSub(const std::string& name) const {
  std::error_code error;
  fs::remove_all(File(name), error);
  if (!error) return OkStatus();
  return Unavailable("cannot remove {}: {}", File(name), error.message());
}

Status Workspace::OpenForOthers() const {
  if (chmod(path_.c_str(), 0711) != 0) {
    return Unavailable("chmod {}: {}", path_, std::strerror(errno));
  }
  for (fs::path at = path_; at != at.parent_path(); at = at.parent_path()) {
    struct stat facts {};
    if (stat(at.c_str(), &facts) == 0 && (facts.st_mode & S_IXOTH) != 0) continue;
    // The staging folder is for this: what is in it has modes of its own.
    const bool ours = at == fs::path(staging_).lexically_normal() && facts.st_uid == geteuid();
    if (ours && chmod(at.c_str(), (facts.st_mode & 07777) | S_IXOTH) == 0) continue;
    return PermissionDenied(
        "a throw-away server does not run as root, and no other user gets "
        "through {}: run chmod o+x {}, or choose another staging folder",
        at.native(), at.native());
  }
  return OkStatus();
}

Status Workspace::NeedRoom(uint64_t bytes, std::string_view for_what) const {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(path_));
  if (free >= bytes && free - bytes >= kReserve) return OkStatus();
  return ResourceExhausted(
      "{} has {} free, and {} needs about {} and {} besides: make room, or "
      "choose another staging folder",
      staging_, BytesText(free), for_what, BytesText(bytes), BytesText(kReserve));
}

Status Workspace::CheckReserve() const {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(path_));
  if (free >= kReserve) return OkStatus();
  return ResourceExhausted(
      "{} is nearly full: {} is left. Make room, or choose another staging "
      "folder",
      staging_, BytesText(free));
}

}  // namespace muster::agent::backup
