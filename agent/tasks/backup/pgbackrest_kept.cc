// What is done with backups that pgBackRest keeps: restored to a new folder, at their end or at a
// moment since; removed; listed.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/physical_server.h"
#include "agent/tasks/backup/programs.h"
#include "agent/tasks/backup/proof.h"
#include "agent/tasks/backup/wal_end.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

// PostgreSQL recovers to a moment only if a transaction ended after it. Where none did, as far as
// the archive leads, the restored server is to recover to the last record that is there now: it
// must not take in what is archived later.
class MomentEnd {
 public:
  MomentEnd(TaskContext& context, PgBackRest& program, const WalArchive& archive,
            const StanzaBackup& backup, std::string folder)
      : context_(context),
        program_(program),
        archive_(archive),
        backup_(backup),
        folder_(std::move(folder)) {}

  Status See(absl::Time target) {
    const StatusOr<bool> follows = SomethingFollows(target);
    MUSTER_RETURN_IF_ERROR(GoOn(context_));
    if (!follows.ok()) {
      context_.Note(
          fmt::format("could not see whether anything was committed after {}: {}. If PostgreSQL "
                      "says that recovery ended before its target was reached, restore to an "
                      "earlier moment",
                      TimeText(target), Message(follows.status())));
      return OkStatus();
    }
    if (*follows) return OkStatus();
    MUSTER_RETURN_IF_ERROR(RecoverToTheEnd());
    context_.Note(
        fmt::format("nothing was committed after {}, as far as the archive leads: the server "
                    "recovers to its position {}",
                    TimeText(target), end_));
    return OkStatus();
  }

 private:
  // Clocks of the server and of the archive may differ.
  static constexpr absl::Duration kClocks = absl::Minutes(1);

  // From the newest segment back to those that were archived before.
  StatusOr<bool> SomethingFollows(absl::Time target) {
    const auto first = archive_.Parse(backup_.first_segment);
    const auto newest = first ? archive_.LeadsTo(*first) : std::nullopt;
    if (!newest) return DataLoss("the log of the backup is not in the archive");
    MUSTER_RETURN_IF_ERROR(context_.Step("looks for what was committed after " + TimeText(target)));
    for (WalArchive::Segment at = *newest;; --at.number) {
      // What lies before is of another timeline: PostgreSQL looks for the moment itself.
      if (!archive_.Has(at)) return true;
      if (archive_.TimeOf(at) < target - kClocks) return end_.empty();
      MUSTER_ASSIGN_OR_RETURN(const WalEnd end, Read(archive_.Name(at)));
      if (end_.empty()) end_ = end.last_record();
      if (end.last_end()) return *end.last_end() > target;
    }
  }

  StatusOr<WalEnd> Read(const std::string& name) {
    MUSTER_ASSIGN_OR_RETURN(const int major, DataVersion(folder_));
    MUSTER_ASSIGN_OR_RETURN(const std::string programs,
                            FindPostgres(major, "pg_waldump", "postgresql"));
    const std::string path = folder_ + "/pg_wal/" + name;
    MUSTER_RETURN_IF_ERROR(program_.FetchSegment(context_, folder_, name, path));
    WalEnd end;
    ProgramRequest request;
    request.argv = program_.user().As({programs + "/pg_waldump", path});
    request.environment["TZ"] = "UTC";
    request.on_out = [&end](std::string_view bytes) { end.Take(bytes); };
    // It ends badly wherever the log ends.
    request.on_err = [](std::string_view) {};
    const Status ran = RunTool(context_, std::move(request)).status();
    unlink(path.c_str());
    MUSTER_RETURN_IF_ERROR(ran);
    // Whatever it could have said is not known then, and an older segment does not say it.
    if (end.last_record().empty()) return DataLoss("pg_waldump finds no record in {}", name);
    return end;
  }

  // If it fails the settings may be half written, and the folder is no server.
  Status RecoverToTheEnd() const {
    const std::string path = folder_ + "/postgresql.auto.conf";
    MUSTER_ASSIGN_OR_RETURN(const std::string settings, ReadFile(path));
    const std::optional<std::string> changed = RecoverToRecord(settings, end_);
    if (!changed) return DataLoss("{} names no moment", path);
    // In place: it is the server's user's.
    std::ofstream file(path, std::ios::trunc);
    file << *changed;
    file.close();
    return file ? OkStatus() : Unavailable("cannot write {}", path);
  }

