// Runs that are done beside a backup job's own: the spec of each, from the job's. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control-plane/decide/backup_retention.h"
#include "control-plane/store/backup_store.h"

namespace muster::control {

// Backups that one run removes at most.
inline constexpr size_t kMostForgotten = 1000;

// The job as it is now, or as it was when the backup was made: where its repository is, and by
// which secrets it opens. FailedPrecondition if neither makes backups.
StatusOr<v1::BackupTask> TaskOf(const BackupRow& backup, const v1::JobSpec* job);

// On the agent alone, with the job's deadline, beside nothing of the job but itself.
v1::JobSpec Beside(const v1::JobSpec& job, const std::string& agent);

v1::VerifyBackupTask VerifyTask(const v1::BackupTask& task, const v1::Backup& backup, bool restore);
v1::RestoreBackupTask RestoreTask(const v1::BackupTask& task, const v1::Backup& backup);
v1::ForgetBackupsTask ForgetTask(const v1::BackupTask& task, const std::vector<std::string>& ids);
v1::ListBackupsTask ListTask(const v1::BackupTask& task, const std::string& job);

// What a drill of the job does now: proves the newest of its backups that nothing is wrong with,
// where the drill's selector says, or, where that is empty, on the agent that made it; apart from
// everything that the job's own runs are kept apart from. nullopt if there is no such backup.
// `backups` newest first; `job` nullptr if it is not there any more.
std::optional<v1::JobSpec> DrillOf(const v1::JobSpec& drill, const std::vector<BackupRow>& backups,
                                   const v1::JobSpec* job);

// The oldest of those that nothing keeps.
struct Dispensable {
  std::string agent;  // that made the newest, so that it reaches the repository
  std::vector<std::string> ids;
  std::string named;  // for the audit chain
};
// `backups` newest first.
Dispensable DispensableOf(const std::vector<BackupRow>& backups,
                          const std::vector<RetentionDecision>& decisions);

}  // namespace muster::control
