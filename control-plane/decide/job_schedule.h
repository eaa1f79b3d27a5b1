// What a job's spec says of when it runs, as schedule.h works by it. Pure, but for tzdata.
#pragma once

#include <optional>
#include <string>

#include "control-plane/decide/schedule.h"
#include "muster/v1/job.pb.h"

namespace muster::control {

// InvalidArgument names the field, and what to write instead.
StatusOr<Schedule> ReadSchedule(const v1::JobSchedule& spec);

// nullopt for a job without a schedule.
StatusOr<std::optional<Schedule>> ScheduleOf(const v1::JobSpec& spec);

// "0 2 * * * Europe/Berlin", "every 10m", "at 2026-12-24T02:00:00Z"; empty without a schedule.
std::string ScheduleText(const v1::JobSpec& spec);

// What a run of the job holds for itself: what its spec names, and the job itself unless its runs
// may overlap.
std::vector<std::string> ClaimsOf(std::string_view job, const v1::JobSpec& spec);

}  // namespace muster::control
