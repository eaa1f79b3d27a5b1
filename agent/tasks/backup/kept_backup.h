// A backup that is in a repository already: what it is, and all of it, read back and compared.
#pragma once

#include <memory>
#include <string>

#include "agent/policy/policy.h"
#include "agent/tasks/backup/proof.h"

namespace muster::agent::backup {

class KeptBackup {
 public:
  KeptBackup(const v1::BackupRepository& repository, const v1::BackupIdentity& identity,
             const std::string& staging, const Policy& policy);

  // The workspace, the repository, the snapshot, and its manifest, which must have the hash that
  // the identity names.
  Status Open(TaskContext& context);
  // Reads everything back and compares it with the manifest. Into the folder, if one is given.
  Status ReadBack(TaskContext& context, const std::string& folder);

  const Workspace& workspace() const { return *workspace_; }
  Repository& repository() { return repository_; }
  const v1::BackupManifest& manifest() const { return manifest_; }
  bool of_files() const { return identity_.engine() == v1::BACKUP_ENGINE_FILES; }
  // That it takes where it is restored.
  uint64_t bytes() const { return bytes_; }
  // Its record, as far as it is known here.
  StatusOr<v1::Backup> Record(TaskContext& context);

 private:
  Status ReadManifest(TaskContext& context);
  Status CheckHash(const std::string& hash) const;

  const v1::BackupIdentity identity_;
  const std::string staging_;
  Repository repository_;
  std::unique_ptr<Workspace> workspace_;
  Repository::Listed listed_;
  v1::BackupManifest manifest_;
  uint64_t bytes_ = 0;
};

}  // namespace muster::agent::backup
