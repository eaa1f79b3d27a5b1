// What a run is called: by its job and slot, the same for every replica and for ever (promise C3).
#pragma once

#include <string>
#include <string_view>

#include <absl/time/time.h>

namespace muster::wire {

// UUIDv5; microseconds of the slot count.
std::string RunId(std::string_view job, absl::Time slot);

}  // namespace muster::wire
