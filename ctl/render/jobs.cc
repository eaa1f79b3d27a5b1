#include "ctl/render/jobs.h"

#include <algorithm>
#include <optional>

#include "ctl/render/json_fields.h"
#include "ctl/render/schedule_words.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

constexpr size_t kShortId = 8;

std::string TookText(const Json& run, absl::Time now) {
  const auto started = TimeAt(run, "startedAt");
  if (!started.has_value()) return "";
  return SpanText(TimeAt(run, "finishedAt").value_or(now) - *started);
}

std::string StateText(const Json& run) {
  const uint64_t slots = NumberAt(run, "slots");
  return slots > 1 ? fmt::format("{} ×{}", TextAt(run, "state"), slots) : TextAt(run, "state");
}

std::string PausedText(const Json& job, absl::Time now) {
  if (!job.value("paused", false)) return "no";
  const auto until = TimeAt(job, "pausedUntil");
  return until.has_value() ? "for " + SpanText(*until - now) : "yes";
}

// When it was over, began, or should have, whichever is known.
std::string LastText(const Json& job, absl::Time now) {
  const auto run = job.find("lastRun");
  if (run == job.end() || !run->is_object()) return "";
  for (const char* key : {"finishedAt", "startedAt", "slot"}) {
    if (const auto time = TimeAt(*run, key))
      return fmt::format("{} {}", StateText(*run), SpanText(now - *time));
  }
  return StateText(*run);
}

std::string NextText(const Json& job, absl::Time now) {
  const auto next = job.find("next");
  if (next == job.end()) return "";
  for (const Json& one : *next) {
    if (!TextAt(one, "missed").empty()) continue;
    const auto slot = TimeAt(one, "slot");
    return slot.has_value() ? "in " + SpanText(*slot - now) : "";
  }
  return "";
}

std::string OptionalTime(bool known, const google::protobuf::Timestamp& time, absl::Time now) {
  if (!known) return "";
  const absl::Time at = wire::FromProto(time);
  return fmt::format("{}, {} ago", SecondText(at), SpanText(now - at));
}

std::string OriginText(const v1::Run& run) {
  const std::string by = run.asked_by().empty() ? "" : ", asked for by " + run.asked_by();
  switch (run.trigger()) {
    case v1::RUN_TRIGGER_SCHEDULE: return "schedule" + by;
    case v1::RUN_TRIGGER_MANUAL: return "by hand" + by;
    case v1::RUN_TRIGGER_BACKFILL: return "backfill" + by;
    case v1::RUN_TRIGGER_FOLLOW_UP: return "follows from another run" + by;
    case v1::RUN_TRIGGER_REPORTED: return "reported by the host, outside of every slot";
    default: return "";
  }
}

std::string StateWithReason(const v1::Run& run, bool colour) {
  std::string state = StateName(run.state());
  if (run.slots() > 1) state += fmt::format(" ×{}", run.slots());
  if (colour) state = Painted(state);
  if (run.stopping() && !IsOver(run.state())) state += ", asked to end";
  return run.reason().empty() ? state : fmt::format("{}: {}", state, OneLine(run.reason()));
}

std::string TrailText(const v1::GetRunResponse& response, const TableStyle& style) {
  if (response.trail().empty()) return "";
  Json items = Json::array();
  for (const v1::RunTrailEntry& entry : response.trail()) items.push_back(ToJson(entry));
  return "\n" + TableText({{"AT", "at"}, {"WHAT", "what"}, {"REASON", "reason"}}, items, style);
}