  TaskContext& context_;
  PgBackRest& program_;
  const WalArchive& archive_;
  const StanzaBackup& backup_;
  const std::string folder_;
  std::string end_;  // the last record of the archive
};

class PgBackRestRestore final : public Task {
 public:
  PgBackRestRestore(v1::RestoreBackupTask spec, std::optional<absl::Time> target, Policy policy)
      : spec_(std::move(spec)), target_(target), policy_(std::move(policy)) {}

  std::string What() const override {
    return OneLine(fmt::format("a restore of the backup {} to {}{}", spec_.backup().snapshot_id(),
                               spec_.folder(), Moment()));
  }

  TaskEnd Run(TaskContext& context) override {
    std::string next;
    const Status status = Run(context, next);
    return EndOf(context, status, std::move(next));
  }

 private:
  std::string Moment() const { return target_ ? ", as of " + TimeText(*target_) : ""; }

  Status Run(TaskContext& context, std::string& done) const {
    const absl::Duration began = context.clock().Uptime();
    MUSTER_RETURN_IF_ERROR(CheckNewFolder(spec_.folder()));
    MUSTER_ASSIGN_OR_RETURN(const auto workspace, OpenWorkspace(context, spec_.staging()));
    PgBackRest program(spec_.pgbackrest(), policy_);
    MUSTER_RETURN_IF_ERROR(program.Open(context));
    MUSTER_ASSIGN_OR_RETURN(const StanzaBackup* backup,
                            FindListed(program, spec_.backup().snapshot_id()));
    MUSTER_RETURN_IF_ERROR(CheckTablespaces(context, program, *backup));
    MUSTER_ASSIGN_OR_RETURN(const WalArchive archive,
                            program.Archive(context, program.info().ArchiveOf(*backup)));
    MUSTER_RETURN_IF_ERROR(CheckMoment(archive, *backup));
    MUSTER_RETURN_IF_ERROR(Write(context, program, archive, *backup));
    MUSTER_RETURN_IF_ERROR(Tell(context, program, *backup, context.clock().Uptime() - began));
    done = Next(program, *backup);
    return OkStatus();
  }

  // pgBackRest would write them to where they were, which may be where they are.
  static Status CheckTablespaces(TaskContext& context, PgBackRest& program,
                                 const StanzaBackup& backup) {
    MUSTER_ASSIGN_OR_RETURN(const auto names, program.Tablespaces(context, backup.label));
    if (names.empty()) return OkStatus();
    return FailedPrecondition(
        "the backup has the tablespaces {} outside of the server's folder: choose a place for "
        "each, "
        "and run pgbackrest restore --set={} with --tablespace-map for each, as the runbook says",
        fmt::format("{}", fmt::join(names, ", ")), backup.label);
  }

  Status CheckMoment(const WalArchive& archive, const StanzaBackup& backup) const {
    MUSTER_ASSIGN_OR_RETURN(const absl::Time until, RecoverableUntil(archive, backup));
    if (!target_ || (*target_ >= backup.stop && *target_ <= until)) return OkStatus();
    const char* remedy = *target_ < backup.stop ? "choose an older backup for an earlier moment"
                                                : "what came later is not in the archive";
    return FailedPrecondition("the backup {} leads to moments from {} to {}, and not to {}: {}",
                              backup.label, TimeText(backup.stop), TimeText(until),
                              TimeText(*target_), remedy);
  }

  // What was written when it fails is removed: half a server must not be taken for one.
  Status Write(TaskContext& context, PgBackRest& program, const WalArchive& archive,
               const StanzaBackup& backup) const {
    // Links may have moved since the task was made.
    MUSTER_RETURN_IF_ERROR(policy_.AllowPath(spec_.folder()));
    MUSTER_RETURN_IF_ERROR(context.Step("restores the backup into " + spec_.folder()));
    MUSTER_RETURN_IF_ERROR(MakeFolder(spec_.folder()));
    Status written = Fill(context, program, backup);
    if (written.ok() && target_) {
      written = MomentEnd(context, program, archive, backup, spec_.folder()).See(*target_);
    }
    if (written.ok()) return written;
    std::error_code error;
    std::filesystem::remove_all(spec_.folder(), error);
    return written;
  }

