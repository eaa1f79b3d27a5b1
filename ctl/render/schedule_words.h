// A schedule as people say it. Pure; any thread may call.
#pragma once

#include <string>
#include <string_view>

#include "muster/v1/job.pb.h"

namespace muster::ctl {

// "every day at 02:00, Europe/Berlin", "every 15m", "once, at 2026-12-24T02:00:00Z". An expression
// that would need many words stands for itself: "as cron says: 0 3 L * *, UTC".
std::string ScheduleWords(const v1::JobSchedule& schedule);
// "every day at 02:00"; empty where it has no short words.
std::string CronWords(std::string_view cron);

}  // namespace muster::ctl
