#include "control-plane/store/backup_events.h"

#include <algorithm>
#include <set>

#include "control-plane/store/backup_rows.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr size_t kLongestText = 512;
constexpr int kMostTables = 512;
// Of one agent in the catalogue: twenty jobs each hour, for more than half a year.
constexpr uint64_t kMostOfAgent = 100'000;

void Tidy(std::string& text) { text = std::string(Truncate(OneLine(text), kLongestText)); }

// What an agent says, in the shape that the protocol promises.
v1::Backup Tidied(const v1::Backup& told, absl::Time now) {
  v1::Backup backup = told;
  for (std::string* text :
       {backup.mutable_repository_id(), backup.mutable_repository(), backup.mutable_source(),
        backup.mutable_system_identifier(), backup.mutable_database(),
        backup.mutable_server_version(), backup.mutable_client_version(), backup.mutable_problem(),
        backup.mutable_made_by_job(), backup.mutable_made_by_run()}) {
    Tidy(*text);
  }
  while (backup.tables_size() > kMostTables) backup.mutable_tables()->RemoveLast();
  for (v1::TableRows& table : *backup.mutable_tables()) Tidy(*table.mutable_table());
  // A clock that goes ahead must not make a backup look newer than it can be.
  for (google::protobuf::Timestamp* time :
       {backup.mutable_taken_at(), backup.mutable_proven_at(), backup.mutable_recoverable_until()})
    *time = wire::ToProto(std::min(wire::FromProto(*time), now));
  if (!told.has_taken_at()) backup.clear_taken_at();
  if (!told.has_proven_at()) backup.clear_proven_at();
  if (!told.has_recoverable_until()) backup.clear_recoverable_until();
  return backup;
}

// The job, the run and its spec that made a backup which is told of for the first time; nullopt if
// this run may not tell of it.
std::optional<BackupRow> NewRow(const RunRow& run, const v1::Backup& backup) {
  if (!run.spec.has_backup() && !run.spec.has_list_backups()) return std::nullopt;
  BackupRow row;
  row.agent = run.agent;
  row.job = run.job;
  row.run = run.id;
  row.spec = run.spec;
  if (!run.spec.has_list_backups()) return row;
  row.run = backup.made_by_run();
  // Whose it is says who asked for the list; only who asked for those of all jobs hears it from the
  // agent.
  const std::string& asked = run.spec.list_backups().job();
  if (!asked.empty()) {
    row.job = asked;
  } else if (!backup.made_by_job().empty()) {
    row.job = backup.made_by_job();
  }
  return row;
}

// A list proves nothing, whatever an agent says.
void TakeProofAway(v1::Backup& backup) {
  backup.set_proof(v1::BACKUP_PROOF_TAKEN);
  backup.clear_proven_at();
  backup.clear_restore_took();
}

bool MayTell(const RunRow& run, const BackupRow& row) {
  if (run.spec.has_backup()) return row.run == run.id;
  if (run.spec.has_verify_backup())
    return run.spec.verify_backup().backup().snapshot_id() == wire::SnapshotOf(row.id());
  return false;
}

class Artifacts {
 public:
  Artifacts(sql::Transaction& transaction, absl::Time now) : t_(transaction), now_(now) {}

  Status Take(const RunRow& run, const AgentRunEvent& event) {
    const v1::RunArtifact& artifact = event.event->artifact();
    if (artifact.has_backup()) return Take(run, artifact.backup());
    if (artifact.has_forgotten()) return Take(run, artifact.forgotten(), event.at);
    return OkStatus();
  }

 private:
  Status Take(const RunRow& run, const v1::Backup& told) {
    v1::Backup backup = Tidied(told, now_);
    const std::string key = wire::BackupKey(backup);
    if (!wire::IsBackupKey(key)) return OkStatus();
    backup.set_snapshot_id(key);  // in the catalogue no other one is called so
    if (run.spec.has_list_backups()) TakeProofAway(backup);
    MUSTER_ASSIGN_OR_RETURN(std::optional<BackupRow> row, FindBackup(t_, key));
    if (!row.has_value()) {
      row = NewRow(run, backup);
      if (!row.has_value()) return OkStatus();
      MUSTER_ASSIGN_OR_RETURN(const bool room, TakeRoom(run));
      if (!room) return OkStatus();
    } else if (run.spec.has_list_backups()) {
      return BackAgain(*row);
    } else if (!MayTell(run, *row)) {
      return OkStatus();
    }
    MergeBackup(backup, row->backup);
    return PutBackup(t_, *row);
  }

