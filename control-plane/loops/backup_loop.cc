#include "control-plane/loops/backup_loop.h"

#include <algorithm>
#include <vector>

#include "control-plane/decide/backup_retention.h"
#include "control-plane/decide/backup_run.h"
#include "lib/base/hash.h"

namespace muster::control {
namespace {

// Removing waits so long for its agent; the next backup asks again.
constexpr absl::Duration kPatience = absl::Hours(24);

}  // namespace

Status BackupLoop::Tick(absl::Time now) {
  MUSTER_RETURN_IF_ERROR(ReadSpecs());
  MUSTER_ASSIGN_OR_RETURN(const uint64_t backups, store_.backups().Revision());
  MUSTER_ASSIGN_OR_RETURN(const uint64_t runs, store_.runs().Revision());
  if (backup_revision_ != backups) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<BackupRow> kept, store_.backups().Kept());
    std::map<std::string, BackupSummary> all = Summaries(kept);
    std::map<std::string, BackupSummary> summaries;
    for (const auto& [name, spec] : jobs_) summaries[name] = std::move(all[name]);
    options_.on_summaries(summaries);
    backup_revision_ = backups;
  }
  if (run_revision_ == runs || jobs_.empty()) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<JobRow> rows, store_.runs().Jobs());
  for (const JobRow& row : rows) MUSTER_RETURN_IF_ERROR(Follow(row, now));
  run_revision_ = runs;
  return OkStatus();
}

Status BackupLoop::ReadSpecs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  if (spec_revision_ == revision) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> specs, store_.specs().Jobs());
  jobs_.clear();
  for (const SpecRow& spec : specs) {
    if (spec.document.job().has_backup())
      jobs_[spec.document.metadata().name()] = spec.document.job();
  }
  spec_revision_ = revision;
  run_revision_.reset();
  backup_revision_.reset();
  return OkStatus();
}

// Once for each run of the job that succeeded: what cannot be removed now is tried after the next.
Status BackupLoop::Follow(const JobRow& job, absl::Time now) {
  const auto spec = jobs_.find(job.name);
  if (spec == jobs_.end() || job.health.state != v1::RUN_STATE_SUCCEEDED ||
      followed_[job.name] == job.health.run) {
    return OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<BackupRow> backups, store_.backups().KeptOf(job.name));
  const v1::BackupTask& task = spec->second.backup();
  const std::vector<RetentionDecision> decisions =
      DecideRetention(RetentionOf(task.keep(), backups, job.health.state, now));
  const Dispensable gone = DispensableOf(backups, decisions);
  if (!gone.ids.empty()) {
    RunRow run{.id = NameUuid(fmt::format("forget/{}/{}", job.name, job.health.run)),
               .job = job.name,
               .slot = now,
               .trigger = v1::RUN_TRIGGER_FOLLOW_UP,
               .spec = Beside(spec->second, gone.agent),
               .action = "forget",
               .reason = fmt::format("{} backups that keep does not keep", gone.ids.size()),
               .due_at = now,
               .start_by = now + kPatience};
    *run.spec.mutable_forget_backups() = ForgetTask(task, gone.ids);
    const AuditNote note{
        .actor = "control",
        .action = "backup.forget",
        .subject = "job/" + job.name,
        .detail = fmt::format("{} backups, by run {}{}", gone.ids.size(), run.id, gone.named),
        .at = now};
    MUSTER_ASSIGN_OR_RETURN(const bool added, store_.backups().StartForget(epoch_, run, note));
    if (added) options_.on_changed();
  }
  followed_[job.name] = job.health.run;
  return OkStatus();
}

}  // namespace muster::control
