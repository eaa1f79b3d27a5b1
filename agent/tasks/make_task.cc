#include "agent/tasks/tasks.h"

namespace muster::agent {

TaskOr MakeTask(const v1::JobSpec& spec, const Policy& policy) {
  switch (spec.task_case()) {
    case v1::JobSpec::kCommand:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("command"));
      return MakeCommandTask(spec.command(), policy);
    case v1::JobSpec::kBackup:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("backup"));
      return MakeBackupTask(spec.backup(), policy);
    case v1::JobSpec::kVerifyBackup:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("backup"));
      return MakeVerifyBackupTask(spec.verify_backup(), policy);
    case v1::JobSpec::kRestoreBackup:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("restore"));
      return MakeRestoreBackupTask(spec.restore_backup(), policy);
    case v1::JobSpec::kListBackups:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("backup"));
      return MakeListBackupsTask(spec.list_backups(), policy);
    case v1::JobSpec::kForgetBackups:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("forget"));
      return MakeForgetBackupsTask(spec.forget_backups(), policy);
    case v1::JobSpec::kReported:
      return InvalidArgument("a reported job is run by its host: muster-agent exec tells of it");
    // The control plane makes a verification of it.
    case v1::JobSpec::kDrillBackup:
    case v1::JobSpec::TASK_NOT_SET: break;
  }
  return InvalidArgument("the job asks for something that this agent ({}) does not know",
                         MUSTER_VERSION);
}

}  // namespace muster::agent
