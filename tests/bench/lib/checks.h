// The checks of a bench: http, of every agent.
#pragma once

#include <cstdint>
#include <string>

#include <absl/time/time.h>

#include "control-plane/store/store.h"

namespace muster::bench {

// "check-007".
std::string CheckName(uint32_t number);
// Applies `checks` of them to an empty store, where they get the numbers 1 to `checks`.
void ApplyChecks(control::Store& store, uint32_t checks, absl::Duration every);

}  // namespace muster::bench
