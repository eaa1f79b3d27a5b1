// By what an operator calls a backup: its id or label, the first digits of it, JOB/latest or
// JOB/verified.
#pragma once

#include <string>

#include "ctl/commands/session.h"
#include "muster/v1/backup_service.pb.h"

namespace muster::ctl {

// At most `limit` backups, 0 is all; `request` says which.
StatusOr<std::vector<v1::StoredBackup>> ListBackups(Session& session,
                                                    v1::ListBackupsRequest request, size_t limit);
// The whole id; of a label the one with its server. InvalidArgument for what is none of these, and
// for digits that several backups begin with, naming them; NotFound where there is no such backup.
StatusOr<std::string> ResolveBackup(Session& session, const std::string& text);

}  // namespace muster::ctl
