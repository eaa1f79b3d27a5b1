#include "lib/base/cron_table.h"

#include <algorithm>
#include <bit>

#include <absl/time/civil_time.h>

#include "lib/base/zone.h"

namespace muster {
namespace {

constexpr int64_t kDay = 86'400;

int64_t DayOf(int64_t reading) {
  return reading >= 0 ? reading / kDay : -((kDay - 1 - reading) / kDay);
}

// A month's days as days since 1970-01-01, and which of them match.
struct Month {
  int64_t year;
  int64_t first;
  int length;
  uint32_t mask;  // bit 1..31

  int64_t end() const { return first + length; }
};

int LengthOf(int64_t year, int month) {
  constexpr int kLengths[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return month == 2 && leap ? 29 : kLengths[month];
}

// The month that the day lies in.
Month MonthOf(const CronTable& table, int64_t day) {
  const absl::CivilDay date = absl::CivilDay(1970) + day;
  const int64_t first = day - date.day() + 1;
  const int length = LengthOf(date.year(), date.month());
  if ((table.months >> date.month() & 1) == 0) return {date.year(), first, length, 0};
  const int weekday = static_cast<int>(((first + 4) % 7 + 7) % 7);  // 1970 began on a Thursday
  return {date.year(), first, length, table.days[MonthKind(length, weekday)]};
}

// The bits from `low` on, and those up to `high`.
uint64_t From(uint64_t mask, int low) { return low > 63 ? 0 : mask & (~uint64_t{0} << low); }
uint64_t UpTo(uint64_t mask, int high) {
  return high < 0 ? 0 : mask & (~uint64_t{0} >> (63 - high));
}
int Lowest(uint64_t mask) { return std::countr_zero(mask); }
int Highest(uint64_t mask) { return 63 - std::countl_zero(mask); }

std::optional<int64_t> NextDay(const CronTable& table, int64_t from) {
  while (true) {
    const Month month = MonthOf(table, from);
    if (month.year > 9999) return std::nullopt;
    const uint64_t left = From(month.mask, static_cast<int>(from - month.first) + 1);
    if (left != 0) return month.first + Lowest(left) - 1;
    from = month.end();
  }
}

std::optional<int64_t> PreviousDay(const CronTable& table, int64_t until) {
  while (true) {
    const Month month = MonthOf(table, until);
    if (month.year < 1) return std::nullopt;
    const uint64_t left = UpTo(month.mask, static_cast<int>(until - month.first) + 1);
    if (left != 0) return month.first + Highest(left) - 1;
    until = month.first - 1;
  }
}

// The first matching second of the day not before `from`, or -1.
int NextSecond(const CronTable& table, int from) {
  const int hour = from / 3600, minute = from / 60 % 60;
  if ((table.hours >> hour & 1) != 0) {
    if ((table.minutes >> minute & 1) != 0) {
      const uint64_t seconds = From(table.seconds, from % 60);
      if (seconds != 0) return from - from % 60 + Lowest(seconds);
    }
    const uint64_t minutes = From(table.minutes, minute + 1);
    if (minutes != 0) return hour * 3600 + Lowest(minutes) * 60 + Lowest(table.seconds);
  }
  const uint64_t hours = From(table.hours, hour + 1);
  if (hours == 0) return -1;
  return Lowest(hours) * 3600 + Lowest(table.minutes) * 60 + Lowest(table.seconds);
}

// The last matching second of the day not after `until`, or -1.
int PreviousSecond(const CronTable& table, int until) {
  const int hour = until / 3600, minute = until / 60 % 60;
  if ((table.hours >> hour & 1) != 0) {
    if ((table.minutes >> minute & 1) != 0) {
      const uint64_t seconds = UpTo(table.seconds, until % 60);
      if (seconds != 0) return until - until % 60 + Highest(seconds);
    }
    const uint64_t minutes = UpTo(table.minutes, minute - 1);
    if (minutes != 0) return hour * 3600 + Highest(minutes) * 60 + Highest(table.seconds);
  }
  const uint64_t hours = UpTo(table.hours, hour - 1);
  if (hours == 0) return -1;
  return Highest(hours) * 3600 + Highest(table.minutes) * 60 + Highest(table.seconds);
}

bool MatchesDay(const CronTable& table, int64_t day) {
  const Month month = MonthOf(table, day);
  return (month.mask >> (day - month.first + 1) & 1) != 0;
}

// Matching seconds before `second` in a day that matches.
int64_t CountSeconds(const CronTable& table, int second) {
  const int hour = second / 3600, minute = second / 60 % 60;
  const int64_t per_minute = std::popcount(table.seconds);
  const int64_t per_hour = per_minute * std::popcount(table.minutes);
  int64_t count = per_hour * std::popcount(UpTo(table.hours, hour - 1));
  if ((table.hours >> hour & 1) == 0) return count;
  count += per_minute * std::popcount(UpTo(table.minutes, minute - 1));
  if ((table.minutes >> minute & 1) == 0) return count;
  return count + std::popcount(UpTo(table.seconds, second % 60 - 1));
}

// Matching days in [from, until).
int64_t CountDays(const CronTable& table, int64_t from, int64_t until) {
  int64_t count = 0;
  while (from < until) {
    const Month month = MonthOf(table, from);
    const uint64_t mask = From(month.mask, static_cast<int>(from - month.first) + 1);
    const int64_t last = std::min(until, month.end()) - month.first;
    count += std::popcount(UpTo(mask, static_cast<int>(last)));
    from = month.end();
  }
  return count;
}

}  // namespace

int64_t CronTable::PerDay() const {
  return int64_t{std::popcount(hours)} * std::popcount(minutes) * std::popcount(seconds);
}

std::optional<int64_t> NextReading(const CronTable& table, int64_t from) {
  from = std::max(from, kEarliestSecond);
  if (from >= kLatestSecond) return std::nullopt;
  const int64_t today = DayOf(from);
  if (MatchesDay(table, today)) {
    const int second = NextSecond(table, static_cast<int>(from - today * kDay));
    if (second >= 0) return today * kDay + second;
  }
  const std::optional<int64_t> day = NextDay(table, today + 1);
  if (!day) return std::nullopt;
  return *day * kDay + NextSecond(table, 0);
}

std::optional<int64_t> PreviousReading(const CronTable& table, int64_t until) {
  until = std::min(until, kLatestSecond - 1);
  if (until < kEarliestSecond) return std::nullopt;
  const int64_t today = DayOf(until);
  if (MatchesDay(table, today)) {
    const int second = PreviousSecond(table, static_cast<int>(until - today * kDay));
    if (second >= 0) return today * kDay + second;
  }
  const std::optional<int64_t> day = PreviousDay(table, today - 1);
  if (!day) return std::nullopt;
  return *day * kDay + PreviousSecond(table, static_cast<int>(kDay - 1));
}

int64_t CountReadings(const CronTable& table, int64_t from, int64_t until) {
  from = std::max(from, kEarliestSecond);
  until = std::min(until, kLatestSecond);
  if (from >= until) return 0;
  const int64_t first = DayOf(from), last = DayOf(until);
  int64_t count = CountDays(table, first, last) * table.PerDay();
  if (MatchesDay(table, first)) count -= CountSeconds(table, static_cast<int>(from - first * kDay));
  if (MatchesDay(table, last)) count += CountSeconds(table, static_cast<int>(until - last * kDay));
  return count;
}

}  // namespace muster
