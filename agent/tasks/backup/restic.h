// A restic repository, by the restic program. The password goes to it through its stdin, an open
// file without a name; it stands in no argument, environment or file. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/tasks/backup/programs.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

struct Snapshot {
  std::string id;  // 64 hex digits
  uint64_t files = 0;
  uint64_t source_bytes = 0;
  uint64_t stored_bytes = 0;  // that its data takes in the repository, others' or not
  // What could not be read, if anything: then it is not whole.
  std::string unread;
};

// What goes into a snapshot: paths, from the directory if they are not absolute.
struct ResticSource {
  std::string directory = "/";
  std::vector<std::string> paths;
  std::vector<std::string> exclude;
  uint64_t bytes = 0;                                       // for progress; 0 if it is not known
  v1::BackupEngine engine = v1::BACKUP_ENGINE_UNSPECIFIED;  // a tag of the snapshot
};

class Repository {
 public:
  // What can be said before anything runs: PermissionDenied with what to allow, NotFound without
  // restic on this host.
  static Status Check(const v1::BackupRepository& spec, const Policy& policy);

  // `cache`: a folder for restic's cache, for a repository behind a URL.
  Repository(const v1::BackupRepository& spec, const Policy& policy, std::string cache);

  // Before all else: the address is allowed, the repository is there (or is made, where the spec
  // says so), and the password opens it.
  Status Open(TaskContext& context);
  const std::string& id() const { return id_; }
  const std::string& place() const { return place_; }  // for people
  const std::string& version() const { return version_; }

  StatusOr<Snapshot> Backup(TaskContext& context, const ResticSource& source);
  // All of the snapshot, read back from the repository as a tar archive.
  Status Dump(TaskContext& context, const std::string& snapshot,
              const std::function<Status(std::string_view)>& take);
  // One small file of it, by its path there.
  StatusOr<std::string> ReadSmall(TaskContext& context, const std::string& snapshot,
                                  const std::string& path);
  // Into the folder. `watch` as in ProgramRequest.
  Status Restore(TaskContext& context, const std::string& snapshot, const std::string& target,
                 const std::function<Status()>& watch);
  // What is known of a snapshot; NotFound without it, DataLoss if it is there and spoilt.
  struct Listed {
    std::string id;
    absl::Time taken_at;
    std::vector<std::string> paths;
    // By its tags.
    bool of_muster = false;
    std::string job;
    std::string run;
    v1::BackupEngine engine = v1::BACKUP_ENGINE_UNSPECIFIED;
  };
  StatusOr<Listed> Find(TaskContext& context, const std::string& snapshot);
  // Oldest first, without those that cannot be read.
  StatusOr<std::vector<Listed>> All(TaskContext& context);
  // Of spoilt ones as well.
  StatusOr<std::set<std::string>> AllIds(TaskContext& context);
  // That a restore of it writes.
  StatusOr<uint64_t> RestoredBytes(TaskContext& context, const std::string& snapshot);
  StatusOr<uint64_t> StoredBytes(TaskContext& context, const std::string& snapshot);
  Status Forget(TaskContext& context, const std::vector<std::string>& snapshots);
  Status Prune(TaskContext& context);

 private:
  struct Call {
    std::vector<std::string> arguments;
    std::string directory = "/";
    std::function<void(std::string_view)> on_out;
    std::function<void(std::string_view)> on_err;
    std::function<Status()> watch;
  };
  StatusOr<ToolEnd> Run(TaskContext& context, const Call& call);
  StatusOr<ToolEnd> RunOnce(TaskContext& context, const Call& call);
  // Run, with every exit code but 0 an error that says what to do.
  StatusOr<ToolEnd> RunWell(TaskContext& context, const Call& call);
  Status Explain(const ToolEnd& end) const;
  // DataLoss that says what to do.
  Status Damaged(std::string_view how) const;
  Status CheckFiles() const;
  Status AllowAddress(TaskContext& context) const;
  Status Make(TaskContext& context);
  Status ReadConfig(TaskContext& context);
  StatusOr<uint64_t> Statistic(TaskContext& context, const std::string& snapshot, const char* mode);

  const v1::BackupRepository spec_;
  const Policy policy_;
  const std::string cache_;
  const std::string place_;
  std::string id_;
  std::string version_;
};

}  // namespace muster::agent::backup
