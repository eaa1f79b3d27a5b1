// Small conversions between rows and values that the aggregates share.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/sql/database.h"

namespace muster::control {

// NULL stands for infinity, past or future as the column means it.
inline sql::Parameter TimeOrNull(absl::Time time) {
  if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return sql::Null{};
  return sql::ToMicros(time);
}
inline absl::Time TimeOr(const sql::Row& row, size_t column, absl::Time infinite) {
  return row.IsNull(column) ? infinite : row.Time(column);
}

// 0 stands for infinity, past or future as the column means it: for statements over many rows,
// where a column must not hold null alone.
inline int64_t TimeOrZero(absl::Time time) {
  return time == absl::InfiniteFuture() || time == absl::InfinitePast() ? 0 : sql::ToMicros(time);
}
inline absl::Time ZeroOr(const sql::Row& row, size_t column, absl::Time infinite) {
  return row.Int(column) == 0 ? infinite : row.Time(column);
}

// The counter behind every change of a check state, removals too.
inline constexpr std::string_view kStateRevision = "state_revision";

inline int64_t Signed(uint64_t value) { return static_cast<int64_t>(value); }
inline uint64_t Unsigned(int64_t value) { return static_cast<uint64_t>(value); }

// A JSON object of texts.
std::string PackMap(const std::map<std::string, std::string>& map);
std::map<std::string, std::string> UnpackMap(const std::string& text);

inline constexpr std::string_view kCheckNumber = "check";
// Every counter that gives out numbers: those of a new epoch begin beyond the ones of the old
// (recovery.h). A position, as the alert loop's, is none of them.
inline constexpr std::string_view kCounters[] = {"agent",
                                                 "alert_event",
                                                 "denied",
                                                 "gap",
                                                 "log",
                                                 "outbox",
                                                 kCheckNumber,
                                                 kStateRevision,
                                                 "spec_revision",
                                                 "transition",
                                                 "job_pause",
                                                 "run_trail",
                                                 "run_revision",
                                                 "assignment_revision",
                                                 "backup_revision",
                                                 "pause_revision"};

// The next value of a counter, from 1, within the transaction; `count` values are taken at once and
// the first of them is returned. Internal for a name that is not in kCounters.
StatusOr<int64_t> NextValue(sql::Transaction& transaction, std::string_view counter,
                            int64_t count = 1);
// The same of several counters with one question; a counter's first value stands where the counter
// does. No value is taken of one that wants none.
struct Wanted {
  std::string_view counter;
  int64_t count = 1;
};
StatusOr<std::vector<int64_t>> NextValues(sql::Transaction& transaction,
                                          const std::vector<Wanted>& wanted);
// Takes a check's state away from an agent, and leaves a row that says so for a week.
Status RemoveState(sql::Transaction& transaction, std::string_view agent, int64_t check_id,
                   absl::Time now);
// The last value given out; 0 if none.
StatusOr<int64_t> LastValue(sql::Transaction& transaction, std::string_view counter);

}  // namespace muster::control
