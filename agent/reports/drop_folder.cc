#include "agent/reports/drop_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

namespace muster::agent {
namespace {

constexpr mode_t kMode = 01733;
// A report that is being written, for longer than that, is left over.
constexpr absl::Duration kLongestWriting = absl::Minutes(10);

Status Failed(std::string_view doing, const std::string& path) {
  return Unavailable("{} {}: {}", doing, path, std::strerror(errno));
}

absl::Time ChangedAt(const struct stat& facts) { return absl::TimeFromTimespec(facts.st_mtim); }

bool IsPlain(const struct stat& facts) {
  return S_ISREG(facts.st_mode) && facts.st_nlink == 1 &&
         facts.st_size <= static_cast<off_t>(kMostReportBytes);
}

// What one user has in the folder.
struct Share {
  size_t files = 0;
  int64_t bytes = 0;
  bool Takes(const struct stat& facts, const DropFolder::Bounds& bounds) {
    bytes += facts.st_size;
    return ++files <= bounds.files && bytes <= bounds.bytes;
  }
};

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

}  // namespace

std::string DropFolderOf(const std::string& data) { return data + "/exec"; }

StatusOr<DropFolder> DropFolder::Open(const std::string& data, For whom) {
  return Open(data, whom, Bounds{});
}

StatusOr<DropFolder> DropFolder::Open(const std::string& data, For whom, Bounds bounds) {
  const std::string path = DropFolderOf(data);
  if (mkdir(path.c_str(), kMode) != 0 && errno != EEXIST) return Failed("make", path);
  exec::Fd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.open()) return Failed("open", path);
  struct stat facts {};
  if (fstat(folder.get(), &facts) != 0) return Failed("look at", path);
  if (facts.st_uid != geteuid()) {
    return PermissionDenied("{} belongs to user {} and not to the agent: remove it", path,
                            facts.st_uid);
  }
  if (fchmod(folder.get(), kMode) != 0) return Failed("change the mode of", path);
  if (whom == For::kOwner) return DropFolder(std::move(folder), bounds);
  if (stat(data.c_str(), &facts) != 0) return Failed("look at", data);
  const mode_t passable = (facts.st_mode & 07777) | 0011;
  if (chmod(data.c_str(), passable) != 0) return Failed("change the mode of", data);
  return DropFolder(std::move(folder), bounds);
}

StatusOr<std::vector<DroppedFile>> DropFolder::List(absl::Time now) {
  const int copy = openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, CloseFolder> folder(copy < 0 ? nullptr : fdopendir(copy));
  if (folder == nullptr) return Failed("list", "the folder of reports");
  std::vector<DroppedFile> files;
  std::map<uid_t, Share> shares;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string_view file = entry->d_name;
    struct stat facts {};
    if (file == "." || file == ".." ||
        fstatat(folder_.get(), entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;
    }
    const std::optional<ReportName> name = ParseReportName(file);
    const bool being_written = file.starts_with('.') && now - ChangedAt(facts) < kLongestWriting;
    if (!IsPlain(facts) || (!name && !being_written) ||
        !shares[facts.st_uid].Takes(facts, bounds_)) {
      RemoveUnread(entry->d_name);
    } else if (name) {
      files.push_back({*name, facts.st_uid, ChangedAt(facts)});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const DroppedFile& a, const DroppedFile& b) { return a.changed < b.changed; });
  return files;
}

// A folder that is not empty stays: nothing is looked for below this one.
void DropFolder::RemoveUnread(const char* name) {
  const bool gone =
      unlinkat(folder_.get(), name, 0) == 0 || unlinkat(folder_.get(), name, AT_REMOVEDIR) == 0;
  if (gone) ++removed_;
}

uint64_t DropFolder::TakeRemoved() { return std::exchange(removed_, 0); }

StatusOr<exec::Fd> DropFolder::OpenFile(const DroppedFile& file) const {
  const std::string name = FileName(file.name);
  exec::Fd fd(openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.open() && errno == ENOENT) return NotFound("{} is gone", name);
  if (!fd.open() && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
    return Unavailable("open {}: {}", name, std::strerror(errno));
  }
  struct stat facts {};
  if (!fd.open() || fstat(fd.get(), &facts) != 0 || !IsPlain(facts) || facts.st_uid != file.user) {
    return InvalidArgument("it is no plain file of its user that the agent may read");
  }
  return fd;
}

StatusOr<std::string> DropFolder::Read(const DroppedFile& file) const {
  MUSTER_ASSIGN_OR_RETURN(const exec::Fd fd, OpenFile(file));
  std::string content(kMostReportBytes + 1, '\0');
  size_t size = 0;
  while (size < content.size()) {
    const ssize_t got = read(fd.get(), content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Unavailable("read {}: {}", FileName(file.name), std::strerror(errno));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMostReportBytes) return InvalidArgument("it is larger than a report");
  content.resize(size);
  return content;
}

bool DropFolder::IsHeld(const DroppedFile& file) const {
  const StatusOr<exec::Fd> fd = OpenFile(file);
  if (!fd.ok()) return absl::IsUnavailable(fd.status());
  return flock(fd->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

bool DropFolder::Has(const ReportName& name) const {
  struct stat facts {};
  return fstatat(folder_.get(), FileName(name).c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0;
}

Status DropFolder::Rename(const ReportName& from, const ReportName& to) const {
  const std::string before = FileName(from);
  if (renameat(folder_.get(), before.c_str(), folder_.get(), FileName(to).c_str()) == 0) {
    return OkStatus();
  }
  return Failed("rename", before);
}

void DropFolder::Remove(const ReportName& name) const {
  unlinkat(folder_.get(), FileName(name).c_str(), 0);
}

}  // namespace muster::agent
