// The command line as a whole: flags, commands, exit codes (docs/reference/exit-codes.md).
#pragma once

#include "lib/base/status.h"

namespace muster::ctl {

int RunCli(int argc, char** argv);

}  // namespace muster::ctl
