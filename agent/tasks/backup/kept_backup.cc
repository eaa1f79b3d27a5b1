#include "agent/tasks/backup/kept_backup.h"

#include <fmt/ranges.h>

#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

// Who looks for a backup makes no repository for it.
v1::BackupRepository AsItIs(v1::BackupRepository repository) {
  repository.set_create(false);
  return repository;
}

}  // namespace

KeptBackup::KeptBackup(const v1::BackupRepository& repository, const v1::BackupIdentity& identity,
                       const std::string& staging, const Policy& policy)
    : identity_(identity),
      staging_(staging),
      repository_(AsItIs(repository), policy, staging + "/restic-cache") {}

Status KeptBackup::Open(TaskContext& context) {
  int removed = 0;
  MUSTER_ASSIGN_OR_RETURN(workspace_, Workspace::Open(staging_, context.run_id(), removed));
  MUSTER_RETURN_IF_ERROR(repository_.Open(context));
  MUSTER_ASSIGN_OR_RETURN(listed_, repository_.Find(context, identity_.snapshot_id()));
  return ReadManifest(context);
}

Status KeptBackup::ReadManifest(TaskContext& context) {
  if (of_files()) {
    manifest_.set_engine(identity_.engine());
    manifest_.set_source(OneLine(fmt::format("{}", fmt::join(listed_.paths, ", "))));
    *manifest_.mutable_taken_at() = wire::ToProto(listed_.taken_at);
    MUSTER_ASSIGN_OR_RETURN(bytes_, repository_.RestoredBytes(context, listed_.id));
    return OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(const std::string text,
                          repository_.ReadSmall(context, listed_.id, kManifestName));
  MUSTER_RETURN_IF_ERROR(CheckHash(Sha256(text)));
  MUSTER_ASSIGN_OR_RETURN(manifest_, ParseManifest(text));
  bytes_ = text.size();
  for (const v1::ManifestFile& file : manifest_.files()) bytes_ += file.size();
  if (manifest_.engine() == identity_.engine()) return OkStatus();
  return InvalidArgument("the snapshot {} is no backup of that engine", identity_.snapshot_id());
}

Status KeptBackup::CheckHash(const std::string& hash) const {
  if (identity_.manifest_hash().empty() || identity_.manifest_hash() == HexEncode(hash)) {
    return OkStatus();
  }
  return DataLoss("the manifest of snapshot {} is not the one that was told when it was taken",
                  identity_.snapshot_id());
}

Status KeptBackup::ReadBack(TaskContext& context, const std::string& folder) {
  StatusOr<Files> files =
      folder.empty() ? backup::ReadBack(context, repository_, listed_.id, bytes_)
                     : ReadBackInto(context, repository_, listed_.id, *workspace_, folder, bytes_);
  MUSTER_RETURN_IF_ERROR(files.status());
  if (!of_files()) return CompareWithManifest(manifest_, *std::move(files));
  manifest_.clear_files();
  for (v1::ManifestFile& file : *files) *manifest_.add_files() = std::move(file);
  return CheckHash(ManifestHash(manifest_));
}

StatusOr<v1::Backup> KeptBackup::Record(TaskContext& context) {
  v1::Backup backup;
  Describe(manifest_, backup);
  backup.set_repository_id(repository_.id());
  backup.set_repository(repository_.place());
  backup.set_snapshot_id(listed_.id);
  MUSTER_ASSIGN_OR_RETURN(const uint64_t stored, repository_.StoredBytes(context, listed_.id));
  backup.set_stored_bytes(stored);
  return backup;
}

}  // namespace muster::agent::backup
