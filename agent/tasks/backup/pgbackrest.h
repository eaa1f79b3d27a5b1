// A stanza of pgBackRest, by the pgbackrest program and the operator's configuration file. What it
// says is not enough: what its exit code hides is looked for in `info`, in the archive and in
// `verify`. Where the agent is root another user runs it. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/probes/pgbackrest_info.h"
#include "agent/tasks/backup/programs.h"
#include "agent/tasks/backup/throw_away.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"
#include "muster/v1/backup.pb.h"

namespace muster::agent::backup {

class PgBackRest {
 public:
  // What can be said before anything runs: PermissionDenied with what to allow, NotFound without
  // pgbackrest on this host.
  static Status Check(const v1::PgBackRestSource& spec, const Policy& policy);

  PgBackRest(const v1::PgBackRestSource& spec, const Policy& policy)
      : spec_(spec), policy_(policy) {}

  // Before all else: who runs it, and that the stanza is there.
  Status Open(TaskContext& context);
  const ServerUser& user() const { return *user_; }
  std::string user_name() const { return spec_.user().empty() ? "postgres" : spec_.user(); }
  const std::string& version() const { return version_; }  // "pgBackRest 2.45"
  std::string place() const;                               // for people
  // As it was when the stanza was last looked at.
  const StanzaInfo& info() const { return info_; }
  Status Look(TaskContext& context);

  // That the server's log reaches the archive now.
  Status CheckArchiving(TaskContext& context);
  // Takes a backup, and answers its label.
  StatusOr<std::string> Backup(TaskContext& context, v1::PgBackRestType type);
  StatusOr<WalArchive> Archive(TaskContext& context, const std::string& archive_id);
  // Every byte of the repository is read; DataLoss for this backup alone.
  Status Verify(TaskContext& context, const StanzaBackup& backup, uint64_t& files);
  // Tablespaces that the backup has.
  StatusOr<std::vector<std::string>> Tablespaces(TaskContext& context, const std::string& label);

  struct RestoreRequest {
    std::string label;
    std::string folder;                     // empty, and the user's
    std::string tablespaces;                // where to put them; empty: there are none
    std::optional<absl::Time> target_time;  // else where the backup ended
    uint64_t bytes = 0;                     // for progress
    std::function<Status()> watch;
  };
  Status Restore(TaskContext& context, const RestoreRequest& request);
  // A segment of the log, by its name, into a file of the restored server in `data`.
  Status FetchSegment(TaskContext& context, const std::string& data, const std::string& name,
                      const std::string& path);
  // For a server of the folder that recovers; it runs by a shell, so see CheckPlain.
  std::string RestoreCommand(const std::string& data) const;
  // Removes it, and the log that no backup of those that are left needs.
  Status Expire(TaskContext& context, const std::string& label);

 private:
  std::vector<std::string> Argv(const std::string& command, bool of_repository = true) const;
  std::string Indexed(std::string_view option) const;
  StatusOr<ToolEnd> Run(TaskContext& context, ProgramRequest request) const;
  StatusOr<ToolEnd> RunWell(TaskContext& context, ProgramRequest request) const;
  Status Explain(const ToolEnd& end) const;

  const v1::PgBackRestSource spec_;
  const Policy policy_;
  std::optional<ServerUser> user_;
  std::string version_;
  StanzaInfo info_;
};

// InvalidArgument for a path that a shell would read as something else.
Status CheckPlain(const std::string& path);

}  // namespace muster::agent::backup
