// One function for each kind of task; MakeTask calls the right one.
#pragma once

#include "agent/tasks/task.h"

namespace muster::agent {

TaskOr MakeCommandTask(const v1::CommandTask& spec, const Policy& policy);
TaskOr MakeBackupTask(const v1::BackupTask& spec, const Policy& policy);
TaskOr MakeVerifyBackupTask(const v1::VerifyBackupTask& spec, const Policy& policy);
TaskOr MakeRestoreBackupTask(const v1::RestoreBackupTask& spec, const Policy& policy);
TaskOr MakeForgetBackupsTask(const v1::ForgetBackupsTask& spec, const Policy& policy);
TaskOr MakeListBackupsTask(const v1::ListBackupsTask& spec, const Policy& policy);

}  // namespace muster::agent
