// Tables that PostgreSQL keeps in one partition a day (UTC), by a column of microseconds. What
// falls on no day that was made lies in the partition TABLE_other, which nobody should need to use.
#pragma once

#include "lib/sql/database.h"

namespace muster::sql {

// Each within the caller's transaction. What lies in TABLE_other for a day moves into it.
Status MakePostgresDay(Transaction& t, std::string_view table, absl::Time at);
// The days that are there and end at or before `cutoff`, oldest first, as names of partitions;
// nullopt if the table is in one piece.
StatusOr<std::optional<std::vector<std::string>>> PostgresDaysBefore(Transaction& t,
                                                                     std::string_view table,
                                                                     absl::Time cutoff);

}  // namespace muster::sql
