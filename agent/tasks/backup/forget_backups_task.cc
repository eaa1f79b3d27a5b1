// Backups removed from a repository, those that were named and no others.
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/proof.h"
#include "agent/tasks/tasks.h"
#include "lib/wire/backup_ids.h"

namespace muster::agent {
namespace backup {
namespace {

class ForgetBackupsTask final : public Task {
 public:
  ForgetBackupsTask(v1::ForgetBackupsTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return fmt::format("removes {} backups", spec_.snapshot_ids_size());
  }

  TaskEnd Run(TaskContext& context) override {
    return EndOf(context, Forget(context),
                 fmt::format("removed {} backups", spec_.snapshot_ids_size()));
  }

 private:
  Status Forget(TaskContext& context) const {
    Repository repository(spec_.repository(), policy_, spec_.staging() + "/restic-cache");
    MUSTER_RETURN_IF_ERROR(repository.Open(context));
    MUSTER_RETURN_IF_ERROR(context.Step("removes backups from " + repository.place()));
    MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> before, repository.AllIds(context));
    std::vector<std::string> there;
    for (const std::string& id : spec_.snapshot_ids())
      if (before.contains(id)) there.push_back(id);
    if (!there.empty()) MUSTER_RETURN_IF_ERROR(repository.Forget(context, there));
    MUSTER_RETURN_IF_ERROR(TellGone(context, repository));
    return spec_.prune() ? repository.Prune(context) : OkStatus();
  }

  // What restic says is not enough: they must not be listed any more.
  Status TellGone(TaskContext& context, Repository& repository) const {
    MUSTER_ASSIGN_OR_RETURN(const std::set<std::string> after, repository.AllIds(context));
    v1::RunArtifact artifact;
    v1::BackupsForgotten& forgotten = *artifact.mutable_forgotten();
    forgotten.set_repository_id(repository.id());
    for (const std::string& id : spec_.snapshot_ids())
      if (!after.contains(id)) forgotten.add_snapshot_ids(id);
    const int left = spec_.snapshot_ids_size() - forgotten.snapshot_ids_size();
    context.Artifact(std::move(artifact));
    if (left == 0) return OkStatus();
    return Unavailable("{} backups are still in {}", left, repository.place());
  }

  const v1::ForgetBackupsTask spec_;
  const Policy policy_;
};

}  // namespace
}  // namespace backup

TaskOr MakeForgetBackupsTask(const v1::ForgetBackupsTask& spec, const Policy& policy) {
  if (spec.has_pgbackrest()) return backup::MakePgBackRestForget(spec, policy);
  MUSTER_RETURN_IF_ERROR(backup::Repository::Check(spec.repository(), policy));
  for (const std::string& id : spec.snapshot_ids()) {
    if (wire::IsHexId(id)) continue;
    return InvalidArgument("'{}' is no snapshot id of 64 hex digits", id);
  }
  return std::make_unique<backup::ForgetBackupsTask>(spec, policy);
}

}  // namespace muster::agent
