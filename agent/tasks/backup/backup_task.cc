// A backup from its source to its proof. It is told as an artifact when it is in the repository,
// and again with each proof: whatever happens then, what is known of it has been told.
#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/proof.h"
#include "agent/tasks/tasks.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace backup {
namespace {

EngineOr MakeEngine(const v1::BackupTask& spec, const Policy& policy) {
  switch (spec.source_case()) {
    case v1::BackupTask::kPostgres:
      return spec.postgres().method() == v1::POSTGRES_METHOD_BASE
                 ? MakePostgresBase(spec.postgres(), policy)
                 : MakePostgresDump(spec.postgres(), policy);
    case v1::BackupTask::kRedis: return MakeRedisRdb(spec.redis(), policy);
    case v1::BackupTask::kFiles: return MakeFiles(spec.files(), policy);
    case v1::BackupTask::kPgbackrest:  // has tasks of its own
    case v1::BackupTask::SOURCE_NOT_SET: break;
  }
  return InvalidArgument("a backup needs one of postgres, redis, files and pgbackrest");
}

// One run of it.
class BackupRun {
 public:
  BackupRun(TaskContext& context, const v1::BackupTask& spec, const Policy& policy, Engine& engine)
      : context_(context),
        spec_(spec),
        engine_(engine),
        began_(context.clock().Uptime()),
        repository_(spec.repository(), policy, spec.staging() + "/restic-cache") {}

  Status Run() {
    MUSTER_RETURN_IF_ERROR(Prepare());
    MUSTER_RETURN_IF_ERROR(Produce());
    MUSTER_RETURN_IF_ERROR(Store());
    Status proven = Prove();
    if (proven.ok() || context_.demand() != Demand::kNone) return proven;
    // It is there, and not what it should be: that outlives the run.
    backup_.set_problem(OneLine(Message(proven)));
    Tell(context_, backup_);
    return proven;
  }

  std::string Summary() const {
    std::string text = fmt::format("{}, {} in {} files", backup_.source(),
                                   BytesText(backup_.source_bytes()), backup_.files());
    if (backup_.table_count() > 0) {
      text += fmt::format(", {} rows in {} tables", backup_.row_count(), backup_.table_count());
    }
    if (backup_.engine() == v1::BACKUP_ENGINE_REDIS_RDB)
      text += fmt::format(", {} keys", backup_.key_count());
    text += "; read back";
    if (backup_.has_restore_took()) {
      text += " and restored in " + ShortDuration(wire::FromProto(backup_.restore_took()));
    }
    return text + ", snapshot " + backup_.snapshot_id().substr(0, 8);
  }

 private:
  bool restores() const { return spec_.verify().restore() && engine_.produces(); }

  // What can fail without any work does so first.
  Status Prepare() {
    int removed = 0;
    MUSTER_ASSIGN_OR_RETURN(workspace_,
                            Workspace::Open(spec_.staging(), context_.run_id(), removed));
    if (removed > 0) {
      context_.Note(fmt::format("removed what {} runs had left in {}", removed, spec_.staging()));
    }
    MUSTER_RETURN_IF_ERROR(repository_.Open(context_));
    MUSTER_ASSIGN_OR_RETURN(const Need need, engine_.Plan(context_));
    return workspace_->NeedRoom(need.to_make + (restores() ? need.to_restore : 0), "the backup");
  }

  Status Produce() {
    if (!engine_.produces()) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(folder_, workspace_->MakeSub("make"));
    MUSTER_RETURN_IF_ERROR(engine_.Produce(context_, *workspace_, folder_, manifest_));
    const Files known(manifest_.files().begin(), manifest_.files().end());
    MUSTER_ASSIGN_OR_RETURN(const Files files, HashFolder(context_, folder_, known));
    manifest_.mutable_files()->Assign(files.begin(), files.end());
    const std::string path = folder_ + "/" + kManifestName;
    return WriteFileAtomically(path, ManifestText(manifest_));
  }

