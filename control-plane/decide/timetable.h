// Which slots a job has: those of a cron expression, each so long, or a single one. Pure.
//
// Slots are a function of the timetable alone: neither what ran nor who asks changes them. What is
// asked for costs as much for a year of slots as for a day: counts are arithmetic (cron.h).
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/cron.h"

namespace muster::control {

struct CronTimes {
  Cron cron;
  absl::TimeZone zone;
};
// anchor, anchor + period, anchor + 2 · period …: elapsed time, whatever clocks do.
struct Every {
  absl::Duration period;  // no slots if it is not positive
  absl::Time anchor = absl::UnixEpoch();
};
struct Once {
  absl::Time at;
};
using Timetable = std::variant<CronTimes, Every, Once>;

// The first slot after `after`, or the last one before `before`; nothing where there is none.
std::optional<absl::Time> NextSlot(const Timetable& times, absl::Time after);
std::optional<absl::Time> PreviousSlot(const Timetable& times, absl::Time before);
// How many slots lie in (after, until], and the first `most` of them.
int64_t CountSlots(const Timetable& times, absl::Time after, absl::Time until);
std::vector<absl::Time> SlotsBetween(const Timetable& times, absl::Time after, absl::Time until,
                                     size_t most);

}  // namespace muster::control
