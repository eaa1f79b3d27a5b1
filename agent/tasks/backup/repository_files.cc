#include "agent/tasks/backup/repository_files.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>

#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

namespace fs = std::filesystem;

bool HoldsFiles(const std::string& folder) {
  std::error_code error;
  auto at = fs::recursive_directory_iterator(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    std::error_code gone;
    if (at->is_regular_file(gone)) return true;
  }
  return false;
}

bool HoldsBackups(const std::string& repository) {
  const auto kinds = {"/snapshots", "/index", "/data"};
  return std::any_of(kinds.begin(), kinds.end(),
                     [&](const char* kind) { return HoldsFiles(repository + kind); });
}

// Others are of somebody who writes, or wrote, one.
bool IsHash(const std::string& name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool HoldsKeys(const std::string& repository) {
  std::error_code error;
  auto at = fs::directory_iterator(repository + "/keys", error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    if (IsHash(at->path().filename())) return true;
  }
  return false;
}

Status CheckNames(const std::string& folder) {
  std::error_code error;
  auto at = fs::directory_iterator(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename();
    if (!IsHash(name)) continue;
    // What cannot be read, restic tells better.
    const StatusOr<std::string> bytes = ReadFile(at->path());
    if (bytes.ok() && HexEncode(Sha256(*bytes)) != name) {
      return DataLoss("the content of {} is not what its name says", at->path().native());
    }
  }
  return OkStatus();
}

}  // namespace

Status LookForDamage(const std::string& repository) {
  std::error_code error;
  const auto size = fs::file_size(repository + "/config", error);
  if ((error || size == 0) && HoldsBackups(repository)) {
    return DataLoss("its file config is {}", error ? "missing" : "empty");
  }
  for (const char* kind : {"/keys", "/snapshots", "/index"})
    MUSTER_RETURN_IF_ERROR(CheckNames(repository + kind));
  if (HoldsBackups(repository) && !HoldsKeys(repository)) {
    return DataLoss("its folder keys holds no key, and without one nobody can read it");
  }
  return OkStatus();
}

Status CheckNotBegun(const std::string& repository) {
  if (!HoldsKeys(repository)) return OkStatus();
  return FailedPrecondition(
      "{} holds a key and no configuration: whoever made the repository was cut off. It holds no "
      "backup: remove the folder",
      repository);
}

}  // namespace muster::agent::backup
