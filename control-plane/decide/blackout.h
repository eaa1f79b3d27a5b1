// Windows in which jobs do not start: single ones, and those that come again. Pure.
//
// A window holds from the moment that it begins to just before it ends: a job may start at the very
// end. Windows may overlap and adjoin.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/decide/timetable.h"

namespace muster::control {

struct Blackout {
  std::string name;  // "launch freeze": told with whatever it held back
  Timetable begins;  // a single window begins Once
  absl::Duration lasts;
};

struct BlackoutSpan {
  std::string name;
  absl::Time begin;
  absl::Time end;  // exclusive
};

// The window that `at` lies in, of several the one that ends last.
std::optional<BlackoutSpan> BlackoutAt(const std::vector<Blackout>& blackouts, absl::Time at);
// When the next window begins after `after`. InfiniteFuture if none does.
absl::Time NextBlackout(const std::vector<Blackout>& blackouts, absl::Time after);
// The first moment from `at` on that lies in no window. InfiniteFuture if window follows window
// without a break, 1,000 times.
absl::Time FirstOpen(const std::vector<Blackout>& blackouts, absl::Time at);

}  // namespace muster::control
