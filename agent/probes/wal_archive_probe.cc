#include "agent/probes/wal_archive_probe.h"

// pg_stat_archiver alone is not believed: it counts what archive_command says that it did.
#include <algorithm>
#include <optional>

#include <pwd.h>
#include <unistd.h>

#include "agent/probes/pg_session.h"
#include "agent/probes/pgbackrest_info.h"
#include "agent/probes/report.h"
#include "agent/probes/run_program.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr char kProgram[] = "/usr/bin/pgbackrest";
constexpr size_t kMostList = 128 << 20;
// Several at once may come in another order: a gap is one when what is behind it came so long ago.
constexpr absl::Duration kSettled = absl::Seconds(15);
constexpr size_t kMostNamed = 3;

// The last finished segment is the one before that of the position.
constexpr char kServerSql[] =
    "select system_identifier, pg_is_in_recovery(), current_setting('archive_mode'), "
    "case when pg_is_in_recovery() then 0 else pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') end, "
    "(select setting from pg_settings where name = 'wal_segment_size'), "
    "last_failed_time is not null and (last_archived_time is null or last_failed_time > "
    "last_archived_time), coalesce(last_failed_wal, '') from pg_control_system(), pg_stat_archiver";

struct Server {
  std::string system_identifier;
  bool standby = false;
  std::string archive_mode;
  uint64_t position = 0;  // in the log, in bytes
  uint64_t segment_size = 0;
  bool fails = false;
  std::string failed;
};

// Root runs nothing of somebody else's configuration.
StatusOr<std::vector<std::string>> As(const std::string& name, std::vector<std::string> argv) {
  if (geteuid() != 0) return argv;
  std::vector<char> buffer(16 << 10);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr || found->pw_uid == 0) {
    return InvalidArgument("there is no user {} on this host that could run pgbackrest: set user",
                           name);
  }
  std::vector<std::string> all = {"/usr/bin/setpriv", fmt::format("--reuid={}", found->pw_uid),
                                  fmt::format("--regid={}", found->pw_gid), "--init-groups",
                                  "--no-new-privs"};
  all.insert(all.end(), argv.begin(), argv.end());
  return all;
}

class WalArchiveProbe final : public Probe {
 public:
  WalArchiveProbe(v1::WalArchiveProbe spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    if (access(kProgram, X_OK) != 0) {
      return report.Unknown(
          fmt::format("there is no {} on this host: run apt-get install pgbackrest", kProgram));
    }
    const StatusOr<ProbeResult> result = Look(context, report);
    if (result.ok()) return *result;
    // That nobody can read it is wrong with the archive, not with the probe.
    if (absl::IsPermissionDenied(result.status()) && asked_) {
      return report.Critical(OneLine(Message(result.status())));
    }
    return report.Failed(result.status());
  }

 private:
  uint32_t repository() const { return std::max(1U, spec_.repository()); }

