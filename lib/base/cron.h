// Cron expressions over the clocks of a time zone: when is the next one, the last one, how many.
//
// An expression that allows every hour of the day follows the clock: it comes at every instant at
// which the wall clock reads a matching time. One that names hours comes once for each time that it
// names: where clocks are set forward over that time, at the first instant after the gap; where
// they read it twice, at the first. Times that fall on one instant are one occurrence. Why:
// docs/decisions/0028-what-cron-does-when-clocks-change.md.
//
// Occurrences are whole seconds in the years 1 to 9999. Costs grow with the months and changes of
// clocks between the arguments and the answer, not with the occurrences. Pure, but for tzdata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/cron_table.h"
#include "lib/base/status.h"

namespace muster {

// A value. Any thread may call.
class Cron {
 public:
  // "0 2 * * *", "*/10 * * * * *", "0 9 * * MON-FRI", "0 3 L * *", "@daily". See cron_parse.h.
  static StatusOr<Cron> Parse(std::string_view text);

  // As it was written.
  const std::string& text() const { return text_; }
  // Whether it allows every hour: then what comes twice on the wall comes twice.
  bool FollowsClock() const { return table_.EveryHour(); }

  // The first occurrence after `after`, or the last one before `before`.
  std::optional<absl::Time> Next(absl::Time after, absl::TimeZone zone) const;
  std::optional<absl::Time> Previous(absl::Time before, absl::TimeZone zone) const;
  // How many occurrences lie in (after, until].
  int64_t Count(absl::Time after, absl::Time until, absl::TimeZone zone) const;
  // Those in (after, until], in order, `most` of them at most. Cheaper than as many calls of Next.
  std::vector<absl::Time> Between(absl::Time after, absl::Time until, size_t most,
                                  absl::TimeZone zone) const;

 private:
  Cron(std::string text, const CronTable& table) : text_(std::move(text)), table_(table) {}

  std::string text_;
  CronTable table_;
};

}  // namespace muster
