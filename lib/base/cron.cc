#include "lib/base/cron.h"

#include <algorithm>

#include "lib/base/cron_parse.h"
#include "lib/base/zone.h"

namespace muster {
namespace {

// Further than any clock was ever set: readings of instants that lie so far apart are in the same
// order as the instants.
constexpr int64_t kFurthest = 4 * 86'400;

// The last whole second not after `time`, within what cron knows.
int64_t SecondOf(absl::Time time) {
  if (time == absl::InfiniteFuture()) return kLatestSecond;
  if (time == absl::InfinitePast()) return kEarliestSecond - 1;
  return std::clamp(absl::ToUnixSeconds(time), kEarliestSecond - 1, kLatestSecond);
}

// The last whole second before `time`.
int64_t SecondBefore(absl::Time time) {
  const int64_t second = SecondOf(time);
  return absl::FromUnixSeconds(second) < time ? second : second - 1;
}

// Whether a time that the expression names was skipped when this stretch began.
bool NamesSkipped(const CronTable& table, const Stretch& stretch) {
  if (table.EveryHour() || stretch.wall_before >= stretch.WallBegin()) return false;
  const auto named = NextReading(table, stretch.wall_before);
  return named && *named < stretch.WallBegin();
}

// The first wall second of the stretch that can be an occurrence by being read.
int64_t FirstReading(const CronTable& table, const Stretch& stretch) {
  if (table.EveryHour()) return stretch.WallBegin();
  return std::max(stretch.WallBegin(), stretch.wall_before);
}

// The first occurrence at or after `from`. `stretch` is the one of `from`, before and after.
std::optional<int64_t> FirstFrom(const CronTable& table, absl::TimeZone zone, int64_t from,
                                 Stretch& stretch) {
  while (from < kLatestSecond) {
    if (from >= stretch.end) stretch = StretchAt(zone, from);
    if (from == stretch.begin && NamesSkipped(table, stretch)) return from;
    const auto reading =
        NextReading(table, std::max(from + stretch.offset, FirstReading(table, stretch)));
    if (!reading) return std::nullopt;
    const int64_t at = *reading - stretch.offset;
    if (at < stretch.end) return at;
    // In a long stretch, nothing that comes before the reading found can be read again.
    const bool is_long = stretch.end - from > kFurthest;
    from = is_long ? std::max(stretch.end, at - kFurthest) : stretch.end;
  }
  return std::nullopt;
}

std::optional<int64_t> LastUntil(const CronTable& table, absl::TimeZone zone, int64_t until) {
  while (until >= kEarliestSecond) {
    const Stretch stretch = StretchAt(zone, until);
    const auto reading = PreviousReading(table, until + stretch.offset);
    if (reading && *reading >= FirstReading(table, stretch)) return *reading - stretch.offset;
    if (NamesSkipped(table, stretch)) return stretch.begin;
    if (!reading) return std::nullopt;
    const bool is_long = until - stretch.begin > kFurthest;
    const int64_t before = stretch.begin - 1;
    until = is_long ? std::min(before, *reading - stretch.offset + kFurthest) : before;
  }
  return std::nullopt;
}

// Occurrences in [from, until), which lies within the stretch.
int64_t CountIn(const CronTable& table, const Stretch& stretch, int64_t from, int64_t until) {
  const int64_t low = std::max(from + stretch.offset, FirstReading(table, stretch));
  const int64_t count = CountReadings(table, low, until + stretch.offset);
  if (from != stretch.begin || !NamesSkipped(table, stretch)) return count;
  const bool read_too = NextReading(table, low) == stretch.WallBegin();
  return read_too ? count : count + 1;
}

std::optional<absl::Time> ToTime(std::optional<int64_t> second) {
  if (!second) return std::nullopt;
  return absl::FromUnixSeconds(*second);
}

}  // namespace

StatusOr<Cron> Cron::Parse(std::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const CronTable table, ParseCron(text));
  return Cron(std::string(text), table);
}

std::optional<absl::Time> Cron::Next(absl::Time after, absl::TimeZone zone) const {
  const int64_t from = SecondOf(after) + 1;
  if (from >= kLatestSecond) return std::nullopt;
  Stretch stretch = StretchAt(zone, from);
  return ToTime(FirstFrom(table_, zone, from, stretch));
}

std::optional<absl::Time> Cron::Previous(absl::Time before, absl::TimeZone zone) const {
  return ToTime(LastUntil(table_, zone, std::min(SecondBefore(before), kLatestSecond - 1)));
}

int64_t Cron::Count(absl::Time after, absl::Time until, absl::TimeZone zone) const {
  const int64_t end = std::min(SecondOf(until) + 1, kLatestSecond);
  int64_t count = 0;
  for (int64_t from = SecondOf(after) + 1; from < end;) {
    const Stretch stretch = StretchAt(zone, from);
    const int64_t to = std::min(stretch.end, end);
    count += CountIn(table_, stretch, from, to);
    from = to;
  }
  return count;
}

std::vector<absl::Time> Cron::Between(absl::Time after, absl::Time until, size_t most,
                                      absl::TimeZone zone) const {
  std::vector<absl::Time> out;
  const int64_t end = std::min(SecondOf(until) + 1, kLatestSecond);
  int64_t from = SecondOf(after) + 1;
  if (from >= end) return out;
  Stretch stretch = StretchAt(zone, from);
  while (out.size() < most) {
    const auto at = FirstFrom(table_, zone, from, stretch);
    if (!at || *at >= end) break;
    out.push_back(absl::FromUnixSeconds(*at));
    from = *at + 1;
  }
  return out;
}

}  // namespace muster
