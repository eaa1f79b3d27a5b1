// Runs a program to its end or the deadline: no shell, a small environment, no open files of ours,
// a process group of its own that goes as a whole. Blocks the calling thread; any thread.
#pragma once

#include <string>
#include <vector>

#include "agent/probes/probe.h"
#include "lib/base/status.h"

namespace muster::agent {

struct ProgramEnd {
  int exit_code = -1;  // -1 if a signal ended it
  int signal = 0;
  bool timed_out = false;
  bool cut = false;    // it said more than `most_output`
  std::string output;  // stdout
  std::string errors;  // stderr
};

struct ProgramOptions {
  size_t most_output = 64 * 1024;
  // Between SIGTERM, at the deadline, and SIGKILL.
  absl::Duration grace = absl::Milliseconds(250);
};

// NotFound or PermissionDenied if it cannot be started.
StatusOr<ProgramEnd> RunToEnd(const std::vector<std::string>& argv, const ProbeContext& context,
                              const ProgramOptions& options = {});

}  // namespace muster::agent
