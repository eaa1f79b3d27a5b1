// `muster-agent exec`: runs a command of the host's own scheduler, and tells the agent of it. The
// command runs, and its end is the caller's, whatever becomes of the telling.
#pragma once

#include <string>
#include <vector>

#include "agent/reports/host_command.h"

namespace muster::agent {

struct ExecOptions {
  std::string data;  // the agent's folder
  std::string job;
  HostCommand::Output output = HostCommand::Output::kReadToo;
  std::vector<std::string> command;  // not empty
};

// What the caller is to end with: the command's exit code, 128 + N after signal N; 127 if it is not
// there, 126 if it cannot be started. A problem of the report is one line on stderr. Call it once,
// from main, before any thread; a disk that hangs makes it end the process itself.
int Exec(const ExecOptions& options);

}  // namespace muster::agent