std::string RulesText(const v1::JobSchedule& schedule) {
  std::vector<std::string> parts;
  if (schedule.jitter().seconds() > 0)
    parts.push_back("jitter " + DurationText(wire::FromProto(schedule.jitter())));
  parts.push_back("catch-up " + DurationText(wire::FromProto(schedule.catch_up())));
  parts.push_back("overlap " + ToJson(schedule).at("overlap").get<std::string>());
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string BlackoutsText(const v1::JobSchedule& schedule) {
  std::vector<std::string> parts;
  for (const v1::BlackoutWindow& window : schedule.blackouts()) {
    parts.push_back(fmt::format("{} ({} from {})", window.name(),
                                DurationText(wire::FromProto(window.lasts())),
                                window.has_cron() ? window.cron() : window.at()));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string AgentsText(const v1::JobSpec& spec) {
  const Json json = ToJson(spec);
  const std::string labels = CellText(json, {"AGENTS", "agents", Form::kLabels}, absl::UnixEpoch());
  return (labels == "-" ? "any" : labels) + ": the first by name that is connected";
}

// As a shell would be given it.
std::string CommandText(const v1::CommandTask& command) {
  std::string text;
  for (const std::string& argument : command.argv()) {
    const bool plain =
        !argument.empty() && argument.find_first_of(" \t\n\"'\\$*?;&|<>()#`") == std::string::npos;
    text += (text.empty() ? "" : " ") + (plain ? argument : Json(argument).dump());
  }
  return text;
}

std::string PlaceText(const v1::BackupRepository& repository) {
  return repository.has_path() ? repository.path() : repository.url();
}

// Where the task's backups are: restic's repository, or pgBackRest's.
template <typename Task>
std::string WhereText(const Task& task) {
  if (!task.has_pgbackrest()) return PlaceText(task.repository());
  return fmt::format("repository {} of {}", task.pgbackrest().repository(),
                     task.pgbackrest().config_file());
}

std::string SourceText(const v1::BackupTask& backup) {
  switch (backup.source_case()) {
    case v1::BackupTask::kPostgres:
      return backup.postgres().method() == v1::POSTGRES_METHOD_BASE ? "a PostgreSQL server"
                                                                    : "a PostgreSQL database";
    case v1::BackupTask::kRedis: return "Redis at " + backup.redis().address();
    case v1::BackupTask::kFiles: return fmt::format("{}", fmt::join(backup.files().paths(), " "));
    case v1::BackupTask::kPgbackrest: return "the server of stanza " + backup.pgbackrest().stanza();
    case v1::BackupTask::SOURCE_NOT_SET: break;
  }
  return "";
}

std::string TaskFact(const v1::JobSpec& spec) {
  switch (spec.task_case()) {
    case v1::JobSpec::kCommand: return Fact("Command", CommandText(spec.command()));
    case v1::JobSpec::kBackup:
      return Fact("Backup",
                  fmt::format("{} into {}{}", SourceText(spec.backup()), WhereText(spec.backup()),
                              spec.backup().verify().restore() ? ", restored" : ""));
    case v1::JobSpec::kVerifyBackup:
      return Fact("Verifies", "a backup in " + WhereText(spec.verify_backup()));
    case v1::JobSpec::kRestoreBackup:
      return Fact("Restores", "a backup in " + WhereText(spec.restore_backup()));
    case v1::JobSpec::kForgetBackups:
      return Fact("Forgets", "backups in " + WhereText(spec.forget_backups()));
    case v1::JobSpec::kListBackups:
      return Fact("Lists", "backups in " + WhereText(spec.list_backups()));
    case v1::JobSpec::kReported: return Fact("Reported", "by its host, with muster-agent exec");
    case v1::JobSpec::kDrillBackup:
      return Fact("Drill", "the newest backup of " + spec.drill_backup().job());
    case v1::JobSpec::TASK_NOT_SET: break;
  }
  return "";
}

std::string LimitsText(const v1::JobSpec& spec) {
  const uint32_t attempts = std::max(spec.retry().attempts(), 1u);
  return fmt::format("{} an attempt, {} attempt{}", DurationText(wire::FromProto(spec.deadline())),
                     attempts, attempts == 1 ? "" : "s");
}

absl::TimeZone ZoneOf(const v1::JobSpec& spec) {
  if (!spec.schedule().has_cron()) return absl::UTCTimeZone();
  return LoadZone(spec.schedule().time_zone()).value_or(absl::UTCTimeZone());
}

std::string NextNote(const v1::UpcomingRun& next, absl::TimeZone zone) {
  if (!next.missed().empty()) return "will be missed: " + next.missed();
  if (!next.has_start_at() || wire::FromProto(next.start_at()) <= wire::FromProto(next.slot()))
    return "";
  return "starts " + absl::FormatTime("%H:%M:%S", wire::FromProto(next.start_at()), zone);
}

std::string NextRunsText(const v1::JobSpec& spec, const v1::Job& job, const TableStyle& style) {
  if (job.next().empty()) return "";
  const absl::TimeZone zone = ZoneOf(spec);
  Json items = Json::array();
  for (const v1::UpcomingRun& next : job.next()) {
    const absl::Time slot = wire::FromProto(next.slot());
    items.push_back({{"slot", absl::FormatTime("%a %Y-%m-%d %H:%M:%S %Ez", slot, zone)},
                     {"zone", zone.name()},
                     {"in", SpanText(slot - style.now)},
                     {"note", NextNote(next, zone)}});
  }
  return "\n" + TableText({{"NEXT SLOTS", "slot"}, {"ZONE", "zone"}, {"IN", "in"}, {"", "note"}},
                          items, style);
}

}  // namespace

std::string StateName(v1::RunState state) {
  const std::string& name = v1::RunState_Name(state);
  constexpr std::string_view kPrefix = "RUN_STATE_";
  // One that a newer control plane knows has no name here.
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : fmt::format("STATE_{}", state);
}

bool IsOver(v1::RunState state) {
  return state != v1::RUN_STATE_UNSPECIFIED && state != v1::RUN_STATE_QUEUED &&
         state != v1::RUN_STATE_RUNNING;
}

std::string ShortId(const std::string& id) { return id.substr(0, kShortId); }

std::string CountText(double count, const std::string& unit) {
  if (unit == "%") return fmt::format("{:.0f}%", count);
  if (unit != "B") {
    const std::string number = count < 10 && count != static_cast<double>(static_cast<int>(count))
                                   ? fmt::format("{:.1f}", count)
                                   : fmt::format("{:.0f}", count);
    return unit.empty() ? number : fmt::format("{} {}", number, OneLine(unit));
  }
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t step = 0;
  while (count >= 1024 && step + 1 < std::size(kUnits)) {
    count /= 1024;
    ++step;
  }
  return step == 0 ? fmt::format("{:.0f} B", count) : fmt::format("{:.1f} {}", count, kUnits[step]);
}

std::string AmountText(const v1::RunProgress& progress) {
  if (progress.done() == 0 && progress.total() == 0) return "";
  const auto count = [&](uint64_t number) {
    return CountText(static_cast<double>(number), progress.unit());
  };
  if (progress.total() == 0) return count(progress.done());
  if (progress.unit() == "%") return count(progress.done());
  const std::string total = count(progress.total());
  std::string done = count(progress.done());
  // "1.5 of 10.0 GiB", but "900.0 MiB of 10.0 GiB".
  const size_t space = done.rfind(' ');
  const size_t other = total.rfind(' ');
  if (space != std::string::npos && other != std::string::npos &&
      done.substr(space) == total.substr(other)) {
    done.erase(space);
  }
  return fmt::format("{} of {}", done, total);
}

Json RunRow(const Json& run, const TableStyle& style) {
  Json row = run;
  if (!style.wide) row["id"] = ShortId(TextAt(run, "id"));
  if (const std::string action = TextAt(run, "action"); !action.empty())
    row["job"] = fmt::format("{} ({})", TextAt(run, "job"), action);
  row["state"] = StateText(run);
  if (const auto slot = TimeAt(run, "slot")) row["slot"] = SecondText(*slot);
  const auto started = TimeAt(run, "startedAt");
  row["started"] = started.has_value() ? SpanText(style.now - *started) : "";
  row["took"] = TookText(run, style.now);
  row["attempt"] = fmt::format("{}/{}", NumberAt(run, "attempt"), NumberAt(run, "attempts"));
  return row;
}

Json JobRow(const Json& job, const TableStyle& style) {
  const std::string schedule = TextAt(job, "schedule");
  return {
      {"name", TextAt(job, "name")},          {"schedule", schedule.empty() ? "by hand" : schedule},
      {"paused", PausedText(job, style.now)}, {"last", LastText(job, style.now)},
      {"next", NextText(job, style.now)},     {"running", NumberAt(job, "running")},
      {"queued", NumberAt(job, "queued")}};
}

std::string DescribeRunText(const v1::GetRunResponse& response, const TableStyle& style) {
  const v1::Run& run = response.run();
  const Json json = ToJson(run);
  std::string text = Fact("Run", run.id()) + Fact("Job", run.job());
  text += Fact("Action", run.action());
  text += fmt::format("{:<11}{}\n", "State:", StateWithReason(run, style.colour));
  text += Fact("Agent", run.agent());
  text += Fact("Slot", run.has_slot() ? SecondText(wire::FromProto(run.slot())) : "");
  text += Fact("Origin", OriginText(run));
  text += Fact("Started", OptionalTime(run.has_started_at(), run.started_at(), style.now));
  text += Fact("Finished", OptionalTime(run.has_finished_at(), run.finished_at(), style.now));
  text += Fact("Took", TookText(json, style.now));
  if (run.attempts() > 0)
    text += Fact("Attempt", fmt::format("{} of {}", run.attempt(), run.attempts()));
  if (run.exit_code() >= 0 && IsOver(run.state()) && run.attempt() > 0)
    text += Fact("Exit code", fmt::format("{}", run.exit_code()));
  const std::string amount = AmountText(run.progress());
  const std::string between = amount.empty() || run.progress().text().empty() ? "" : ", ";
  text += Fact("Progress", amount + between + run.progress().text());
  if (run.dropped_lines() > 0)
    text += Fact("Log", fmt::format("{} lines were not kept", run.dropped_lines()));
  return text + TrailText(response, style);
}

std::string DescribeJobText(const v1::JobSpec& spec, const v1::Job& job,
                            const std::vector<v1::Run>& last, const TableStyle& style) {
  const Json json = ToJson(job);
  std::string text = Fact("Name", job.name()) + Fact("About", spec.description());
  text += Fact("Runbook", spec.runbook());
  text += Fact("Schedule", ScheduleWords(spec.schedule()));
  if (spec.has_schedule()) text += Fact("Rules", RulesText(spec.schedule()));
  text += Fact("Blackouts", BlackoutsText(spec.schedule()));
  text += Fact("Agent", AgentsText(spec)) + TaskFact(spec);
  text += Fact("Limits", LimitsText(spec));
  text += Fact("Exclusive", fmt::format("{}", fmt::join(spec.exclusive(), ", ")));
  text += Fact("Paused", PausedText(json, style.now));
  text += Fact("Runs", fmt::format("{} running, {} queued", job.running(), job.queued()));
  text += NextRunsText(spec, job, style);
  if (last.empty()) return text;
  Json runs = Json::array();
  for (const v1::Run& run : last) runs.push_back(ToJson(run));
  return text + "\n" + TableOf(*FindKind("runs"), runs, style);
}

}  // namespace muster::ctl
