// How many rows a statement changed, held against how many it had to.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/base/status.h"

namespace muster::sql {

inline Status CheckChanges(std::string_view doing, int64_t changed, std::optional<int64_t> wanted) {
  if (!wanted || changed == *wanted) return OkStatus();
  return Aborted("{}: {} rows changed, and {} had to", doing, changed, *wanted);
}

}  // namespace muster::sql
