// Files and folders of the host, by restic alone: nothing is staged.
#include <filesystem>

#include <sys/stat.h>
#include <unistd.h>

#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/manifest.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

class FilesEngine final : public Engine {
 public:
  FilesEngine(v1::FilesSource spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override { return fmt::format("{}", fmt::join(spec_.paths(), ", ")); }

  StatusOr<Need> Plan(TaskContext&) override {
    for (const std::string& path : spec_.paths()) {
      // Links may have moved since the task was made.
      MUSTER_RETURN_IF_ERROR(policy_.AllowPath(path));
      struct stat facts {};
      if (lstat(path.c_str(), &facts) != 0) {
        return NotFound("there is no {} on this host: mount it, or take it out of files.paths",
                        path);
      }
    }
    return Need{};
  }

  Status Produce(TaskContext&, const Workspace&, const std::string&,
                 v1::BackupManifest& manifest) override {
    manifest.set_engine(v1::BACKUP_ENGINE_FILES);
    manifest.set_source(OneLine(What()));
    return OkStatus();
  }

  ResticSource Source(const std::string&) const override {
    ResticSource source;
    source.paths.assign(spec_.paths().begin(), spec_.paths().end());
    source.exclude.assign(spec_.exclude().begin(), spec_.exclude().end());
    return source;
  }
  bool produces() const override { return false; }

  // With the files themselves, but for those that were changed since a little before.
  Status CompareWithSource(TaskContext& context, const v1::BackupManifest& manifest) override {
    const absl::Time taken_at = wire::FromProto(manifest.taken_at());
    uint64_t changed = 0;
    for (const v1::ManifestFile& file : manifest.files()) {
      const std::string path = "/" + file.path();
      const std::optional<struct stat> before = Look(path);
      v1::ManifestFile now;
      if (!before || !IsOlder(*before, taken_at) || !HashOne(context, path, now).ok()) {
        MUSTER_RETURN_IF_ERROR(GoOn(context));
        ++changed;
        continue;
      }
      const std::optional<struct stat> after = Look(path);
      if (!after || !IsOlder(*after, taken_at)) {
        ++changed;
      } else if (now.size() != file.size() || now.sha256() != file.sha256()) {
        return DataLoss("{} was read back with other bytes than it has", OneLine(path));
      }
    }
    context.Note(fmt::format("compared {} files with their sources; {} were changed since then",
                             static_cast<uint64_t>(manifest.files_size()) - changed, changed));
    return OkStatus();
  }

 private:
  static std::optional<struct stat> Look(const std::string& path) {
    struct stat facts {};
    if (lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) return std::nullopt;
    return facts;
  }
  // A file's time goes in steps of some milliseconds.
  static bool IsOlder(const struct stat& facts, absl::Time than) {
    return absl::TimeFromTimespec(facts.st_ctim) < than - absl::Seconds(1);
  }

  const v1::FilesSource spec_;
  const Policy policy_;
};

}  // namespace

EngineOr MakeFiles(const v1::FilesSource& spec, const Policy& policy) {
  if (spec.paths().empty()) return InvalidArgument("a backup of files needs paths");
  for (const std::string& path : spec.paths()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(path));
  return std::make_unique<FilesEngine>(spec, policy);
}

}  // namespace muster::agent::backup
