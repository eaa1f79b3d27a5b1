// Tells of every backup in a repository that muster made, as far as it says so itself: the way back
// to a catalogue that was lost. Nothing is proven by it.
#include <fmt/ranges.h>

#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/proof.h"
#include "agent/tasks/tasks.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace backup {
namespace {

class ListBackupsTask final : public Task {
 public:
  ListBackupsTask(v1::ListBackupsTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override { return "lists the backups of a repository"; }

  TaskEnd Run(TaskContext& context) override {
    Repository repository(spec_.repository(), policy_, spec_.staging() + "/restic-cache");
    size_t told = 0;
    const Status status = List(context, repository, told);
    return EndOf(context, status, fmt::format("{} backups in {}", told, repository.place()));
  }

 private:
  Status List(TaskContext& context, Repository& repository, size_t& told) const {
    MUSTER_RETURN_IF_ERROR(repository.Open(context));
    MUSTER_RETURN_IF_ERROR(context.Step("lists " + repository.place()));
    MUSTER_ASSIGN_OR_RETURN(const std::vector<Repository::Listed> all, repository.All(context));
    std::vector<const Repository::Listed*> ours;
    for (const Repository::Listed& one : all) {
      if (one.of_muster && (spec_.job().empty() || one.job == spec_.job())) ours.push_back(&one);
    }
    for (const Repository::Listed* one : ours) {
      if (context.demand() != Demand::kNone) return Aborted("the run is to end");
      context.Progress(Progress(told, ours.size()));
      MUSTER_ASSIGN_OR_RETURN(const v1::Backup backup, Look(context, repository, *one));
      Tell(context, backup);
      ++told;
    }
    return OkStatus();
  }

  static v1::RunProgress Progress(size_t done, size_t total) {
    v1::RunProgress progress;
    progress.set_done(done);
    progress.set_total(total);
    progress.set_unit("backups");
    return progress;
  }

  static StatusOr<v1::Backup> Look(TaskContext& context, Repository& repository,
                                   const Repository::Listed& listed) {
    v1::Backup backup;
    if (listed.engine == v1::BACKUP_ENGINE_FILES) {
      backup.set_engine(listed.engine);
      backup.set_source(OneLine(fmt::format("{}", fmt::join(listed.paths, ", "))));
      *backup.mutable_taken_at() = wire::ToProto(listed.taken_at);
      MUSTER_ASSIGN_OR_RETURN(const uint64_t bytes, repository.RestoredBytes(context, listed.id));
      backup.set_source_bytes(bytes);
    } else {
      MUSTER_RETURN_IF_ERROR(ReadManifest(context, repository, listed, backup));
    }
    MUSTER_ASSIGN_OR_RETURN(const uint64_t stored, repository.StoredBytes(context, listed.id));
    backup.set_stored_bytes(stored);
    backup.set_repository_id(repository.id());
    backup.set_repository(repository.place());
    backup.set_snapshot_id(listed.id);
    backup.set_made_by_job(listed.job);
    backup.set_made_by_run(listed.run);
    backup.set_proof(v1::BACKUP_PROOF_TAKEN);
    return backup;
  }

  // One whose manifest cannot be read is there all the same, and bad.
  static Status ReadManifest(TaskContext& context, Repository& repository,
                             const Repository::Listed& listed, v1::Backup& backup) {
    const StatusOr<std::string> text = repository.ReadSmall(context, listed.id, kManifestName);
    const StatusOr<v1::BackupManifest> manifest =
        text.ok() ? ParseManifest(*text) : StatusOr<v1::BackupManifest>(text.status());
    if (manifest.ok()) {
      Describe(*manifest, backup);
      backup.set_manifest_hash(Sha256(*text));
      return OkStatus();
    }
    if (!absl::IsDataLoss(manifest.status())) return manifest.status();
    backup.set_engine(listed.engine);
    *backup.mutable_taken_at() = wire::ToProto(listed.taken_at);
    backup.set_problem(OneLine(Message(manifest.status())));
    return OkStatus();
  }

  const v1::ListBackupsTask spec_;
  const Policy policy_;
};

}  // namespace
}  // namespace backup

TaskOr MakeListBackupsTask(const v1::ListBackupsTask& spec, const Policy& policy) {
  if (spec.has_pgbackrest()) return backup::MakePgBackRestList(spec, policy);
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(backup::Repository::Check(spec.repository(), policy));
  return std::make_unique<backup::ListBackupsTask>(spec, policy);
}

}  // namespace muster::agent
