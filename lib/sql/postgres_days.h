// Tables that PostgreSQL keeps in one partition a day (UTC), by a column of microseconds. What
// falls on no day that was made lies in the partition TABLE_other, which nobody should need to use.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/sql/database.h"

namespace muster::sql {

// Each within the caller's transaction.
struct PostgresDays {
  std::vector<absl::Time>
      missing;          // of those that were asked for; none if the table is in one piece
  int64_t outside = 0;  // rows in TABLE_other, a thousand at most
};
StatusOr<PostgresDays> LookAtPostgresDays(Transaction& t, std::string_view table, absl::Time from,
                                          absl::Time until);
// What lies in TABLE_other for the day moves into it. No effect if the day is there.
Status MakePostgresDay(Transaction& t, std::string_view table, absl::Time at);
// The days that are there and end at or before `cutoff`, oldest first, as names of partitions;
// nullopt if the table is in one piece.
StatusOr<std::optional<std::vector<std::string>>> PostgresDaysBefore(Transaction& t,
                                                                     std::string_view table,
                                                                     absl::Time cutoff);

}  // namespace muster::sql
