// How long to wait before the next try. Pure: the caller draws the randomness.
#pragma once

#include <algorithm>
#include <cstdint>

#include <absl/time/time.h>

#include "lib/base/random.h"

namespace muster {

struct Backoff {
  absl::Duration first = absl::Seconds(1);
  absl::Duration longest = absl::Seconds(30);
};

// Full jitter: uniform in [0, min(longest, first · 2^failures)], so that a fleet spreads out.
// `failures` counts from 0.
inline absl::Duration FullJitter(const Backoff& backoff, uint32_t failures, Random& random) {
  absl::Duration bound = backoff.first;
  for (uint32_t i = 0; i < failures && bound < backoff.longest; ++i) bound *= 2;
  return random.Below(std::min(bound, backoff.longest));
}

}  // namespace muster
