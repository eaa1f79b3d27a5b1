// Waiting for a run, whatever becomes of the connection.
#pragma once

#include <absl/time/time.h>

#include "ctl/commands/session.h"
#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

// 0 for SUCCEEDED, 8 for UNKNOWN: it is never taken for success; 1 for every other end.
int ExitCodeOf(v1::RunState state);

// Until the run is over, or the deadline; the run as it was seen last. Goes from server to server
// when one goes away. Draws a line of progress on stderr if that is a terminal, and tells changes
// of state and muster's notes on the run there. Ctrl-C ends the process with 130, and says that the
// run goes on.
StatusOr<v1::Run> WaitForRun(Session& session, const v1::Run& run, absl::Time deadline);

}  // namespace muster::ctl
