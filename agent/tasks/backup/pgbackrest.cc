#include "agent/tasks/backup/pgbackrest.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "agent/tasks/backup/filling.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"

namespace muster::agent::backup {
namespace {

constexpr char kProgram[] = "/usr/bin/pgbackrest";
// Of one list of the archive, which has about 150 bytes for each segment.
constexpr size_t kMostList = 256 << 20;
constexpr std::string_view kNewLabel = "new backup label = ";
// What removes backups is muster's keep; the program warns where none of its own rules is set.
constexpr char kKeepAll[] = "9999999";

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

const char* TypeName(v1::PgBackRestType type) {
  switch (type) {
    case v1::PG_BACK_REST_TYPE_DIFFERENTIAL: return "diff";
    case v1::PG_BACK_REST_TYPE_INCREMENTAL: return "incr";
    default: return "full";
  }
}

// "ERROR: [055]: unable to …" is "unable to …".
std::string_view Bare(std::string_view words) {
  if (!words.starts_with("ERROR: [")) return words;
  const size_t end = words.find("]: ");
  return end == std::string_view::npos ? words : words.substr(end + 3);
}

// A write that was cut short has no error number, and only a full disk cuts one short.
bool FullDisk(const ToolEnd& end) {
  const bool cut_short = end.exit_code == 64 && !Has(Bare(end.last_words), ": [");
  return cut_short || Has(end.err, "No space left on device");
}

bool IsPlain(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("/._-+@").find(c) != std::string_view::npos;
}

}  // namespace

Status CheckPlain(const std::string& path) {
  if (path.starts_with('/') && std::all_of(path.begin(), path.end(), IsPlain)) return OkStatus();
  return InvalidArgument(
      "the path {} becomes part of a restore_command, which a shell reads: choose one of letters, "
      "digits and / . _ - + @",
      OneLine(path));
}

Status PgBackRest::Check(const v1::PgBackRestSource& spec, const Policy& policy) {
  if (spec.stanza().starts_with('-') || !wire::IsRepositoryId(spec.stanza() + ":1")) {
    return InvalidArgument("\"{}\" is no stanza's name", OneLine(spec.stanza()));
  }
  MUSTER_RETURN_IF_ERROR(CheckPlain(spec.config_file()));
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.config_file()));
  return FindProgram("pgbackrest", "pgbackrest").status();
}

std::string PgBackRest::place() const {
  return fmt::format("stanza {} of {}, repository {}", spec_.stanza(), spec_.config_file(),
                     std::max(1U, spec_.repository()));
}

std::vector<std::string> PgBackRest::Argv(const std::string& command, bool of_repository) const {
  std::vector<std::string> argv = {kProgram,
                                   command,
                                   "--config=" + spec_.config_file(),
                                   "--stanza=" + spec_.stanza(),
                                   "--log-level-console=off",
                                   "--log-level-stderr=warn"};
  if (of_repository) argv.push_back(fmt::format("--repo={}", std::max(1U, spec_.repository())));
  return argv;
}

// "--repo2-retention-full"
std::string PgBackRest::Indexed(std::string_view option) const {
  return fmt::format("--repo{}-{}", std::max(1U, spec_.repository()), option);
}

StatusOr<ToolEnd> PgBackRest::Run(TaskContext& context, ProgramRequest request) const {
  request.argv = user_->As(std::move(request.argv));
  return RunTool(context, std::move(request));
}

StatusOr<ToolEnd> PgBackRest::RunWell(TaskContext& context, ProgramRequest request) const {
  MUSTER_ASSIGN_OR_RETURN(ToolEnd end, Run(context, std::move(request)));
  if (end.exit_code != 0) return Explain(end);
  return end;
}

