// One way of making a backup: of PostgreSQL, of Redis, of files. It says what it will need, writes
// what is to be kept into a folder, and describes it; encrypting, storing, reading back and
// comparing are the task's, the same for all.
//
//   Plan ──► Produce ──► [into the repository, read back] ──► Prover: restored, and compared
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "agent/policy/policy.h"
#include "agent/tasks/backup/restic.h"
#include "agent/tasks/backup/workspace.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

// Bytes that it will need in the staging folder, about.
struct Need {
  uint64_t to_make = 0;
  uint64_t to_restore = 0;  // besides what was read back
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string What() const = 0;  // for people, without secrets
  // Looks at the source: reachable, readable, how large. An error says what to do.
  virtual StatusOr<Need> Plan(TaskContext& context) = 0;
  // Writes what is to be kept into `folder`, and describes it; of `files` those that it has read
  // anyway. Nothing that it wrote counts unless this is OK.
  virtual Status Produce(TaskContext& context, const Workspace& workspace,
                         const std::string& folder, v1::BackupManifest& manifest) = 0;
  // What goes into the repository: of an engine that produces nothing, the source itself.
  virtual ResticSource Source(const std::string& folder) const = 0;
  virtual bool produces() const { return true; }
  // What was read back with the source itself, where that can still be done.
  virtual Status CompareWithSource(TaskContext&, const v1::BackupManifest&) { return OkStatus(); }
};

using EngineOr = StatusOr<std::unique_ptr<Engine>>;
EngineOr MakePostgresDump(const v1::PostgresSource& spec, const Policy& policy);
EngineOr MakePostgresBase(const v1::PostgresSource& spec, const Policy& policy);
EngineOr MakeRedisRdb(const v1::RedisSource& spec, const Policy& policy);
EngineOr MakeFiles(const v1::FilesSource& spec, const Policy& policy);

// Restores what was read back into `folder` into a throw-away server, compares, and asks.
struct ProveRequest {
  std::string folder;
  const v1::BackupManifest& manifest;
  const v1::BackupVerify& verify;
  uint32_t parallel = 2;
};
Status ProvePostgres(TaskContext& context, const Workspace& workspace, const ProveRequest& request);
// The same into a new database of a server that is there, which goes again if that fails.
class PgServer;
Status RestoreDatabase(TaskContext& context, const Workspace& workspace, const PgServer& server,
                       const ProveRequest& request, const std::string& database);
Status ProveRedis(TaskContext& context, const Workspace& workspace, const ProveRequest& request);
// A whole server; what is in the folder is used up.
Status ProveBase(TaskContext& context, const Workspace& workspace, const ProveRequest& request);
// Of one that was restored for good: gives it to who runs PostgreSQL, and says how to start it.
StatusOr<std::string> MakeStartable(const std::string& folder);

}  // namespace muster::agent::backup
