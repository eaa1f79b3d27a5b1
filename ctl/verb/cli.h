// The command line as a whole: flags, commands, exit codes (docs/reference/exit-codes.md).
#pragma once

#include "lib/base/status.h"

namespace muster::ctl {

int RunCli(int argc, char** argv);

// 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 unreachable.
int ExitCodeOf(const Status& status);

}  // namespace muster::ctl
