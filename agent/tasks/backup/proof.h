// How a backup in a repository is proven: all of it is read back and compared with its manifest,
// and then, if it is wished, restored and asked. The same for one that was just taken and for one
// of last year.
#pragma once

#include <optional>
#include <string>

#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/manifest.h"
#include "agent/tasks/backup/restic.h"
#include "agent/tasks/backup/workspace.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"

namespace muster::agent::backup {

// All that the snapshot holds, read from the repository and hashed on the way, by path; nothing is
// written. Those at the top that are not of the backup itself (its manifest) are in it too.
StatusOr<Files> ReadBack(TaskContext& context, Repository& repository, const std::string& snapshot,
                         uint64_t expected_bytes);

// The same by way of a folder, where it stays.
StatusOr<Files> ReadBackInto(TaskContext& context, Repository& repository,
                             const std::string& snapshot, const Workspace& workspace,
                             const std::string& folder, uint64_t expected_bytes);

// Takes the manifest out of what was read back, and compares the rest with it.
Status CompareWithManifest(const v1::BackupManifest& manifest, Files files);

// Restores what is in the request's folder and compares it, by the manifest's engine.
Status Prove(TaskContext& context, const Workspace& workspace, const ProveRequest& request);

// The moment, as a proof of the backup.
void SetProof(const TaskContext& context, v1::BackupProof proof, v1::Backup& backup);
void Tell(TaskContext& context, const v1::Backup& backup);

// The end of a task that came to this; an error is why it failed, unless it was asked to end.
TaskEnd EndOf(const TaskContext& context, const Status& status, std::string done);

}  // namespace muster::agent::backup
