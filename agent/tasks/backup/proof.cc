#include "agent/tasks/backup/proof.h"

#include <algorithm>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/filling.h"
#include "agent/tasks/backup/tar_reader.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

void SortByPath(Files& files) {
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path() < b.path(); });
}

}  // namespace

StatusOr<Files> ReadBack(TaskContext& context, Repository& repository, const std::string& snapshot,
                         uint64_t expected_bytes) {
  MUSTER_RETURN_IF_ERROR(context.Step("reads the backup back from " + repository.place()));
  Files files;
  Digest digest;
  uint64_t bytes = 0;
  TarReader reader({.begin =
                        [&](const std::string& path, uint64_t size) {
                          v1::ManifestFile& file = files.emplace_back();
                          file.set_path(path.starts_with("./") ? path.substr(2) : path);
                          file.set_size(size);
                        },
                    .bytes =
                        [&](std::string_view piece) {
                          digest.Add(piece);
                          bytes += piece.size();
                        },
                    .end = [&] { files.back().set_sha256(digest.Take()); }});
  MUSTER_RETURN_IF_ERROR(repository.Dump(context, snapshot, [&](std::string_view piece) {
    context.Progress(Amount(bytes, expected_bytes, "reading back"));
    return reader.Take(piece);
  }));
  MUSTER_RETURN_IF_ERROR(reader.Finish());
  SortByPath(files);
  return files;
}

StatusOr<Files> ReadBackInto(TaskContext& context, Repository& repository,
                             const std::string& snapshot, const Workspace& workspace,
                             const std::string& folder, uint64_t expected_bytes) {
  MUSTER_RETURN_IF_ERROR(context.Step("restores the backup into " + folder));
  MUSTER_RETURN_IF_ERROR(
      repository.Restore(context, snapshot, folder,
                         TellFilling(context, folder, expected_bytes, "reading back",
                                     [&workspace] { return workspace.CheckReserve(); })));
  return HashFolder(context, folder);
}

Status CompareWithManifest(const v1::BackupManifest& manifest, Files files) {
  std::erase_if(files, [](const v1::ManifestFile& file) { return file.path() == kManifestName; });
  return CompareFiles(Files(manifest.files().begin(), manifest.files().end()), files);
}

Status Prove(TaskContext& context, const Workspace& workspace, const ProveRequest& request) {
  switch (request.manifest.engine()) {
    case v1::BACKUP_ENGINE_POSTGRES_DUMP: return ProvePostgres(context, workspace, request);
    case v1::BACKUP_ENGINE_POSTGRES_BASE: return ProveBase(context, workspace, request);
    case v1::BACKUP_ENGINE_REDIS_RDB: return ProveRedis(context, workspace, request);
    // Of files, that they are there with their bytes is all that can be asked.
    case v1::BACKUP_ENGINE_FILES: return OkStatus();
    default: return InvalidArgument("this agent cannot restore such a backup");
  }
}

void SetProof(const TaskContext& context, v1::BackupProof proof, v1::Backup& backup) {
  backup.set_proof(proof);
  *backup.mutable_proven_at() = wire::ToProto(context.clock().Now());
}

void Tell(TaskContext& context, const v1::Backup& backup) {
  v1::RunArtifact artifact;
  *artifact.mutable_backup() = backup;
  context.Artifact(std::move(artifact));
}

TaskEnd EndOf(const TaskContext& context, const Status& status, std::string done) {
  TaskEnd end;
  if (status.ok()) {
    end.outcome = v1::RUN_OUTCOME_SUCCEEDED;
    end.reason = std::move(done);
    return end;
  }
  if (context.demand() != Demand::kNone) return context.Ended();
  end.reason = std::string(Message(status));
  return end;
}

}  // namespace muster::agent::backup