  StatusOr<ProbeResult> Look(const ProbeContext& context, Report& report) {
    asked_ = false;
    // Links may have moved since the probe was made.
    MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.config_file()));
    std::optional<Server> server;
    if (spec_.has_connection() || !spec_.dsn().empty()) {
      report.Begin("server", "asking the server");
      MUSTER_ASSIGN_OR_RETURN(server, AskServer(context, report));
    }
    report.Begin("info", "asking pgbackrest for the stanza");
    MUSTER_ASSIGN_OR_RETURN(const std::string text,
                            Ask({"info", "--output=json"}, context, report));
    MUSTER_ASSIGN_OR_RETURN(const StanzaInfo info,
                            ReadStanzaInfo(text, spec_.stanza(), repository()));
    report.Begin("archive", "listing the archive");
    MUSTER_ASSIGN_OR_RETURN(const std::string list, Ask({"repo-ls", "--recurse", "--output=json",
                                                         "archive/" + spec_.stanza()},
                                                        context, report));
    MUSTER_ASSIGN_OR_RETURN(
        const WalArchive archive,
        WalArchive::Read(list, info.archive_id, server ? server->segment_size : 0));
    return Judge(context, report, info, archive, server);
  }

  StatusOr<std::string> Ask(std::vector<std::string> words, const ProbeContext& context,
                            Report& report) {
    asked_ = true;
    std::vector<std::string> argv = {kProgram};
    argv.insert(argv.end(), words.begin(), words.end());
    for (const std::string& option :
         {"--config=" + spec_.config_file(), "--stanza=" + spec_.stanza(),
          fmt::format("--repo={}", repository()), std::string("--log-level-console=off"),
          std::string("--log-level-stderr=warn"), std::string("--log-level-file=off")}) {
      argv.push_back(option);
    }
    report.Sent(fmt::format("{}", fmt::join(argv, " ")));
    const std::string& user = spec_.user();
    MUSTER_ASSIGN_OR_RETURN(argv, As(user.empty() ? "postgres" : user, std::move(argv)));
    MUSTER_ASSIGN_OR_RETURN(ProgramEnd end, RunToEnd(argv, context, {.most_output = kMostList}));
    if (end.timed_out) return DeadlineExceeded("pgbackrest did not end in time");
    if (end.exit_code == 0) return std::move(end.output);
    const std::string words_of = OneLine(Truncate(CleanText(Trim(end.errors)), 300));
    report.Received(words_of);
    return Unavailable("pgbackrest {}: exit code {}: {}", words[0], end.exit_code, words_of);
  }

  StatusOr<Server> AskServer(const ProbeContext& context, Report& report) {
    std::unique_ptr<PgSession> session;
    if (spec_.has_connection()) {
      MUSTER_ASSIGN_OR_RETURN(const Secret dsn, policy_.ReadSecret(spec_.connection().secret()));
      MUSTER_ASSIGN_OR_RETURN(session, PgSession::Open(dsn.Reveal(), policy_, context, report));
    } else {
      MUSTER_ASSIGN_OR_RETURN(session, PgSession::Open(spec_.dsn(), policy_, context, report));
    }
    report.Sent(kServerSql);
    MUSTER_ASSIGN_OR_RETURN(const PgRows rows, session->Query(kServerSql, context));
    if (rows.empty()) return Unavailable("the statement gave no row");
    report.Received(fmt::format("{}", fmt::join(rows.rows[0], " | ")));
    return Server{rows.at(0, 0),
                  rows.at(0, 1) == "t",
                  rows.at(0, 2),
                  LeadingNumber(rows.at(0, 3)),
                  LeadingNumber(rows.at(0, 4)),
                  rows.at(0, 5) == "t",
                  rows.at(0, 6)};
  }

  // The worst first; what is measured is measured whatever is wrong.
  ProbeResult Judge(const ProbeContext& context, Report& report, const StanzaInfo& info,
                    const WalArchive& archive, const std::optional<Server>& server) const {
    const absl::Time now = context.clock.Now();
    const StanzaBackup* oldest = nullptr;
    const StanzaBackup* newest = nullptr;
    for (const StanzaBackup& backup : info.backups) {
      if (info.server() == nullptr || backup.database != info.server()->id) continue;
      if (oldest == nullptr) oldest = &backup;
      newest = &backup;
    }
    uint64_t missing = 0;
    const std::string gaps = oldest == nullptr ? "" : GapsSince(archive, *oldest, now, missing);
    const uint64_t behind = server ? Behind(*server, archive) : 0;
    if (!archive.empty()) {
      report.AddMetric("newest_segment_age",
                       absl::ToDoubleSeconds(now - archive.TimeOf(archive.newest())), "s");
    }
    if (server) report.AddMetric("behind_segments", static_cast<double>(behind), "");
    report.AddMetric("missing_segments", static_cast<double>(missing), "");
    if (newest != nullptr)
      report.AddMetric("backup_age", absl::ToDoubleSeconds(now - newest->stop), "s");

    if (server && server->system_identifier !=
                      (info.server() == nullptr ? "" : info.server()->system_identifier)) {
      return report.Critical(
          "the server is not the one that the stanza is of: run pgbackrest stanza-upgrade if it "
          "was "
          "upgraded, or correct the connection");
    }
    if (missing > 0) {
      return report.Critical(fmt::format(
          "{} segments are missing in the archive: {}; no moment behind them can be reached from a "
          "backup before them: take a full backup now",
          missing, gaps));
    }
    if (server && !server->standby && server->archive_mode == "off")
      return report.Critical("archiving is switched off (archive_mode)");
    if (server && server->fails) {
      return report.Critical(fmt::format(
          "archive_command fails: the last attempt to archive {} failed; see the server's log",
          server->failed));
    }
    return JudgeAges(report, behind, newest, now);
  }

  ProbeResult JudgeAges(Report& report, uint64_t behind, const StanzaBackup* newest,
                        absl::Time now) const {
    const uint64_t critical = spec_.behind_critical() == 0 ? 64 : spec_.behind_critical();
    const uint64_t warning = spec_.behind_warning() == 0 ? 4 : spec_.behind_warning();
    const std::string late = fmt::format("the archive is {} segments behind the server", behind);
    if (behind >= critical) return report.Critical(late);
    if (newest == nullptr) {
      return report.Critical("there is no backup that the log could be applied to: take one");
    }
    if (spec_.has_backup_within() && now - newest->stop > wire::FromProto(spec_.backup_within())) {
      return report.Critical(fmt::format("the newest backup, {}, is older than {}", newest->label,
                                         DurationText(wire::FromProto(spec_.backup_within()))));
    }
    if (behind >= warning) return report.Warning(late);
    return report.Ok("the archive is whole and keeps up");
  }

  // Of the log since the backup, in words; those that may still come are left out.
  static std::string GapsSince(const WalArchive& archive, const StanzaBackup& backup,
                               absl::Time now, uint64_t& missing) {
    const auto first = archive.Parse(backup.first_segment);
    if (!first) return "";
    std::vector<std::string> named;
    const std::vector<WalArchive::Gap> gaps = archive.GapsFrom(*first);
    for (const WalArchive::Gap& gap : gaps) {
      if (now - archive.TimeBehind(gap) < kSettled) continue;
      missing += gap.size();
      if (named.size() < kMostNamed) named.push_back(archive.GapText(gap));
    }
    // Not even the backup's own.
    if (const auto last = archive.Parse(backup.last_segment); last && !archive.LeadsTo(*first)) {
      if (missing == 0 && archive.MissingOf(*first, *last)) {
        missing = 1;
        named.push_back(archive.Name(*archive.MissingOf(*first, *last)));
      }
    }
    return fmt::format("{}{}", fmt::join(named, ", "), gaps.size() > named.size() ? ", …" : "");
  }

  // Segments that the server has finished since the newest one in the archive.
  static uint64_t Behind(const Server& server, const WalArchive& archive) {
    if (server.standby || server.segment_size == 0) return 0;
    const uint64_t finished = server.position / server.segment_size;  // segments before it
    const uint64_t archived = archive.empty() ? 0 : archive.highest() + 1;
    return finished > archived ? finished - archived : 0;
  }

  const v1::WalArchiveProbe spec_;
  const Policy policy_;
  bool asked_ = false;  // pgbackrest was run
};

}  // namespace

ProbeOr MakeWalArchiveProbe(const v1::WalArchiveProbe& spec, const Policy& policy) {
  if (spec.stanza().starts_with('-') || !wire::IsRepositoryId(spec.stanza() + ":1")) {
    return InvalidArgument("\"{}\" is no stanza's name", OneLine(spec.stanza()));
  }
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.config_file()));
  if (spec.has_connection()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.connection().secret()));
  return std::make_unique<WalArchiveProbe>(spec, policy);
}

}  // namespace muster::agent