  Status Store() {
    MUSTER_RETURN_IF_ERROR(context_.Step("puts the backup into " + repository_.place()));
    ResticSource source = engine_.Source(folder_);
    for (const v1::ManifestFile& file : manifest_.files()) source.bytes += file.size();
    source.engine = engine_.produces() ? manifest_.engine() : v1::BACKUP_ENGINE_FILES;
    if (!engine_.produces()) *manifest_.mutable_taken_at() = wire::ToProto(context_.clock().Now());
    MUSTER_ASSIGN_OR_RETURN(const Snapshot snapshot, repository_.Backup(context_, source));
    if (engine_.produces()) {
      Describe(manifest_, backup_);
      MUSTER_RETURN_IF_ERROR(workspace_->RemoveSub("make"));
    } else {
      MUSTER_RETURN_IF_ERROR(engine_.Produce(context_, *workspace_, folder_, manifest_));
      Describe(manifest_, backup_);
      backup_.clear_manifest_hash();  // known when it was read back
      backup_.set_files(snapshot.files);
      backup_.set_source_bytes(snapshot.source_bytes);
    }
    backup_.set_repository_id(repository_.id());
    backup_.set_repository(repository_.place());
    backup_.set_snapshot_id(snapshot.id);
    backup_.set_stored_bytes(snapshot.stored_bytes);
    *backup_.mutable_took() = wire::ToProto(context_.clock().Uptime() - began_);
    SetProof(context_, v1::BACKUP_PROOF_TAKEN, backup_);
    if (!snapshot.unread.empty()) backup_.set_problem("it is not whole: " + snapshot.unread);
    Tell(context_, backup_);
    if (snapshot.unread.empty()) return OkStatus();
    return DataLoss("{}: the backup is not whole. Let the agent's user read them, or exclude them",
                    snapshot.unread);
  }

  Status Prove() {
    const absl::Duration began = context_.clock().Uptime();
    std::string restored;
    if (restores()) {
      MUSTER_ASSIGN_OR_RETURN(restored, workspace_->MakeSub("restored"));
    }
    MUSTER_ASSIGN_OR_RETURN(Files files, ReadAll(restored));
    MUSTER_RETURN_IF_ERROR(Compare(std::move(files)));
    SetProof(context_, v1::BACKUP_PROOF_READ_BACK, backup_);
    Tell(context_, backup_);
    if (!restores()) return OkStatus();
    MUSTER_RETURN_IF_ERROR(backup::Prove(
        context_, *workspace_,
        {restored, manifest_, spec_.verify(), std::max(1U, spec_.postgres().parallel())}));
    *backup_.mutable_restore_took() = wire::ToProto(context_.clock().Uptime() - began);
    SetProof(context_, v1::BACKUP_PROOF_RESTORED, backup_);
    Tell(context_, backup_);
    return OkStatus();
  }

  StatusOr<Files> ReadAll(const std::string& restored) {
    const uint64_t bytes = backup_.source_bytes();
    if (restored.empty()) return ReadBack(context_, repository_, backup_.snapshot_id(), bytes);
    return ReadBackInto(context_, repository_, backup_.snapshot_id(), *workspace_, restored, bytes);
  }

  Status Compare(Files files) {
    if (engine_.produces()) return CompareWithManifest(manifest_, std::move(files));
    if (files.size() != backup_.files() || BytesOf(files) != backup_.source_bytes()) {
      return DataLoss("{} files with {} bytes were read back, and {} with {} were put in",
                      files.size(), BytesOf(files), backup_.files(), backup_.source_bytes());
    }
    for (v1::ManifestFile& file : files) *manifest_.add_files() = std::move(file);
    Describe(manifest_, backup_);
    return engine_.CompareWithSource(context_, manifest_);
  }

  TaskContext& context_;
  const v1::BackupTask& spec_;
  Engine& engine_;
  const absl::Duration began_;
  Repository repository_;
  std::unique_ptr<Workspace> workspace_;
  std::string folder_;  // of what is made
  v1::BackupManifest manifest_;
  v1::Backup backup_;
};

class BackupTask final : public Task {
 public:
  BackupTask(v1::BackupTask spec, Policy policy, std::string what)
      : spec_(std::move(spec)), policy_(std::move(policy)), what_(std::move(what)) {}

  std::string What() const override { return what_; }

  TaskEnd Run(TaskContext& context) override {
    // Made for each run: it holds what it found.
    const EngineOr engine = MakeEngine(spec_, policy_);
    if (!engine.ok()) return EndOf(context, engine.status(), "");
    BackupRun run(context, spec_, policy_, **engine);
    const Status status = run.Run();
    return EndOf(context, status, status.ok() ? run.Summary() : "");
  }

 private:
  const v1::BackupTask spec_;
  const Policy policy_;
  const std::string what_;
};

}  // namespace
}  // namespace backup

TaskOr MakeBackupTask(const v1::BackupTask& spec, const Policy& policy) {
  if (spec.has_pgbackrest()) return backup::MakePgBackRestBackup(spec, policy);
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(backup::Repository::Check(spec.repository(), policy));
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<backup::Engine> engine,
                          backup::MakeEngine(spec, policy));
  const v1::BackupRepository& repository = spec.repository();
  std::string what = fmt::format("a backup of {} into {}", engine->What(),
                                 repository.has_path() ? repository.path() : repository.url());
  return std::make_unique<backup::BackupTask>(spec, policy, OneLine(what));
}

}  // namespace muster::agent
