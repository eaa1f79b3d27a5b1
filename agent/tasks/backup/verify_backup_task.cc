// A backup of any age, proven once more.
#include "agent/tasks/backup/kept_backup.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/tasks.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace backup {
namespace {

class VerifyBackupTask final : public Task {
 public:
  VerifyBackupTask(v1::VerifyBackupTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return fmt::format("a proof of the backup {}", spec_.backup().snapshot_id().substr(0, 8));
  }

  TaskEnd Run(TaskContext& context) override {
    KeptBackup kept(spec_.repository(), spec_.backup(), spec_.staging(), policy_);
    const Status status = Prove(context, kept);
    const bool restored = spec_.verify().restore() && !kept.of_files();
    return EndOf(context, status,
                 fmt::format("the backup {}: read back{}", spec_.backup().snapshot_id().substr(0, 8),
                             restored ? " and restored" : ""));
  }

 private:
  Status Prove(TaskContext& context, KeptBackup& kept) const {
    const Status proven = OpenAndProve(context, kept);
    // Only what the bytes say is said of the backup: not that this host had no room. Whose bytes
    // they are is not known where the repository's own configuration is spoilt.
    if (!absl::IsDataLoss(proven) || kept.repository().id().empty()) return proven;
    v1::Backup record;
    record.set_repository_id(kept.repository().id());
    record.set_snapshot_id(spec_.backup().snapshot_id());
    record.set_engine(spec_.backup().engine());
    record.set_problem(OneLine(Message(proven)));
    SetProof(context, v1::BACKUP_PROOF_TAKEN, record);
    Tell(context, record);
    return proven;
  }

  Status OpenAndProve(TaskContext& context, KeptBackup& kept) const {
    MUSTER_RETURN_IF_ERROR(kept.Open(context));
    const absl::Duration began = context.clock().Uptime();
    const bool restores = spec_.verify().restore() && !kept.of_files();
    std::string folder;
    if (restores) {
      MUSTER_RETURN_IF_ERROR(kept.workspace().NeedRoom(2 * kept.bytes(), "the restored backup"));
      MUSTER_ASSIGN_OR_RETURN(folder, kept.workspace().MakeSub("restored"));
    }
    MUSTER_RETURN_IF_ERROR(kept.ReadBack(context, folder));
    MUSTER_ASSIGN_OR_RETURN(v1::Backup record, kept.Record(context));
    SetProof(context, v1::BACKUP_PROOF_READ_BACK, record);
    Tell(context, record);
    if (!restores) return OkStatus();
    MUSTER_RETURN_IF_ERROR(
        backup::Prove(context, kept.workspace(),
                      {folder, kept.manifest(), spec_.verify(), std::max(1U, spec_.parallel())}));
    *record.mutable_restore_took() = wire::ToProto(context.clock().Uptime() - began);
    SetProof(context, v1::BACKUP_PROOF_RESTORED, record);
    Tell(context, record);
    return OkStatus();
  }

  const v1::VerifyBackupTask spec_;
  const Policy policy_;
};

}  // namespace
}  // namespace backup

TaskOr MakeVerifyBackupTask(const v1::VerifyBackupTask& spec, const Policy& policy) {
  if (spec.has_pgbackrest()) return backup::MakePgBackRestVerify(spec, policy);
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(backup::Repository::Check(spec.repository(), policy));
  return std::make_unique<backup::VerifyBackupTask>(spec, policy);
}

}  // namespace muster::agent
