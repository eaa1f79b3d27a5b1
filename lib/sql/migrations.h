// What both drivers do alike when they migrate a schema: what was applied, by the database's own
// word, and whether a program may work with a schema that is newer than it knows.
#pragma once

#include <cstddef>
#include <string_view>

#include "lib/sql/database.h"

namespace muster::sql {

// How many are applied. Makes the tables that remember it.
StatusOr<size_t> MigrationsApplied(Transaction& transaction);
// That `version` was applied, and which programs can work with it.
Status NoteMigration(Transaction& transaction, std::string_view migration, size_t version);
// FailedPrecondition unless a program that knows `known` migrations can work with all `applied`.
Status CheckNewer(Transaction& transaction, std::string_view database, size_t known,
                  size_t applied);

// N of the line "-- oldest program: N"; `version` where there is none.
size_t OldestProgram(std::string_view migration, size_t version);

}  // namespace muster::sql
