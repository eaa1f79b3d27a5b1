// A backup written to a new place: a folder, or a database that there is not yet.
#include <filesystem>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/kept_backup.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/postgres.h"
#include "agent/tasks/tasks.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace backup {
namespace {

class RestoreBackupTask final : public Task {
 public:
  RestoreBackupTask(v1::RestoreBackupTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return OneLine(fmt::format("a restore of the backup {} to {}",
                               spec_.backup().snapshot_id().substr(0, 8), Target()));
  }

  TaskEnd Run(TaskContext& context) override {
    KeptBackup kept(spec_.repository(), spec_.backup(), spec_.staging(), policy_);
    const absl::Duration began = context.clock().Uptime();
    std::string next;
    const Status status = Restore(context, kept, next);
    if (status.ok()) Tell(context, kept, context.clock().Uptime() - began);
    return EndOf(context, status,
                 fmt::format("restored {} to {}{}", BytesText(kept.bytes()), Target(), next));
  }

 private:
  std::string Target() const {
    return spec_.has_folder() ? spec_.folder() : "the database " + spec_.postgres().database();
  }

  Status Restore(TaskContext& context, KeptBackup& kept, std::string& next) const {
    if (spec_.has_folder()) MUSTER_RETURN_IF_ERROR(CheckNewFolder(spec_.folder()));
    MUSTER_RETURN_IF_ERROR(kept.Open(context));
    return spec_.has_folder() ? ToFolder(context, kept, next) : ToDatabase(context, kept);
  }

  // What was written when it fails is removed: half a backup must not be taken for one.
  Status ToFolder(TaskContext& context, KeptBackup& kept, std::string& next) const {
    // Links may have moved since the task was made.
    MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.folder()));
    MUSTER_RETURN_IF_ERROR(MakeFolder(spec_.folder()));
    MUSTER_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(spec_.folder()));
    if (free < kept.bytes()) {
      return ResourceExhausted("{} has {} free, and the backup takes {}", spec_.folder(),
                               BytesText(free), BytesText(kept.bytes()));
    }
    Status restored = kept.ReadBack(context, spec_.folder());
    if (restored.ok() && kept.manifest().engine() == v1::BACKUP_ENGINE_POSTGRES_BASE) {
      const StatusOr<std::string> startable = MakeStartable(spec_.folder());
      if (startable.ok()) next = *startable;
      restored = startable.status();
    }
    if (restored.ok()) return restored;
    std::error_code error;
    std::filesystem::remove_all(spec_.folder(), error);
    return restored;
  }

  Status ToDatabase(TaskContext& context, KeptBackup& kept) const {
    if (kept.manifest().engine() != v1::BACKUP_ENGINE_POSTGRES_DUMP) {
      return InvalidArgument("the snapshot {} is no dump of a database: restore it to a folder",
                             spec_.backup().snapshot_id());
    }
    MUSTER_ASSIGN_OR_RETURN(const PgServer server, Reach(context));
    MUSTER_RETURN_IF_ERROR(kept.workspace().NeedRoom(kept.bytes(), "the restored backup"));
    MUSTER_ASSIGN_OR_RETURN(const std::string folder, kept.workspace().MakeSub("restored"));
    MUSTER_RETURN_IF_ERROR(kept.ReadBack(context, folder));
    return RestoreDatabase(context, kept.workspace(), server,
                           {.folder = folder,
                            .manifest = kept.manifest(),
                            .verify = v1::BackupVerify::default_instance(),
                            .parallel = std::max(1U, spec_.postgres().parallel())},
                           spec_.postgres().database());
  }

  StatusOr<PgServer> Reach(TaskContext& context) const {
    return PgServer::Of(spec_.postgres(), policy_, context);
  }

  void Tell(TaskContext& context, KeptBackup& kept, absl::Duration took) const {
    v1::RunArtifact artifact;
    v1::Restore& restore = *artifact.mutable_restore();
    restore.set_repository_id(kept.repository().id());
    restore.set_snapshot_id(spec_.backup().snapshot_id());
    restore.set_target(OneLine(Target()));
    restore.set_bytes(kept.bytes());
    *restore.mutable_took() = wire::ToProto(took);
    context.Artifact(std::move(artifact));
  }

  const v1::RestoreBackupTask spec_;
  const Policy policy_;
};

}  // namespace
}  // namespace backup

TaskOr MakeRestoreBackupTask(const v1::RestoreBackupTask& spec, const Policy& policy) {
  if (spec.has_pgbackrest()) return backup::MakePgBackRestRestore(spec, policy);
  if (!spec.target_time().empty()) {
    return InvalidArgument(
        "only a backup by pgBackRest leads to another moment than that it was taken at: leave the "
        "target time out");
  }
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(backup::Repository::Check(spec.repository(), policy));
  if (spec.has_folder()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.folder()));
  if (spec.postgres().has_connection()) {
    MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.postgres().connection().secret()));
  }
  if (!spec.has_folder() && !spec.has_postgres()) {
    return InvalidArgument("a restore needs a folder or postgres to restore to");
  }
  return std::make_unique<backup::RestoreBackupTask>(spec, policy);
}

}  // namespace muster::agent
