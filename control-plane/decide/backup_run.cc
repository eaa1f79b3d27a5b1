#include "control-plane/decide/backup_run.h"

#include <algorithm>

#include "control-plane/decide/job_schedule.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"

namespace muster::control {
namespace {

// Of an entry of the audit chain.
constexpr size_t kMostNamed = 20;

v1::BackupIdentity IdentityOf(const v1::Backup& backup) {
  v1::BackupIdentity identity;
  identity.set_snapshot_id(std::string(wire::SnapshotOf(backup.snapshot_id())));
  identity.set_engine(backup.engine());
  if (!backup.manifest_hash().empty())
    identity.set_manifest_hash(HexEncode(backup.manifest_hash()));
  return identity;
}

// What is read must be there: nothing is made where a disk is not mounted.
v1::BackupRepository Existing(const v1::BackupRepository& repository) {
  v1::BackupRepository existing = repository;
  existing.set_create(false);
  return existing;
}

template <typename Task>
Task In(const v1::BackupTask& task) {
  Task made;
  if (task.has_pgbackrest()) {
    *made.mutable_pgbackrest() = task.pgbackrest();
  } else {
    *made.mutable_repository() = Existing(task.repository());
  }
  made.set_staging(task.staging());
  return made;
}

}  // namespace

StatusOr<v1::BackupTask> TaskOf(const BackupRow& backup, const v1::JobSpec* job) {
  if (job != nullptr && job->has_backup()) return job->backup();
  if (backup.spec.has_backup()) return backup.spec.backup();
  if (backup.spec.has_list_backups()) {
    v1::BackupTask task;
    const v1::ListBackupsTask& list = backup.spec.list_backups();
    if (list.has_pgbackrest()) {
      *task.mutable_pgbackrest() = list.pgbackrest();
    } else {
      *task.mutable_repository() = list.repository();
    }
    task.set_staging(backup.spec.list_backups().staging());
    return task;
  }
  return FailedPrecondition("no job is known that says where the repository of the backup {} is",
                            backup.id());
}

v1::JobSpec Beside(const v1::JobSpec& job, const std::string& agent) {
  v1::JobSpec spec;
  if (agent.empty()) {
    *spec.mutable_agents() = job.agents();
  } else {
    (*spec.mutable_agents())["agent"] = agent;
  }
  *spec.mutable_deadline() = job.deadline();
  spec.set_description(job.description());
  spec.set_runbook(job.runbook());
  return spec;
}

v1::VerifyBackupTask VerifyTask(const v1::BackupTask& task, const v1::Backup& backup,
                                bool restore) {
  auto made = In<v1::VerifyBackupTask>(task);
  *made.mutable_backup() = IdentityOf(backup);
  *made.mutable_verify() = task.verify();
  if (restore) made.mutable_verify()->set_restore(true);
  made.set_parallel(std::max(1U, task.postgres().parallel()));
  return made;
}

v1::RestoreBackupTask RestoreTask(const v1::BackupTask& task, const v1::Backup& backup) {
  auto made = In<v1::RestoreBackupTask>(task);
  *made.mutable_backup() = IdentityOf(backup);
  return made;
}

v1::ForgetBackupsTask ForgetTask(const v1::BackupTask& task, const std::vector<std::string>& ids) {
  auto made = In<v1::ForgetBackupsTask>(task);
  for (const std::string& id : ids) made.add_snapshot_ids(std::string(wire::SnapshotOf(id)));
  made.set_prune(true);
  return made;
}

v1::ListBackupsTask ListTask(const v1::BackupTask& task, const std::string& job) {
  auto made = In<v1::ListBackupsTask>(task);
  made.set_job(job);
  return made;
}

std::optional<v1::JobSpec> DrillOf(const v1::JobSpec& drill, const std::vector<BackupRow>& backups,
                                   const v1::JobSpec* job) {
  const auto whole = std::find_if(backups.begin(), backups.end(), [](const BackupRow& backup) {
    return backup.backup.problem().empty();
  });
  if (whole == backups.end()) return std::nullopt;
  const StatusOr<v1::BackupTask> task = TaskOf(*whole, job);
  if (!task.ok()) return std::nullopt;
  v1::JobSpec spec = drill;
  if (drill.agents().empty()) (*spec.mutable_agents())["agent"] = whole->agent;
  for (const std::string& claim : ClaimsOf(whole->job, job != nullptr ? *job : whole->spec)) {
    spec.add_exclusive(claim);
  }
  *spec.mutable_verify_backup() = VerifyTask(*task, whole->backup, true);
  return spec;
}

Dispensable DispensableOf(const std::vector<BackupRow>& backups,
                          const std::vector<RetentionDecision>& decisions) {
  Dispensable out;
  if (backups.empty()) return out;
  out.agent = backups.front().agent;
  for (auto one = decisions.rbegin(); one != decisions.rend(); ++one) {
    if (one->keep) continue;
    if (out.ids.size() == kMostForgotten) break;
    if (out.ids.size() < kMostNamed) {
      const std::string_view id = wire::SnapshotOf(one->id);
      out.named += fmt::format("; {}: {}", wire::IsHexId(id) ? id.substr(0, 8) : id, one->reason);
    }
    out.ids.push_back(one->id);
  }
  return out;
}

}  // namespace muster::control
