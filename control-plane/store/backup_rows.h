// Backups as rows: how they are read and written. For the stores of this folder.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "control-plane/store/backup_store.h"
#include "lib/sql/database.h"

namespace muster::control {

inline constexpr std::string_view kBackupRevision = "backup_revision";

// `condition` stands behind SELECT … FROM backups.
StatusOr<std::vector<BackupRow>> SelectBackups(sql::Transaction& transaction,
                                               std::string_view condition,
                                               std::span<const sql::Parameter> parameters);
// With the rows of its tables.
StatusOr<std::optional<BackupRow>> FindBackup(sql::Transaction& transaction, std::string_view id);
// Of an agent, forgotten ones too.
StatusOr<uint64_t> CountBackupsOf(sql::Transaction& transaction, std::string_view agent);
// A new one, or all that may change of one that is there.
Status PutBackup(sql::Transaction& transaction, const BackupRow& row);

}  // namespace muster::control