// By the exit codes that the program documents, and its words.
Status PgBackRest::Explain(const ToolEnd& end) const {
  const std::string words(Truncate(CleanText(Bare(end.last_words)), 300));
  if (FullDisk(end)) {
    return ResourceExhausted("pgBackRest's disk is full: {}: make room, or keep fewer backups",
                             words);
  }
  if (end.exit_code == 50) {
    return Unavailable(
        "another pgbackrest is at work on stanza {}: wait until it is done (pgbackrest info says "
        "so): {}",
        spec_.stanza(), words);
  }
  if (end.exit_code == 27 || end.exit_code == 56) {
    return Unavailable(
        "pgBackRest does not reach the server: {}: start it, and see to pg1-path, pg1-port and "
        "pg1-socket-path in {}",
        words, spec_.config_file());
  }
  const std::string push =
      fmt::format("archive_command = 'pgbackrest --config={} --stanza={} archive-push %p'",
                  spec_.config_file(), spec_.stanza());
  if (end.exit_code == 68 || end.exit_code == 87) {
    return FailedPrecondition(
        "the server does not archive its log: {}: set archive_mode = on and {}", words, push);
  }
  if (end.exit_code == 82) {
    return FailedPrecondition(
        "the server's archive_command fails: {}: see the server's log and pg_stat_archiver, and "
        "whether its user may write to the repository and has room there; it must be {}",
        words, push);
  }
  if (Has(end.err, "Permission denied")) {
    return PermissionDenied("pgBackRest may not: {}: let the user that runs it do so", words);
  }
  if (Has(end.err, "FormatError") || end.exit_code == 29 || end.exit_code == 95) {
    return PermissionDenied(
        "what pgBackRest keeps of stanza {} cannot be decrypted, or is damaged: repo-cipher-pass "
        "and repo-cipher-type in {} must be what the repository was made with",
        spec_.stanza(), spec_.config_file());
  }
  if (end.exit_code == 55 && Has(end.err, spec_.config_file())) {
    return NotFound("there is no {} on this host: correct config_file", spec_.config_file());
  }
  if (end.exit_code == 55 && Has(end.err, ".info")) {
    return NotFound(
        "pgBackRest's repository has no stanza {}: is its disk mounted? If it is new, run "
        "pgbackrest --config={} --stanza={} stanza-create: {}",
        spec_.stanza(), spec_.config_file(), spec_.stanza(), words);
  }
  if (words.empty()) return ToolFailed({.argv = {kProgram}}, end);
  return Unavailable("pgbackrest: exit code {}: {}", end.exit_code, words);
}

Status PgBackRest::Open(TaskContext& context) {
  // Links may have moved since the task was made.
  MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.config_file()));
  MUSTER_ASSIGN_OR_RETURN(user_, ServerUser::Find(user_name(), "pgbackrest.user"));
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd version,
                          RunToolWell(context, {.argv = {kProgram, "version"}, .file = {}}));
  version_ = OneLine(Truncate(Trim(version.out), 64));
  return Look(context);
}

Status PgBackRest::Look(TaskContext& context) {
  ProgramRequest request;
  request.argv = Argv("info");
  request.argv.emplace_back("--output=json");
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, RunWell(context, std::move(request)));
  MUSTER_ASSIGN_OR_RETURN(
      info_, ReadStanzaInfo(end.out, spec_.stanza(), std::max(1U, spec_.repository())));
  return OkStatus();
}

Status PgBackRest::CheckArchiving(TaskContext& context) {
  return RunWell(context, {.argv = Argv("check", /*of_repository=*/false), .file = {}}).status();
}

StatusOr<std::string> PgBackRest::Backup(TaskContext& context, v1::PgBackRestType type) {
  ProgramRequest request;
  request.argv = Argv("backup");
  for (std::string option :
       {fmt::format("--type={}", TypeName(type)),
        fmt::format("--process-max={}", std::max(1U, spec_.parallel())),
        "--annotation=muster-job=" + context.job(), "--annotation=muster-run=" + context.run_id(),
        std::string("--no-expire-auto"), fmt::format("{}={}", Indexed("retention-full"), kKeepAll),
        std::string("--log-level-console=info")}) {
    request.argv.push_back(std::move(option));
  }
  // One option, once.
  std::erase(request.argv, "--log-level-console=off");
  std::string said;
  request.on_out = [&](std::string_view bytes) {
    context.Output(v1::RunOutput::STREAM_STDOUT, bytes);
    said += bytes;
    if (said.size() > 64 << 10) said.erase(0, said.size() - (32 << 10));
  };
  MUSTER_RETURN_IF_ERROR(RunWell(context, std::move(request)).status());
  const size_t at = said.rfind(kNewLabel);
  if (at == std::string::npos) {
    return DataLoss("pgbackrest ended well and named no new backup: see the output of this run");
  }
  const std::string_view rest = std::string_view(said).substr(at + kNewLabel.size());
  return std::string(Trim(rest.substr(0, rest.find('\n'))));
}

StatusOr<WalArchive> PgBackRest::Archive(TaskContext& context, const std::string& archive_id) {
  ProgramRequest request;
  request.argv = Argv("repo-ls");
  request.argv.insert(request.argv.end(),
                      {"--recurse", "--output=json", "archive/" + spec_.stanza()});
  std::string list;
  request.on_out = [&](std::string_view bytes) {
    list += bytes.substr(0, kMostList - std::min(kMostList, list.size()));
  };
  MUSTER_RETURN_IF_ERROR(RunWell(context, std::move(request)).status());
  return WalArchive::Read(list, archive_id);
}

