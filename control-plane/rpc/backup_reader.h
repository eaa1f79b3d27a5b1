// Backups as the API shows them.
#pragma once

#include "control-plane/decide/backup_retention.h"
#include "control-plane/store/store.h"
#include "muster/v1/backup_service.pb.h"

namespace muster::control {

v1::StoredBackup BackupMessage(const BackupRow& row);

// With the rows of its tables. NotFound names it.
StatusOr<BackupRow> FindBackup(Store& store, const std::string& snapshot_id);

// What its keep decides of a job's backups now.
struct RetentionView {
  v1::JobSpec spec;
  std::vector<BackupRow> backups;            // newest first
  std::vector<RetentionDecision> decisions;  // one for each
};
// NotFound without the job; FailedPrecondition if it makes no backups.
StatusOr<RetentionView> ViewRetention(Store& store, const std::string& job, absl::Time now);

Status ListBackups(Store& store, const v1::ListBackupsRequest& request,
                   v1::ListBackupsResponse& response);
Status PlanRetention(Store& store, const v1::PlanRetentionRequest& request, absl::Time now,
                     v1::PlanRetentionResponse& response);

}  // namespace muster::control
