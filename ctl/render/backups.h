// What people read of backups. Pure; any thread may call.
#pragma once

#include <string>

#include "ctl/render/table.h"
#include "muster/v1/backup_service.pb.h"

namespace muster::ctl {

// One object: what the backup is, and what the control plane knows of it.
Json BackupJson(const v1::StoredBackup& stored);
// The rows of `backup list` and of `backup prune`, from such an object.
Json BackupTableRow(const Json& backup, const TableStyle& style);
// "keep" or "delete", and why, beside what BackupJson says.
Json DecisionJson(const v1::RetentionDecision& decision);

std::string DescribeBackupText(const v1::StoredBackup& stored, const TableStyle& style);

}  // namespace muster::ctl
