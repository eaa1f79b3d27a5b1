#include "control-plane/decide/timetable.h"

#include <algorithm>
#include <limits>

namespace muster::control {
namespace {

using MaybeTime = std::optional<absl::Time>;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

MaybeTime Finite(absl::Time time) {
  if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return std::nullopt;
  return time;
}

// Slots at or before `time`.
int64_t SlotsUntil(const Every& every, absl::Time time) {
  if (every.period <= absl::ZeroDuration() || time < every.anchor) return 0;
  absl::Duration rest;
  const int64_t whole = absl::IDivDuration(time - every.anchor, every.period, &rest);
  return whole == kMost ? kMost : whole + 1;
}

absl::Time Slot(const Every& every, int64_t number) { return every.anchor + every.period * number; }

MaybeTime Next(const CronTimes& times, absl::Time after) {
  return times.cron.Next(after, times.zone);
}
MaybeTime Next(const Every& every, absl::Time after) {
  if (every.period <= absl::ZeroDuration()) return std::nullopt;
  return Finite(Slot(every, SlotsUntil(every, after)));
}
MaybeTime Next(const Once& once, absl::Time after) {
  return once.at > after ? Finite(once.at) : std::nullopt;
}

MaybeTime Previous(const CronTimes& times, absl::Time before) {
  return times.cron.Previous(before, times.zone);
}
MaybeTime Previous(const Every& every, absl::Time before) {
  const int64_t until = SlotsUntil(every, before);
  if (until == 0 || until == kMost) return std::nullopt;
  const absl::Time last = Slot(every, until - 1);
  if (last < before) return last;
  return until > 1 ? Finite(Slot(every, until - 2)) : std::nullopt;
}
MaybeTime Previous(const Once& once, absl::Time before) {
  return once.at < before ? Finite(once.at) : std::nullopt;
}

int64_t Count(const CronTimes& times, absl::Time after, absl::Time until) {
  return times.cron.Count(after, until, times.zone);
}
int64_t Count(const Every& every, absl::Time after, absl::Time until) {
  return std::max<int64_t>(SlotsUntil(every, until) - SlotsUntil(every, after), 0);
}
int64_t Count(const Once& once, absl::Time after, absl::Time until) {
  return once.at > after && once.at <= until ? 1 : 0;
}

}  // namespace

MaybeTime NextSlot(const Timetable& times, absl::Time after) {
  return std::visit([&](const auto& kind) { return Next(kind, after); }, times);
}

MaybeTime PreviousSlot(const Timetable& times, absl::Time before) {
  return std::visit([&](const auto& kind) { return Previous(kind, before); }, times);
}

int64_t CountSlots(const Timetable& times, absl::Time after, absl::Time until) {
  return std::visit([&](const auto& kind) { return Count(kind, after, until); }, times);
}

std::vector<absl::Time> SlotsBetween(const Timetable& times, absl::Time after, absl::Time until,
                                     size_t most) {
  if (const auto* cron = std::get_if<CronTimes>(&times)) {
    return cron->cron.Between(after, until, most, cron->zone);
  }
  std::vector<absl::Time> out;
  for (MaybeTime slot = NextSlot(times, after); slot && *slot <= until && out.size() < most;
       slot = NextSlot(times, *slot)) {
    out.push_back(*slot);
  }
  return out;
}

}  // namespace muster::control
