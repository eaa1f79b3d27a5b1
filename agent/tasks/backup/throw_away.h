// A server of our own for a moment: in a folder of the workspace, behind a socket there, and gone
// with the object. Servers do not run as root: where the agent does, another user runs it. What it
// is filled with may hold code of whoever could write to the source, and the user may be the one
// who owns the real servers of the host: it changes no file elsewhere, runs no program of the host,
// and connects to nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/tasks/backup/workspace.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"

namespace muster::agent::backup {

// Who runs it, and how.
class ServerUser {
 public:
  // NotFound for a user that there is not; `field` of the spec names it.
  static StatusOr<ServerUser> Find(const std::string& name, const char* field = "verify.user");
  // Gives the folder, and what is in it, to that user.
  Status Own(const std::string& folder) const;
  // The same program, as that user.
  std::vector<std::string> As(std::vector<std::string> argv) const;
  bool is_other() const { return other_; }

 private:
  bool other_ = false;
  unsigned int user_ = 0;
  unsigned int group_ = 0;
};

// A folder in the workspace that belongs to the user and that the user gets to.
StatusOr<std::string> MakeServerFolder(const Workspace& workspace, const ServerUser& user);
// Path names of sockets are short.
Status CheckSocket(const std::string& path);

// What a server of that program is confined to, whose files are all in the folder.
exec::Confinement ServerConfinement(const ServerUser& user, const std::string& program,
                                    const std::string& folder);
// What a client is, that fills a server: it runs no program, and writes no file.
exec::Confinement ClientConfinement(const std::string& program);
// Says so in the run's output where the kernel cannot keep to that.
void NoteMissingConfinement(TaskContext& context);

class ThrowAway {
 public:
  // What the server writes goes to FOLDER/log. `end_with`: the signal that ends it at once.
  static StatusOr<std::unique_ptr<ThrowAway>> Start(TaskContext& context, const std::string& folder,
                                                    const ServerUser& user,
                                                    const std::vector<std::string>& argv,
                                                    int end_with);
  ~ThrowAway();
  ThrowAway(const ThrowAway&) = delete;
  ThrowAway& operator=(const ThrowAway&) = delete;

  // Until `answers` does; Unavailable with what the server says if it ends before, DeadlineExceeded
  // after so long.
  Status WaitUntil(const std::function<Status()>& answers, absl::Duration within);

 private:
  ThrowAway(TaskContext& context, std::string log, std::unique_ptr<ProgramBeside> program,
            int end_with);
  std::string LastWords() const;

  TaskContext& context_;
  const std::string log_;
  const std::unique_ptr<ProgramBeside> program_;
  const int end_with_;
};

}  // namespace muster::agent::backup
