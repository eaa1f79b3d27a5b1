// The programs that make and prove backups, at fixed places of the host, and how they are run: what
// they write is kept, secrets reach them through an open file without a name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/tasks/task.h"
#include "lib/base/secret.h"
#include "lib/base/status.h"
#include "lib/exec/program.h"

namespace muster::agent::backup {

// Where Debian and the PostgreSQL project put the programs of each major version.
inline constexpr char kPostgresPrograms[] = "/usr/lib/postgresql";

// /usr/bin/NAME; NotFound names the package to install.
StatusOr<std::string> FindProgram(std::string_view name, std::string_view package);

// The folder with `name` (pg_dump, initdb) of that major version, or of the lowest one above it.
// NotFound says which versions there are, and the package: "postgresql-client-16".
StatusOr<std::string> FindPostgres(int major, std::string_view name, std::string_view package,
                                   const std::string& root = kPostgresPrograms);

// Text in memory as an open file, mode 0600, that ends with the object: no name, no disk.
StatusOr<exec::Fd> MemoryFile(std::string_view text);
// What the program reads it as.
inline constexpr char kStdin[] = "/dev/stdin";

struct ToolEnd {
  int exit_code = -1;
  int signal = 0;
  std::string out;         // as far as nobody else takes it; at most 16 MiB
  std::string last_words;  // the last line on stderr
  std::string err;         // its last 4 KiB
};

// Runs the program to its end, whatever its exit code is. Its stderr is output of the run as well,
// unless somebody takes it.
// Aborted if the run is to end.
StatusOr<ToolEnd> RunTool(TaskContext& context, ProgramRequest request);
// Unavailable, with its last words, unless it ended with exit code 0: "pg_dump: exit code 1: …".
StatusOr<ToolEnd> RunToolWell(TaskContext& context, ProgramRequest request);
Status ToolFailed(const ProgramRequest& request, const ToolEnd& end);

// Aborted once the run is to end.
Status GoOn(const TaskContext& context);

}  // namespace muster::agent::backup
