#include "control-plane/store/backup_rows.h"

#include "control-plane/store/columns.h"

namespace muster::control {
namespace {

constexpr std::string_view kColumns =
    "job, agent, run, spec, body, held_because, held_by, forgotten_at, forgotten_by";

StatusOr<BackupRow> Read(const sql::Row& row) {
  BackupRow backup;
  backup.job = row.Text(0);
  backup.agent = row.Text(1);
  backup.run = row.Text(2);
  if (!backup.spec.ParseFromString(row.Text(3)) || !backup.backup.ParseFromString(row.Text(4))) {
    return DataLoss("the stored backup of {} by run {} is damaged", backup.job, backup.run);
  }
  backup.held_because = row.Text(5);
  backup.held_by = row.Text(6);
  backup.forgotten_at = ZeroOr(row, 7, absl::InfiniteFuture());
  backup.forgotten_by = row.Text(8);
  return backup;
}

}  // namespace

StatusOr<std::vector<BackupRow>> SelectBackups(sql::Transaction& t, std::string_view condition,
                                               std::span<const sql::Parameter> parameters) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM backups {}", kColumns, condition), parameters));
  std::vector<BackupRow> backups;
  backups.reserve(rows.size());
  for (const sql::Row& row : rows) {
    MUSTER_ASSIGN_OR_RETURN(BackupRow backup, Read(row));
    backups.push_back(std::move(backup));
  }
  return backups;
}

StatusOr<std::optional<BackupRow>> FindBackup(sql::Transaction& t, std::string_view id) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {}, tables FROM backups WHERE snapshot_id = $1", kColumns),
              {id}));
  if (rows.empty()) return std::optional<BackupRow>();
  MUSTER_ASSIGN_OR_RETURN(BackupRow backup, Read(rows[0]));
  v1::Backup tables;
  if (!tables.ParseFromString(rows[0].Text(9))) {
    return DataLoss("the stored tables of the backup {} are damaged", id);
  }
  *backup.backup.mutable_tables() = std::move(*tables.mutable_tables());
  return std::optional<BackupRow>(std::move(backup));
}

StatusOr<uint64_t> CountBackupsOf(sql::Transaction& t, std::string_view agent) {
  MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                          t.Query("SELECT count(*) FROM backups WHERE agent = $1", {agent}));
  return Unsigned(rows[0].Int(0));
}

Status PutBackup(sql::Transaction& t, const BackupRow& row) {
  v1::Backup body = row.backup;
  v1::Backup tables;
  tables.mutable_tables()->Swap(body.mutable_tables());
  const std::string spec = row.spec.SerializeAsString();
  const std::string body_bytes = body.SerializeAsString();
  const std::string table_bytes = tables.SerializeAsString();
  const absl::Time taken_at =
      absl::FromUnixSeconds(body.taken_at().seconds()) + absl::Nanoseconds(body.taken_at().nanos());
  MUSTER_RETURN_IF_ERROR(
      t.Execute(
           "INSERT INTO backups (snapshot_id, job, agent, run, spec, body, tables, taken_at, "
           "held_because, held_by, forgotten_at, forgotten_by) VALUES ($1, $2, $3, $4, $5, $6, "
           "$7, $8, $9, $10, $11, $12) ON CONFLICT (snapshot_id) DO UPDATE SET body = "
           "excluded.body, tables = excluded.tables, taken_at = excluded.taken_at, "
           "held_because = excluded.held_because, held_by = excluded.held_by, forgotten_at = "
           "excluded.forgotten_at, forgotten_by = excluded.forgotten_by",
           {std::string_view(row.id()), std::string_view(row.job), std::string_view(row.agent),
            std::string_view(row.run), sql::Bytes{spec}, sql::Bytes{body_bytes},
            sql::Bytes{table_bytes}, sql::ToMicros(taken_at), std::string_view(row.held_because),
            std::string_view(row.held_by), TimeOrZero(row.forgotten_at),
            std::string_view(row.forgotten_by)})
          .status());
  return NextValue(t, kBackupRevision).status();
}

}  // namespace muster::control
