// IANA time zones, and the stretches of time in which a zone's clocks run through.
//
// Cron's arithmetic is done on whole seconds in [kEarliestSecond, kLatestSecond): the years 1 to
// 9999.
#pragma once

#include <cstdint>
#include <string_view>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster {

inline constexpr int64_t kEarliestSecond = -62'135'596'800;
inline constexpr int64_t kLatestSecond = 253'402'300'800;

// The zone of that name in the system's tzdata, as "Europe/Berlin" or "UTC". A process reads each
// zone once: newer tzdata counts after a restart. Refuses what names no zone of IANA's, such as
// "localtime", a path, or an abbreviation that tzdata does not know.
StatusOr<absl::TimeZone> LoadZone(std::string_view name);

// From one change of a zone's clocks to the next. A wall second is what the clock on the wall
// reads, as seconds since it would have read 1970-01-01 00:00: Unix seconds + offset.
struct Stretch {
  int64_t begin = kEarliestSecond;  // Unix seconds
  int64_t end = kLatestSecond;      // Unix seconds, exclusive
  int64_t offset = 0;               // seconds east of UTC
  // The wall second that clocks would have read at `begin` had they not been changed. Less than
  // WallBegin after a gap (the readings between were skipped), more where readings come again.
  int64_t wall_before = kEarliestSecond;

  int64_t WallBegin() const { return begin + offset; }
};

Stretch StretchAt(absl::TimeZone zone, int64_t unix_second);

}  // namespace muster