  Status Fill(TaskContext& context, PgBackRest& program, const StanzaBackup& backup) const {
    if (chmod(spec_.folder().c_str(), 0700) != 0) {
      return Unavailable("chmod {}: {}", spec_.folder(), std::strerror(errno));
    }
    MUSTER_RETURN_IF_ERROR(program.user().Own(spec_.folder()));
    MUSTER_ASSIGN_OR_RETURN(const uint64_t free, FreeBytes(spec_.folder()));
    if (free < backup.bytes) {
      return ResourceExhausted("{} has {} free, and the backup takes {}", spec_.folder(),
                               BytesText(free), BytesText(backup.bytes));
    }
    return program.Restore(context, {.label = backup.label,
                                     .folder = spec_.folder(),
                                     .tablespaces = "",
                                     .target_time = target_,
                                     .bytes = backup.bytes,
                                     .watch = {}});
  }

  Status Tell(TaskContext& context, const PgBackRest& program, const StanzaBackup& backup,
              absl::Duration took) const {
    MUSTER_ASSIGN_OR_RETURN(const v1::Backup record, RecordOf(program, backup));
    v1::RunArtifact artifact;
    v1::Restore& restore = *artifact.mutable_restore();
    restore.set_repository_id(record.repository_id());
    restore.set_snapshot_id(backup.label);
    restore.set_target(OneLine(spec_.folder() + Moment()));
    restore.set_bytes(backup.bytes);
    *restore.mutable_took() = wire::ToProto(took);
    context.Artifact(std::move(artifact));
    return OkStatus();
  }

  std::string Next(const PgBackRest& program, const StanzaBackup& backup) const {
    const StanzaServer* server = program.info().ServerOf(backup);
    return OneLine(fmt::format(
        "restored {} to {}{}; see to its configuration, then start it as {}: {}/{}/bin/pg_ctl -D "
        "{} start. It recovers first, and archives nothing until archive_mode is reset",
        BytesText(backup.bytes), spec_.folder(), Moment(), program.user_name(), kPostgresPrograms,
        server == nullptr ? "VERSION" : server->version, spec_.folder()));
  }

  const v1::RestoreBackupTask spec_;
  const std::optional<absl::Time> target_;
  const Policy policy_;
};

class PgBackRestForget final : public Task {
 public:
  PgBackRestForget(v1::ForgetBackupsTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return fmt::format("removes {} backups of stanza {}", spec_.snapshot_ids_size(),
                       spec_.pgbackrest().stanza());
  }

  TaskEnd Run(TaskContext& context) override {
    return EndOf(context, Forget(context),
                 fmt::format("removed {} backups", spec_.snapshot_ids_size()));
  }

 private:
  bool Named(std::string_view label) const {
    const auto& ids = spec_.snapshot_ids();
    return std::find(ids.begin(), ids.end(), label) != ids.end();
  }

  Status Forget(TaskContext& context) const {
    PgBackRest program(spec_.pgbackrest(), policy_);
    MUSTER_RETURN_IF_ERROR(program.Open(context));
    MUSTER_RETURN_IF_ERROR(CheckChains(program.info()));
    MUSTER_RETURN_IF_ERROR(context.Step("removes backups from " + program.place()));
    std::vector<std::string> labels;
    for (const StanzaBackup& backup : program.info().backups)
      if (Named(backup.label)) labels.push_back(backup.label);
    // Those that need others first.
    std::sort(labels.rbegin(), labels.rend());
    Status removed;
    for (const std::string& label : labels) {
      removed = program.Expire(context, label);
      if (!removed.ok()) break;
      removed = program.Look(context);
      if (!removed.ok()) break;
    }
    const Status told = TellGone(context, program);
    return removed.ok() ? told : removed;
  }

