// A bench has nobody to hand an error to: it says what it was doing, and ends.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "lib/base/status.h"

namespace muster::bench {

// Ends the process at once, whatever other threads do.
[[noreturn]] inline void Fail(std::string_view why) {
  std::fprintf(stderr, "%s: %.*s\n", program_invocation_short_name, static_cast<int>(why.size()),
               why.data());
  std::_Exit(1);
}

inline void Must(const Status& status, std::string_view doing) {
  if (!status.ok()) Fail(fmt::format("{}: {}", doing, Text(status)));
}

template <typename T>
T Must(StatusOr<T> value, std::string_view doing) {
  Must(value.status(), doing);
  return *std::move(value);
}

}  // namespace muster::bench
