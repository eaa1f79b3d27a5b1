#include "control-plane/decide/job_schedule.h"

#include "lib/base/cron.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

StatusOr<absl::Time> ReadTime(std::string_view field, const std::string& text) {
  StatusOr<absl::Time> time = ParseTime(text);
  if (!time.ok()) return InvalidArgument("{}: {}", field, Message(time.status()));
  return time;
}

StatusOr<Timetable> ReadCron(std::string_view field, const std::string& text, absl::TimeZone zone) {
  StatusOr<Cron> cron = Cron::Parse(text);
  if (!cron.ok()) return InvalidArgument("{}: {}", field, Message(cron.status()));
  return Timetable(CronTimes{*std::move(cron), zone});
}

StatusOr<Timetable> ReadTimes(const v1::JobSchedule& spec, absl::TimeZone zone) {
  switch (spec.times_case()) {
    case v1::JobSchedule::kCron: return ReadCron("cron", spec.cron(), zone);
    case v1::JobSchedule::kEvery: return Timetable(Every{wire::FromProto(spec.every())});
    case v1::JobSchedule::kAt: {
      MUSTER_ASSIGN_OR_RETURN(const absl::Time at, ReadTime("at", spec.at()));
      return Timetable(Once{at});
    }
    case v1::JobSchedule::TIMES_NOT_SET: break;
  }
  return InvalidArgument("schedule: needs one of cron, every, at");
}

StatusOr<Blackout> ReadBlackout(const v1::BlackoutWindow& spec, absl::TimeZone zone) {
  Blackout blackout{.name = spec.name(), .begins = Once{}, .lasts = wire::FromProto(spec.lasts())};
  const std::string field = fmt::format("blackout {}", spec.name());
  if (spec.has_cron()) {
    MUSTER_ASSIGN_OR_RETURN(blackout.begins, ReadCron(field, spec.cron(), zone));
  } else {
    MUSTER_ASSIGN_OR_RETURN(const absl::Time at, ReadTime(field, spec.at()));
    blackout.begins = Once{at};
  }
  return blackout;
}

Overlap ReadOverlap(v1::OverlapPolicy policy) {
  switch (policy) {
    case v1::OVERLAP_POLICY_BUFFER_ONE: return Overlap::kBufferOne;
    case v1::OVERLAP_POLICY_BUFFER_ALL: return Overlap::kBufferAll;
    case v1::OVERLAP_POLICY_CANCEL_OTHER: return Overlap::kCancelOther;
    case v1::OVERLAP_POLICY_TERMINATE_OTHER: return Overlap::kTerminateOther;
    case v1::OVERLAP_POLICY_ALLOW: return Overlap::kAllow;
    default: return Overlap::kSkip;
  }
}

}  // namespace

StatusOr<Schedule> ReadSchedule(const v1::JobSchedule& spec) {
  StatusOr<absl::TimeZone> zone = LoadZone(spec.time_zone().empty() ? "UTC" : spec.time_zone());
  if (!zone.ok()) return InvalidArgument("timeZone: {}", Message(zone.status()));
  MUSTER_ASSIGN_OR_RETURN(Timetable times, ReadTimes(spec, *zone));
  Schedule schedule{.times = std::move(times),
                    .jitter = wire::FromProto(spec.jitter()),
                    .overlap = ReadOverlap(spec.overlap())};
  if (spec.has_catch_up()) schedule.catch_up = wire::FromProto(spec.catch_up());
  for (const v1::BlackoutWindow& window : spec.blackouts()) {
    MUSTER_ASSIGN_OR_RETURN(Blackout blackout, ReadBlackout(window, *zone));
    schedule.blackouts.push_back(std::move(blackout));
  }
  return schedule;
}

StatusOr<std::optional<Schedule>> ScheduleOf(const v1::JobSpec& spec) {
  if (!spec.has_schedule()) return std::optional<Schedule>();
  MUSTER_ASSIGN_OR_RETURN(Schedule schedule, ReadSchedule(spec.schedule()));
  return std::optional<Schedule>(std::move(schedule));
}

std::string ScheduleText(const v1::JobSpec& spec) {
  const v1::JobSchedule& schedule = spec.schedule();
  switch (schedule.times_case()) {
    case v1::JobSchedule::kCron: return fmt::format("{} {}", schedule.cron(), schedule.time_zone());
    case v1::JobSchedule::kEvery:
      return fmt::format("every {}", ShortDuration(wire::FromProto(schedule.every())));
    case v1::JobSchedule::kAt: return fmt::format("at {}", schedule.at());
    case v1::JobSchedule::TIMES_NOT_SET: break;
  }
  return "";
}

std::vector<std::string> ClaimsOf(std::string_view job, const v1::JobSpec& spec) {
  std::vector<std::string> claims(spec.exclusive().begin(), spec.exclusive().end());
  if (spec.schedule().overlap() != v1::OVERLAP_POLICY_ALLOW) {
    claims.push_back(fmt::format("job/{}", job));
  }
  return claims;
}

}  // namespace muster::control
