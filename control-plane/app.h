// The control plane as a whole: what `init` makes and what `run` serves.
#pragma once

#include <string>

#include "control-plane/config.h"
#include "lib/base/status.h"

namespace muster::control {

// Makes authority, cluster key and DIR/admin.context; the answer is what to tell the operator next.
// FailedPrecondition if there is a control plane in the folder already: nothing is overwritten.
StatusOr<std::string> Init(const Config& config);

// Serves until SIGTERM or SIGINT. Takes both signals over: call it before any thread has started.
Status Run(const Config& config);

}  // namespace muster::control