Status PgBackRest::Verify(TaskContext& context, const StanzaBackup& backup, uint64_t& files) {
  ProgramRequest request;
  request.argv = Argv("verify");
  std::erase(request.argv, "--log-level-stderr=warn");
  for (const char* option : {"--output=text", "--verbose", "--log-level-stderr=info"})
    request.argv.emplace_back(option);
  request.argv.push_back(fmt::format("--process-max={}", std::max(1U, spec_.parallel())));
  std::string log;
  request.on_err = [&](std::string_view bytes) {
    log += bytes.substr(0, (1 << 20) - std::min<size_t>(1 << 20, log.size()));
  };
  // It ends with 0 whatever it finds.
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, RunWell(context, std::move(request)));
  return ReadVerified(end.out, log, backup, info_.ArchiveOf(backup), files);
}

StatusOr<std::vector<std::string>> PgBackRest::Tablespaces(TaskContext& context,
                                                           const std::string& label) {
  ProgramRequest request;
  request.argv = Argv("info");
  request.argv.insert(request.argv.end(), {"--output=json", "--set=" + label});
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, RunWell(context, std::move(request)));
  const auto all = nlohmann::json::parse(end.out, nullptr, /*allow_exceptions=*/false);
  std::vector<std::string> names;
  if (!all.is_array()) return Unavailable("what pgbackrest info writes cannot be read");
  for (const auto& stanza : all) {
    for (const auto& backup : stanza.value("backup", nlohmann::json::array())) {
      const auto found = backup.find("tablespace");
      if (found == backup.end() || !found->is_array()) continue;
      for (const auto& one : *found) names.push_back(one.value("name", std::string("?")));
    }
  }
  return names;
}

Status PgBackRest::Restore(TaskContext& context, const RestoreRequest& ask) {
  ProgramRequest request;
  request.argv = Argv("restore");
  request.argv.insert(request.argv.end(),
                      {"--set=" + ask.label, "--pg1-path=" + ask.folder,
                       fmt::format("--process-max={}", std::max(1U, spec_.parallel())),
                       "--target-action=promote", "--archive-mode=off"});
  if (!ask.tablespaces.empty()) request.argv.push_back("--tablespace-map-all=" + ask.tablespaces);
  if (ask.target_time) {
    request.argv.emplace_back("--type=time");
    request.argv.push_back("--target=" + absl::FormatTime("%Y-%m-%d %H:%M:%E6S+00",
                                                          *ask.target_time, absl::UTCTimeZone()));
  } else {
    request.argv.emplace_back("--type=immediate");
  }
  request.watch = TellFilling(context, ask.folder, ask.bytes, "restoring", ask.watch);
  MUSTER_ASSIGN_OR_RETURN(const ToolEnd end, Run(context, std::move(request)));
  if (end.exit_code == 0) return OkStatus();
  // That is the folder's disk, not the repository's.
  if (FullDisk(end)) {
    return ResourceExhausted("the disk of {} is full: make room, or choose another", ask.folder);
  }
  // Its own words, where bytes are not those that were stored.
  if (end.exit_code == 26 || Has(end.err, "does not match") || Has(end.err, "zlib threw error")) {
    return DataLoss("the backup {} is damaged: {}: take a full backup now", ask.label,
                    Truncate(CleanText(Bare(end.last_words)), 300));
  }
  return Explain(end);
}

Status PgBackRest::FetchSegment(TaskContext& context, const std::string& data,
                                const std::string& name, const std::string& path) {
  ProgramRequest request;
  request.argv = Argv("archive-get");
  request.argv.insert(request.argv.end(), {"--pg1-path=" + data, "--archive-async=n", name, path});
  return RunWell(context, std::move(request)).status();
}

std::string PgBackRest::RestoreCommand(const std::string& data) const {
  return fmt::format(
      "{} --config={} --stanza={} --repo={} --pg1-path={} --archive-async=n "
      "--log-level-console=off "
      "--log-level-stderr=warn archive-get %f \"%p\"",
      kProgram, spec_.config_file(), spec_.stanza(), std::max(1U, spec_.repository()), data);
}

Status PgBackRest::Expire(TaskContext& context, const std::string& label) {
  const auto left = std::count_if(
      info_.backups.begin(), info_.backups.end(),
      [&](const StanzaBackup& one) { return one.type == "full" && one.label != label; });
  ProgramRequest request;
  request.argv = Argv("expire");
  request.argv.insert(
      request.argv.end(),
      {"--set=" + label, fmt::format("{}={}", Indexed("retention-full"), kKeepAll),
       Indexed("retention-archive-type=full"),
       fmt::format("{}={}", Indexed("retention-archive"), std::max<long>(1, left))});
  return RunWell(context, std::move(request)).status();
}

}  // namespace muster::agent::backup
