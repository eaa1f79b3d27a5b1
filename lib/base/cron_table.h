// What a cron expression means to a clock on the wall: which of its readings match. No time zones
// here: see cron.h.
//
// Readings are wall seconds (zone.h). A search costs a step for each month that it passes, a count
// a step for each month that it spans, whatever the expression.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace muster {

struct CronTable {
  uint64_t seconds = 0;  // bit 0..59
  uint64_t minutes = 0;  // bit 0..59
  uint32_t hours = 0;    // bit 0..23
  uint32_t months = 0;   // bit 1..12
  // The days that match, bit 1..31, in each of the 28 kinds of month that there are: see MonthKind.
  std::array<uint32_t, 28> days = {};

  bool EveryHour() const { return hours == 0xFF'FFFF; }
  // How many readings of a matching day match.
  int64_t PerDay() const;
};

// `length` 28 to 31 days, the first of which is a `first_weekday` (0 is Sunday).
constexpr size_t MonthKind(int length, int first_weekday) {
  return static_cast<size_t>((length - 28) * 7 + first_weekday);
}

// The first matching reading not before `from`, or the last one not after `until`; nothing where
// there is none in the years 1 to 9999.
std::optional<int64_t> NextReading(const CronTable& table, int64_t from);
std::optional<int64_t> PreviousReading(const CronTable& table, int64_t until);
// How many readings in [from, until) match.
int64_t CountReadings(const CronTable& table, int64_t from, int64_t until);

}  // namespace muster
