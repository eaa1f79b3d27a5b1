// The tasks of backups by pgBackRest. They end as those of other engines do, but the repository is
// pgBackRest's own.
#pragma once

#include "agent/policy/policy.h"
#include "agent/tasks/backup/pgbackrest.h"
#include "agent/tasks/backup/workspace.h"
#include "agent/tasks/task.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

TaskOr MakePgBackRestBackup(const v1::BackupTask& spec, const Policy& policy);
TaskOr MakePgBackRestVerify(const v1::VerifyBackupTask& spec, const Policy& policy);
TaskOr MakePgBackRestRestore(const v1::RestoreBackupTask& spec, const Policy& policy);
TaskOr MakePgBackRestForget(const v1::ForgetBackupsTask& spec, const Policy& policy);
TaskOr MakePgBackRestList(const v1::ListBackupsTask& spec, const Policy& policy);

// The backup of the stanza, as its record begins; NotFound if it is not listed.
StatusOr<const StanzaBackup*> FindListed(const PgBackRest& program, std::string_view label);
// What the stanza says of it. Nothing is proven.
StatusOr<v1::Backup> RecordOf(const PgBackRest& program, const StanzaBackup& backup);

// Until when the archive leads from the backup on without a gap: when its last segment came there.
// DataLoss names a segment of the backup itself that is missing.
StatusOr<absl::Time> RecoverableUntil(const WalArchive& archive, const StanzaBackup& backup);

// What Open and every task begin with: the staging folder's own part of this run.
StatusOr<std::unique_ptr<Workspace>> OpenWorkspace(TaskContext& context,
                                                   const std::string& staging);

}  // namespace muster::agent::backup
