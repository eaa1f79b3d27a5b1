#include "control-plane/store/backup_store.h"

#include <algorithm>

#include "control-plane/store/backup_rows.h"
#include "control-plane/store/columns.h"
#include "control-plane/store/run_rows.h"
#include "lib/wire/backup_ids.h"

namespace muster::control {
namespace {

// Labels are of one job's stanza.
bool Removes(const RunRow& run, const BackupRow& backup) {
  const auto& ids = run.spec.forget_backups().snapshot_ids();
  return run.job == backup.job &&
         std::find(ids.begin(), ids.end(), wire::SnapshotOf(backup.id())) != ids.end();
}

StatusOr<std::optional<BackupRow>> FindAny(sql::Transaction& t, std::string_view id) {
  if (!wire::IsBackupLabel(id)) return FindBackup(t, id);
  const std::string pattern = fmt::format("{}@%", id);
  const sql::Parameter parameters[] = {std::string_view(pattern)};
  MUSTER_ASSIGN_OR_RETURN(
      const std::vector<BackupRow> rows,
      SelectBackups(t, "WHERE snapshot_id LIKE $1 ORDER BY snapshot_id LIMIT 10", parameters));
  if (rows.empty()) return std::optional<BackupRow>();
  if (rows.size() == 1) return FindBackup(t, rows[0].id());
  std::string ids;
  for (const BackupRow& row : rows) ids += " " + row.id();
  return FailedPrecondition("several servers have a backup {}; say which:{}", id, ids);
}

// The run that is to remove it, if there is one that is not over.
StatusOr<std::string> Remover(sql::Transaction& t, const BackupRow& backup) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM runs WHERE phase < 5 AND job = $1 AND action = 'forget'",
                          kRunColumns),
              {std::string_view(backup.job)}));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<RunRow> runs, ReadRuns(rows));
  for (const RunRow& run : runs) {
    if (Removes(run, backup)) return run.id;
  }
  return std::string();
}

}  // namespace

StatusOr<uint64_t> BackupStore::Revision() {
  int64_t revision = 0;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(revision, LastValue(t, kBackupRevision));
    return OkStatus();
  }));
  return Unsigned(revision);
}

StatusOr<std::vector<BackupRow>> BackupStore::Kept() {
  std::vector<BackupRow> backups;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        backups,
        SelectBackups(t, "WHERE forgotten_at = 0 ORDER BY taken_at DESC, snapshot_id", {}));
    return OkStatus();
  }));
  return backups;
}

StatusOr<std::vector<BackupRow>> BackupStore::KeptOf(const std::string& job) {
  std::vector<BackupRow> backups;
  const sql::Parameter parameters[] = {std::string_view(job)};
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        backups, SelectBackups(t,
                               "WHERE forgotten_at = 0 AND job = $1 ORDER BY taken_at DESC, "
                               "snapshot_id",
                               parameters));
    return OkStatus();
  }));
  return backups;
}

StatusOr<std::vector<BackupRow>> BackupStore::List(const BackupFilter& filter, absl::Time before,
                                                   std::string_view before_id, uint32_t limit) {
  std::vector<BackupRow> backups;
  const std::string prefix = filter.id_prefix + "%";
  const sql::Parameter parameters[] = {
      sql::ToMicros(before),          sql::ToMicros(before),        before_id,
      std::string_view(filter.job),   std::string_view(filter.job), std::string_view(filter.agent),
      std::string_view(filter.agent), std::string_view(prefix),     int64_t{limit}};
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        backups,
        SelectBackups(t,
                      fmt::format("WHERE (taken_at < $1 OR (taken_at = $2 AND snapshot_id > $3)) "
                                  "AND ($4 = '' OR job = $5) AND ($6 = '' OR agent = $7) AND "
                                  "snapshot_id LIKE $8 {}ORDER BY taken_at DESC, snapshot_id "
                                  "LIMIT $9",
                                  filter.forgotten ? "" : "AND forgotten_at = 0 "),
                      parameters));
    return OkStatus();
  }));
  return backups;
}

StatusOr<std::optional<BackupRow>> BackupStore::Find(std::string_view snapshot_id) {
  std::optional<BackupRow> backup;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(backup, FindAny(t, snapshot_id));
    return OkStatus();
  }));
  return backup;
}

StatusOr<BackupRow> BackupStore::Hold(std::string_view snapshot_id, std::string_view reason,
                                      const AuditNote& note) {
  BackupRow held;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(std::optional<BackupRow> backup, FindAny(t, snapshot_id));
    if (!backup.has_value()) return NotFound("there is no backup {}", snapshot_id);
    if (backup->forgotten_at != absl::InfiniteFuture()) {
      return FailedPrecondition("the backup {} was removed by run {}", snapshot_id,
                                backup->forgotten_by);
    }
    MUSTER_ASSIGN_OR_RETURN(const std::string remover, Remover(t, *backup));
    if (!remover.empty() && !reason.empty()) {
      return FailedPrecondition("run {} is about to remove the backup {}: musterctl cancel {}",
                                remover, snapshot_id, remover);
    }
    backup->held_because = reason;
    backup->held_by = reason.empty() ? "" : note.actor;
    held = *backup;
    MUSTER_RETURN_IF_ERROR(PutBackup(t, held));
    return AppendAudit(t, note);
  }));
  return held;
}

StatusOr<bool> BackupStore::StartForget(std::optional<LeaderEpoch> epoch, RunRow& run,
                                        const AuditNote& note) {
  bool added = false;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    if (epoch.has_value()) MUSTER_RETURN_IF_ERROR(CheckLeader(t, *epoch));
    MUSTER_ASSIGN_OR_RETURN(const std::vector<BackupRow> held,
                            SelectBackups(t, "WHERE forgotten_at = 0 AND held_because <> ''", {}));
    for (const BackupRow& backup : held) {
      if (!Removes(run, backup)) continue;
      return Aborted("the backup {} is held since: {}", backup.id(), backup.held_because);
    }
    MUSTER_ASSIGN_OR_RETURN(added, AddRun(t, run, "due", note));
    return OkStatus();
  }));
  return added;
}

StatusOr<uint64_t> BackupStore::DropForgottenBefore(LeaderEpoch epoch, absl::Time cutoff,
                                                    uint32_t limit) {
  int64_t dropped = 0;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(
        dropped, t.Execute("DELETE FROM backups WHERE snapshot_id IN (SELECT snapshot_id FROM "
                           "backups WHERE forgotten_at > 0 AND forgotten_at < $1 LIMIT $2)",
                           {sql::ToMicros(cutoff), int64_t{limit}}));
    return OkStatus();
  }));
  return Unsigned(dropped);
}

}  // namespace muster::control
