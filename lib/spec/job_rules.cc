#include "lib/spec/job_rules.h"

#include <re2/re2.h>

#include "lib/base/cron_parse.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"
#include "lib/spec/fields.h"

namespace muster::spec {
namespace {

constexpr char kSchedule[] = "spec.schedule";
constexpr char kCommand[] = "spec.command";

void CheckCron(const std::string& cron, const std::string& path, const Complain& complain) {
  if (Trim(cron).empty()) return;  // its field's rule has said so
  const Status read = ParseCron(cron).status();
  if (!read.ok()) complain(path, std::string(Message(read)));
}

void CheckTime(const std::string& text, const std::string& path, const Complain& complain) {
  if (Trim(text).empty()) return;
  const StatusOr<absl::Time> time = ParseTime(text);
  const bool usable = time.ok() && *time >= absl::FromUnixSeconds(kEarliestSecond) &&
                      *time < absl::FromUnixSeconds(kLatestSecond);
  if (usable) return;
  complain(path, fmt::format("\"{}\" is not a time; write it as 2026-12-24T02:00:00Z, or with an "
                             "offset as 2026-12-24T03:00:00+01:00",
                             OneLine(text)));
}

bool HasCron(const v1::JobSchedule& schedule) {
  for (const v1::BlackoutWindow& window : schedule.blackouts())
    if (window.has_cron()) return true;
  return schedule.has_cron();
}

void CheckZone(const v1::JobSchedule& schedule, const Complain& complain) {
  const std::string path = std::string(kSchedule) + ".timeZone";
  const Status known = LoadZone(schedule.time_zone()).status();
  if (!known.ok()) return complain(path, std::string(Message(known)));
  if (schedule.time_zone() == "UTC" || HasCron(schedule)) return;
  complain(path, fmt::format("only cron has a time zone; {}",
                             schedule.has_at() ? "write the offset in at: 2026-12-24T03:00:00+01:00"
                                               : "leave it out, or write cron instead of every"));
}

void CheckJitter(const v1::JobSchedule& schedule, const Complain& complain) {
  if (!schedule.has_every() || ToAbsl(schedule.jitter()) <= ToAbsl(schedule.every())) return;
  complain(
      std::string(kSchedule) + ".jitter",
      fmt::format("{} is longer than every ({}), so starts would change their order; write {} "
                  "or less",
                  DurationText(ToAbsl(schedule.jitter())), DurationText(ToAbsl(schedule.every())),
                  DurationText(ToAbsl(schedule.every()))));
}

void CheckBlackouts(const v1::JobSchedule& schedule, const Complain& complain) {
  for (int i = 0; i < schedule.blackouts_size(); ++i) {
    const std::string path = fmt::format("{}.blackouts[{}]", kSchedule, i);
    const v1::BlackoutWindow& window = schedule.blackouts(i);
    if (window.has_cron()) CheckCron(window.cron(), path + ".cron", complain);
    if (window.has_at()) CheckTime(window.at(), path + ".at", complain);
  }
}

void CheckSchedule(const v1::JobSchedule& schedule, const Complain& complain) {
  if (schedule.has_cron()) CheckCron(schedule.cron(), std::string(kSchedule) + ".cron", complain);
  if (schedule.has_at()) CheckTime(schedule.at(), std::string(kSchedule) + ".at", complain);
  CheckZone(schedule, complain);
  CheckJitter(schedule, complain);
  CheckBlackouts(schedule, complain);
}

bool MayBeRepeated(const v1::JobSpec& job) {
  return !job.has_command() || job.command().repeatable();
}

void CheckRetry(const v1::JobSpec& job, const Complain& complain) {
  const v1::JobRetry& retry = job.retry();
  if (retry.attempts() > 1 && !MayBeRepeated(job)) {
    complain("spec.retry.attempts",
             fmt::format("{} attempts, but the command is not said to be repeatable; set "
                         "spec.command.repeatable: true if doing it twice is as good as once, or "
                         "drop retry",
                         retry.attempts()));
  }
  if (ToAbsl(retry.wait()) > ToAbsl(retry.longest_wait())) {
    complain("spec.retry.wait", fmt::format("{} is longer than longestWait ({}); write a "
                                            "longestWait of {} or more",
                                            DurationText(ToAbsl(retry.wait())),
                                            DurationText(ToAbsl(retry.longest_wait())),
                                            DurationText(ToAbsl(retry.wait()))));
  }
}

// muster begins nothing of it, so it promises nothing of when and where it begins.
void CheckReported(const v1::JobSpec& job, const Complain& complain) {
  if (job.retry().attempts() > 1) {
    complain("spec.retry.attempts",
             "a reported job is begun by its host, which alone can try again; leave retry out");
  }
  if (job.exclusive_size() > 0) {
    complain("spec.exclusive",
             "a reported job is begun by its host, which waits for nobody; leave it out");
  }
  if (ToAbsl(job.schedule().jitter()) > absl::ZeroDuration()) {
    complain("spec.schedule.jitter",
             "a reported job is begun by its host; leave it out, and say how late it may be in "
             "catchUp");
  }
  if (job.schedule().overlap() > v1::OVERLAP_POLICY_SKIP) {
    complain("spec.schedule.overlap",
             "a reported job is begun by its host, whatever else runs; leave it out");
  }
}

constexpr char kZeroByte[] = "holds a zero byte, which no program can be given";
bool HasZeroByte(const std::string& text) { return text.find('\0') != std::string::npos; }

void CheckEnvironment(const v1::CommandTask& command, const Complain& complain) {
  static const RE2 name_form("[A-Za-z_][A-Za-z0-9_]*");
  for (const auto& [name, value] : command.environment()) {
    const std::string path = fmt::format("{}.environment.{}", kCommand, name);
    if (!RE2::FullMatch(name, name_form)) {
      complain(path, "is not a name of a variable: letters, digits and _, not first a digit");
    } else if (name.starts_with("MUSTER_")) {
      complain(path, "names that begin with MUSTER_ are muster's own; take another");
    }
    if (HasZeroByte(value)) complain(path, kZeroByte);
  }
}

void CheckCommand(const v1::CommandTask& command, const Complain& complain) {
  const std::string argv = std::string(kCommand) + ".argv";
  if (command.argv_size() > 0 && !command.argv(0).starts_with("/")) {
    complain(argv + "[0]",
             fmt::format("\"{}\" is not an absolute path; write where the program is, such as "
                         "/usr/bin/{}: there is no shell that would look for it",
                         OneLine(command.argv(0)), OneLine(command.argv(0))));
  }
  for (int i = 0; i < command.argv_size(); ++i)
    if (HasZeroByte(command.argv(i))) complain(fmt::format("{}[{}]", argv, i), kZeroByte);
  CheckEnvironment(command, complain);
}

void CheckDsn(const std::string& dsn, const std::string& path, const Complain& complain) {
  const bool uri_with_password = RE2::PartialMatch(dsn, "://[^/@:]*:[^/@]+@");
  if (!uri_with_password && !RE2::PartialMatch(dsn, "(^|[\\s?&])password\\s*=")) return;
  complain(path,
           "must not hold a password; put the whole string in a file of the host and write "
           "connection: {secret: \"file:/etc/muster/secrets/NAME\"}");
}

// Of a task whose backups are either in a repository of restic's or in pgBackRest's own.
template <typename Task>
void CheckPlace(const Task& task, const std::string& path, const Complain& complain) {
  if (task.has_pgbackrest() && task.has_repository()) {
    complain(path + ".repository", "pgbackrest has a repository of its own; leave this one out");
  } else if (!task.has_pgbackrest() && !task.has_repository()) {
    complain(path + ".repository", "is required");
  }
}

void CheckRestore(const v1::RestoreBackupTask& restore, const Complain& complain) {
  const std::string path = "spec.restoreBackup";
  CheckPlace(restore, path, complain);
  CheckDsn(restore.postgres().dsn(), path + ".postgres.dsn", complain);
  if (!restore.target_time().empty() && !restore.has_pgbackrest()) {
    complain(path + ".targetTime", "is for pgbackrest alone; leave it out");
  }
  CheckTime(restore.target_time(), path + ".targetTime", complain);
  if (restore.has_pgbackrest() && restore.has_postgres()) {
    complain(path + ".postgres", "pgbackrest restores a whole server; write folder instead");
  }
}

void CheckBackup(const v1::BackupTask& backup, const Complain& complain) {
  const std::string path = "spec.backup";
  CheckDsn(backup.postgres().dsn(), path + ".postgres.dsn", complain);
  CheckPlace(backup, path, complain);
  const v1::BackupVerify& verify = backup.verify();
  if (verify.queries_size() > 0 && !backup.has_postgres() && !backup.has_pgbackrest()) {
    complain(path + ".verify.queries", "are for postgres and pgbackrest alone; leave them out");
  } else if (verify.queries_size() > 0 && !verify.restore()) {
    complain(path + ".verify.queries", "are asked of what was restored; set verify.restore: true");
  }
  if (!backup.repository().has_path()) return;
  const std::string repository = backup.repository().path() + "/";
  for (int i = 0; i < backup.files().paths_size(); ++i) {
    const std::string& source = backup.files().paths(i);
    if (!repository.starts_with(source.ends_with('/') ? source : source + "/")) continue;
    complain(fmt::format("{}.files.paths[{}]", path, i),
             fmt::format("holds the repository {}, which would grow into itself; exclude it by "
                         "choosing other paths",
                         backup.repository().path()));
  }
}

}  // namespace

void CheckJob(const v1::JobSpec& job, const Complain& complain) {
  if (job.has_schedule()) CheckSchedule(job.schedule(), complain);
  CheckRetry(job, complain);
  if (job.has_command()) CheckCommand(job.command(), complain);
  if (job.has_reported()) CheckReported(job, complain);
  if (job.has_backup()) CheckBackup(job.backup(), complain);
  if (job.has_restore_backup()) CheckRestore(job.restore_backup(), complain);
  if (job.has_verify_backup()) CheckPlace(job.verify_backup(), "spec.verifyBackup", complain);
  if (job.has_forget_backups()) CheckPlace(job.forget_backups(), "spec.forgetBackups", complain);
  if (job.has_list_backups()) CheckPlace(job.list_backups(), "spec.listBackups", complain);
}

}  // namespace muster::spec
