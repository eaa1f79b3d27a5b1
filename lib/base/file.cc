#include "lib/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "lib/base/hash.h"

namespace muster {
namespace {

constexpr size_t kLargestFile = 64 << 20;

Status Failed(std::string_view doing, const std::string& path) {
  const int error = errno;
  const auto code = error == ENOENT                      ? absl::StatusCode::kNotFound
                    : error == EACCES || error == EPERM  ? absl::StatusCode::kPermissionDenied
                    : error == ENOSPC || error == EDQUOT ? absl::StatusCode::kResourceExhausted
                                                         : absl::StatusCode::kUnavailable;
  return MakeStatus(code, "{} {}: {}", doing, path, std::strerror(error));
}

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t wrote = write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return Failed("write", path);
    content.remove_prefix(static_cast<size_t>(wrote));
  }
  return fsync(fd) == 0 ? OkStatus() : Failed("fsync", path);
}

Status SyncFolderOf(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Failed("open", folder);
  const Status synced = fsync(fd) == 0 ? OkStatus() : Failed("fsync", folder);
  close(fd);
  return synced;
}

}  // namespace

StatusOr<std::string> ReadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failed("open", path);
  std::string content;
  char buffer[16384];
  ssize_t got = 0;
  while ((got = read(fd, buffer, sizeof buffer)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > kLargestFile) break;
  }
  const Status failed = got < 0 ? Failed("read", path) : OkStatus();
  close(fd);
  MUSTER_RETURN_IF_ERROR(failed);
  if (content.size() > kLargestFile) return ResourceExhausted("{} is larger than 64 MiB", path);
  return content;
}

Status WriteFileAtomically(const std::string& path, std::string_view content, mode_t mode) {
  const std::string beside = path + ".new-" + RandomUuid().substr(0, 8);
  const int fd = open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return Failed("create", beside);
  Status status = WriteAll(fd, content, beside);
  close(fd);
  if (status.ok() && rename(beside.c_str(), path.c_str()) != 0) status = Failed("rename to", path);
  if (!status.ok()) {
    unlink(beside.c_str());
    return status;
  }
  return SyncFolderOf(path);
}

Status MakeFolder(const std::string& path) {
  std::filesystem::path built;
  for (const auto& part : std::filesystem::path(path)) {
    built /= part;
    if (mkdir(built.c_str(), 0700) != 0 && errno != EEXIST) {
      struct stat found {};
      if (stat(built.c_str(), &found) != 0) return Failed("make folder", built);
    }
  }
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) return Failed("look at", path);
  if (!S_ISDIR(found.st_mode)) return FailedPrecondition("{} is not a folder", path);
  return OkStatus();
}

bool FileExists(const std::string& path) {
  struct stat found {};
  return stat(path.c_str(), &found) == 0;
}

}  // namespace muster
