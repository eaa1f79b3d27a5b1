// The checks of a fleet, applied over the control plane's own API.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/net/context.h"

namespace muster::bench {

struct ChecksOptions {
  uint32_t checks = 50;
  absl::Duration every = absl::Seconds(10);
  uint32_t failures = 2;  // in a row until it is believed
  std::map<std::string, std::string> agents = {{"fleet", "simulated"}};  // selector
};

// Makes fleet-001 … what they are to be, and takes away those of an earlier run that are too many.
// Tries each server of the context in turn.
Status ApplyChecks(const net::Context& context, const ChecksOptions& options);

}  // namespace muster::bench