  // To remove a backup removes those that need it, too.
  Status CheckChains(const StanzaInfo& info) const {
    for (const StanzaBackup& backup : info.backups) {
      if (Named(backup.label)) continue;
      for (const std::string& needed : backup.references) {
        if (!Named(needed)) continue;
        return FailedPrecondition(
            "the backup {} is not to be removed, and it needs {}: nothing was removed",
            backup.label, needed);
      }
    }
    return OkStatus();
  }

  // What pgBackRest says is not enough: they must not be listed any more.
  Status TellGone(TaskContext& context, PgBackRest& program) const {
    MUSTER_RETURN_IF_ERROR(program.Look(context));
    const StanzaServer* server = program.info().server();
    if (server == nullptr) return Unavailable("pgBackRest does not say of which server it is");
    v1::RunArtifact artifact;
    v1::BackupsForgotten& forgotten = *artifact.mutable_forgotten();
    forgotten.set_repository_id(program.info().RepositoryId(*server));
    for (const std::string& label : spec_.snapshot_ids())
      if (program.info().Find(label) == nullptr) forgotten.add_snapshot_ids(label);
    const int left = spec_.snapshot_ids_size() - forgotten.snapshot_ids_size();
    context.Artifact(std::move(artifact));
    if (left == 0) return OkStatus();
    return Unavailable("{} backups are still in {}", left, program.place());
  }

  const v1::ForgetBackupsTask spec_;
  const Policy policy_;
};

class PgBackRestList final : public Task {
 public:
  PgBackRestList(v1::ListBackupsTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return "lists the backups of stanza " + spec_.pgbackrest().stanza();
  }

  TaskEnd Run(TaskContext& context) override {
    size_t told = 0;
    const Status status = List(context, told);
    return EndOf(context, status,
                 fmt::format("{} backups of stanza {}", told, spec_.pgbackrest().stanza()));
  }

 private:
  // Those that others took as well: they are of the same chains.
  Status List(TaskContext& context, size_t& told) const {
    PgBackRest program(spec_.pgbackrest(), policy_);
    MUSTER_RETURN_IF_ERROR(program.Open(context));
    for (const StanzaBackup& backup : program.info().backups) {
      const bool of_another =
          !spec_.job().empty() && !backup.job.empty() && backup.job != spec_.job();
      if (of_another) continue;
      MUSTER_ASSIGN_OR_RETURN(v1::Backup record, RecordOf(program, backup));
      record.set_made_by_job(backup.job);
      record.set_made_by_run(backup.run);
      record.set_proof(v1::BACKUP_PROOF_TAKEN);
      if (backup.has_errors) record.set_problem("pgBackRest found pages with a wrong checksum");
      backup::Tell(context, record);
      ++told;
    }
    return OkStatus();
  }

  const v1::ListBackupsTask spec_;
  const Policy policy_;
};

}  // namespace

TaskOr MakePgBackRestRestore(const v1::RestoreBackupTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(PgBackRest::Check(spec.pgbackrest(), policy));
  if (!spec.has_folder()) {
    return InvalidArgument("a whole server is restored to a folder: say which, with --folder");
  }
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.folder()));
  MUSTER_RETURN_IF_ERROR(CheckPlain(spec.folder()));
  std::optional<absl::Time> target;
  if (!spec.target_time().empty()) {
    MUSTER_ASSIGN_OR_RETURN(target, ParseTime(spec.target_time()));
  }
  return std::make_unique<PgBackRestRestore>(spec, target, policy);
}

TaskOr MakePgBackRestForget(const v1::ForgetBackupsTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(PgBackRest::Check(spec.pgbackrest(), policy));
  for (const std::string& id : spec.snapshot_ids()) {
    if (!wire::IsBackupLabel(id)) return InvalidArgument("'{}' is no label of pgBackRest", id);
  }
  return std::make_unique<PgBackRestForget>(spec, policy);
}

TaskOr MakePgBackRestList(const v1::ListBackupsTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(PgBackRest::Check(spec.pgbackrest(), policy));
  return std::make_unique<PgBackRestList>(spec, policy);
}

}  // namespace muster::agent::backup
