// What agents tell of backups, as it is stored with the batch that holds it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "control-plane/store/backup_store.h"
#include "control-plane/store/run_events.h"

namespace muster::control {

// Adds to what is known what is told; of each field the last value counts. A proof counts until a
// problem is told, a problem until the next proof; a lesser proof takes no greater one away.
void MergeBackup(const v1::Backup& told, v1::Backup& known);

// Of the events that are artifacts. An agent may tell of what its run makes, proves or removes, and
// of no other backup.
Status StoreArtifacts(sql::Transaction& transaction, const std::vector<AgentRunEvent>& events,
                      const std::map<std::string, RunRow>& runs, absl::Time now);

}  // namespace muster::control
