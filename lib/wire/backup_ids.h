// What backups are called: by restic's 64 hex digits, or by a label of pgBackRest, which is a time
// of a second and so is one of several servers' backups. Pure.
#pragma once

#include <string>
#include <string_view>

#include "muster/v1/backup.pb.h"

namespace muster::wire {

// 64 hex digits.
bool IsHexId(std::string_view text);
// "20261128-020000F", "20261128-020000F_20261128-140000I"
bool IsBackupLabel(std::string_view text);
// Either.
bool IsSnapshotId(std::string_view text);
// 64 hex digits, or "STANZA:SYSTEM IDENTIFIER".
bool IsRepositoryId(std::string_view text);

// What no other backup is called by: the snapshot's id, or "LABEL@STANZA:SYSTEM IDENTIFIER".
std::string BackupKey(std::string_view snapshot_id, std::string_view repository_id);
inline std::string BackupKey(const v1::Backup& backup) {
  return BackupKey(backup.snapshot_id(), backup.repository_id());
}
bool IsBackupKey(std::string_view text);
// The snapshot's id in it.
std::string_view SnapshotOf(std::string_view key);

}  // namespace muster::wire
