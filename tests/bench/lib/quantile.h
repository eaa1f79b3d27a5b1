// One figure of many.
#pragma once

#include <algorithm>
#include <vector>

#include <absl/time/time.h>

namespace muster::bench {

// The value below which `share` of the ascending values lie, in milliseconds; 0 without any.
inline double Milliseconds(const std::vector<absl::Duration>& ascending, double share) {
  if (ascending.empty()) return 0;
  const auto at = static_cast<size_t>(static_cast<double>(ascending.size()) * share);
  return absl::ToDoubleMilliseconds(ascending[std::min(at, ascending.size() - 1)]);
}

}  // namespace muster::bench
