// Reads a cron expression. What is unclear between crons is refused rather than guessed.
#pragma once

#include <string_view>

#include "lib/base/cron_table.h"
#include "lib/base/status.h"

namespace muster {

// The grammar stands in docs/reference/schedules.md. An error names the expression, the field, the
// column (from 1) and text that is wrong, and what to write instead. An expression that no date
// ever matches is one.
StatusOr<CronTable> ParseCron(std::string_view text);

}  // namespace muster
