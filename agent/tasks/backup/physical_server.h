// A whole PostgreSQL server that was restored, brought up as a throw-away one: it recovers, nobody
// but the agent reaches it, it archives nothing, reads no configuration but ours, and is asked as a
// role that may only read.
#pragma once

#include <string>

#include "agent/tasks/backup/throw_away.h"
#include "agent/tasks/backup/workspace.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

struct PhysicalServer {
  std::string folder;  // of the workspace, the user's; the server's data is in folder/data
  const ServerUser& user;
  // Where the log comes from; empty: it is in the data folder.
  std::string restore_command;
  std::string system_identifier;  // that it must have
  // Where queries are asked; empty: in the only database beside postgres, or in that.
  std::string database;
  const v1::BackupVerify& verify;
};

// The data folder's PG_VERSION.
StatusOr<int> DataVersion(const std::string& data);

// Recovers, starts, compares and asks. A query may name its database in front of it:
// "/* database: orders */ select …". DataLoss where the restored server is not what it should be.
Status ProveServer(TaskContext& context, const PhysicalServer& server);

}  // namespace muster::agent::backup