  // Whether the catalogue takes another one of the run's agent.
  StatusOr<bool> TakeRoom(const RunRow& run) {
    const auto [known, first] = counts_.try_emplace(run.agent, 0);
    if (first) {
      MUSTER_ASSIGN_OR_RETURN(known->second, CountBackupsOf(t_, run.agent));
    }
    if (known->second < kMostOfAgent) {
      ++known->second;
      return true;
    }
    if (!refused_.insert(run.agent).second) return false;
    LogWarning("an agent tells of more backups than the catalogue takes",
               {{"agent", run.agent}, {"job", run.job}, {"most", kMostOfAgent}});
    return false;
  }

  // It is in the repository, whatever was told before.
  Status BackAgain(BackupRow& row) {
    if (row.forgotten_at == absl::InfiniteFuture()) return OkStatus();
    row.forgotten_at = absl::InfiniteFuture();
    row.forgotten_by.clear();
    return PutBackup(t_, row);
  }

  Status Take(const RunRow& run, const v1::BackupsForgotten& forgotten, absl::Time at) {
    const auto& asked = run.spec.forget_backups().snapshot_ids();
    int gone = 0;
    for (const std::string& id : forgotten.snapshot_ids()) {
      if (std::find(asked.begin(), asked.end(), id) == asked.end()) continue;
      const std::string key = wire::BackupKey(id, forgotten.repository_id());
      MUSTER_ASSIGN_OR_RETURN(std::optional<BackupRow> row, FindBackup(t_, key));
      const bool there = row.has_value() && row->forgotten_at == absl::InfiniteFuture();
      if (!there || row->backup.repository_id() != forgotten.repository_id()) continue;
      row->forgotten_at = std::min(at, now_);
      row->forgotten_by = run.id;
      MUSTER_RETURN_IF_ERROR(PutBackup(t_, *row));
      ++gone;
    }
    if (gone == 0) return OkStatus();
    return AppendAudit(t_, {.actor = "agent/" + run.agent,
                            .action = "backup.forgotten",
                            .subject = "job/" + run.job,
                            .detail = fmt::format("{} backups, by run {}", gone, run.id),
                            .at = now_});
  }

  sql::Transaction& t_;
  const absl::Time now_;
  std::map<std::string, uint64_t> counts_;  // by agent
  std::set<std::string> refused_;           // agents
};

}  // namespace

void MergeBackup(const v1::Backup& told, v1::Backup& known) {
  const v1::Backup before = known;
  if (told.tables_size() > 0) known.clear_tables();
  known.MergeFrom(told);
  if (!told.problem().empty()) {
    known.set_proof(v1::BACKUP_PROOF_TAKEN);
    return;
  }
  if (told.proof() > v1::BACKUP_PROOF_TAKEN) known.clear_problem();
  if (before.proof() <= told.proof()) return;
  known.set_proof(before.proof());
  *known.mutable_proven_at() = before.proven_at();
}

Status StoreArtifacts(sql::Transaction& transaction, const std::vector<AgentRunEvent>& events,
                      const std::map<std::string, RunRow>& runs, absl::Time now) {
  Artifacts artifacts(transaction, now);
  for (const AgentRunEvent& event : events) {
    if (!event.event->has_artifact()) continue;
    const auto run = runs.find(event.event->run_id());
    // Also of an attempt before the last: what it made is there.
    const bool known = run != runs.end() && event.agent == run->second.agent &&
                       event.event->fence() <= run->second.fence;
    if (known) MUSTER_RETURN_IF_ERROR(artifacts.Take(run->second, event));
  }
  return OkStatus();
}

}  // namespace muster::control
