#include "control-plane/rpc/backup_service.h"

#include "control-plane/decide/backup_run.h"
#include "control-plane/rpc/backup_reader.h"
#include "control-plane/rpc/run_reader.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

// A whole server cannot be put into another one.
Status CheckDump(const v1::Backup& backup) {
  if (backup.engine() != v1::BACKUP_ENGINE_POSTGRES_BASE &&
      backup.engine() != v1::BACKUP_ENGINE_PGBACKREST) {
    return OkStatus();
  }
  return InvalidArgument("postgres: the backup {} is of a whole server: restore it to a folder",
                         backup.snapshot_id());
}

// The agent looks again, at the archive as it is then.
Status TakeMoment(const v1::Backup& backup, const v1::RestoreBackupRequest& request,
                  v1::RestoreBackupTask& task) {
  if (request.target_time().empty()) return OkStatus();
  if (backup.engine() != v1::BACKUP_ENGINE_PGBACKREST) {
    return InvalidArgument(
        "target_time: the backup {} leads to the moment that it was taken at alone; only one by "
        "pgBackRest leads to others",
        backup.snapshot_id());
  }
  const StatusOr<absl::Time> moment = ParseTime(request.target_time());
  if (!moment.ok()) {
    return InvalidArgument("target_time: \"{}\" is not a time; write it as 2026-12-24T02:00:00Z",
                           OneLine(request.target_time()));
  }
  const absl::Time earliest = wire::FromProto(backup.taken_at());
  if (*moment < earliest) {
    return FailedPrecondition(
        "the backup {} leads to moments from {} on, and not to {}: choose an older backup",
        backup.snapshot_id(), TimeText(earliest), TimeText(*moment));
  }
  task.set_target_time(request.target_time());
  return OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* BackupService::ListBackups(grpc::CallbackServerContext* context,
                                                     const v1::ListBackupsRequest* request,
                                                     v1::ListBackupsResponse* response) {
  return gate_.Serve(context, "muster.v1.BackupService.ListBackups",
                     [=, this](const net::Identity&) {
                       return control::ListBackups(store_, *request, *response);
                     });
}

grpc::ServerUnaryReactor* BackupService::GetBackup(grpc::CallbackServerContext* context,
                                                   const v1::GetBackupRequest* request,
                                                   v1::GetBackupResponse* response) {
  return gate_.Serve(
      context, "muster.v1.BackupService.GetBackup", [=, this](const net::Identity&) -> Status {
        MUSTER_ASSIGN_OR_RETURN(const BackupRow row, FindBackup(store_, request->snapshot_id()));
        *response->mutable_backup() = BackupMessage(row);
        return OkStatus();
      });
}

grpc::ServerUnaryReactor* BackupService::VerifyBackup(grpc::CallbackServerContext* context,
                                                      const v1::VerifyBackupRequest* request,
                                                      v1::VerifyBackupResponse* response) {
  return gate_.Serve(
      context, "muster.v1.BackupService.VerifyBackup",
      [=, this](const net::Identity& caller) { return Verify(caller, *request, *response); });
}

grpc::ServerUnaryReactor* BackupService::RestoreBackup(grpc::CallbackServerContext* context,
                                                       const v1::RestoreBackupRequest* request,
                                                       v1::RestoreBackupResponse* response) {
  return gate_.Serve(
      context, "muster.v1.BackupService.RestoreBackup",
      [=, this](const net::Identity& caller) { return Restore(caller, *request, *response); });
}

grpc::ServerUnaryReactor* BackupService::HoldBackup(grpc::CallbackServerContext* context,
                                                    const v1::HoldBackupRequest* request,
                                                    v1::HoldBackupResponse* response) {
  return gate_.Serve(context, "muster.v1.BackupService.HoldBackup",
                     [=, this](const net::Identity& caller) -> Status {
                       MUSTER_ASSIGN_OR_RETURN(const std::string reason,
                                               ReasonOf(request->reason()));
                       if (Trim(reason).empty()) {
                         return InvalidArgument("reason: say why, for those who wonder later");
                       }
                       MUSTER_ASSIGN_OR_RETURN(*response->mutable_backup(),
                                               Hold(caller, request->snapshot_id(), reason));
                       return OkStatus();
                     });
}

grpc::ServerUnaryReactor* BackupService::ReleaseBackup(grpc::CallbackServerContext* context,
                                                       const v1::ReleaseBackupRequest* request,
                                                       v1::ReleaseBackupResponse* response) {
  return gate_.Serve(context, "muster.v1.BackupService.ReleaseBackup",
                     [=, this](const net::Identity& caller) -> Status {
                       MUSTER_ASSIGN_OR_RETURN(*response->mutable_backup(),
                                               Hold(caller, request->snapshot_id(), ""));
                       return OkStatus();
                     });
}

grpc::ServerUnaryReactor* BackupService::PlanRetention(grpc::CallbackServerContext* context,
                                                       const v1::PlanRetentionRequest* request,
                                                       v1::PlanRetentionResponse* response) {
  return gate_.Serve(context, "muster.v1.BackupService.PlanRetention",
                     [=, this](const net::Identity&) {
                       return control::PlanRetention(store_, *request, clock_.Now(), *response);
                     });
}

grpc::ServerUnaryReactor* BackupService::ApplyRetention(grpc::CallbackServerContext* context,
                                                        const v1::ApplyRetentionRequest* request,
                                                        v1::ApplyRetentionResponse* response) {
  return gate_.Serve(
      context, "muster.v1.BackupService.ApplyRetention",
      [=, this](const net::Identity& caller) { return Apply(caller, *request, *response); });
}

grpc::ServerUnaryReactor* BackupService::ImportBackups(grpc::CallbackServerContext* context,
                                                       const v1::ImportBackupsRequest* request,
                                                       v1::ImportBackupsResponse* response) {
  return gate_.Serve(
      context, "muster.v1.BackupService.ImportBackups",
      [=, this](const net::Identity& caller) { return Import(caller, *request, *response); });
}

StatusOr<BackupService::Reachable> BackupService::Reach(const std::string& snapshot_id) {
  Reachable backup;
  MUSTER_ASSIGN_OR_RETURN(backup.row, FindBackup(store_, snapshot_id));
  if (backup.row.forgotten_at != absl::InfiniteFuture()) {
    return FailedPrecondition("the backup {} was removed at {} by run {}", snapshot_id,
                              TimeText(backup.row.forgotten_at), backup.row.forgotten_by);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::optional<SpecRow> job, store_.specs().FindJob(backup.row.job));
  if (job.has_value()) backup.job = job->document.job();
  MUSTER_ASSIGN_OR_RETURN(backup.task, TaskOf(backup.row, job.has_value() ? &backup.job : nullptr));
  return backup;
}

StatusOr<v1::JobSpec> BackupService::BesideOf(const Reachable& backup, const std::string& agent) {
  const std::string& where = agent.empty() ? backup.row.agent : agent;
  MUSTER_ASSIGN_OR_RETURN(const auto known, store_.sessions().Find(where));
  if (!known.has_value() || known->revoked) {
    return FailedPrecondition("there is no agent {} (any more): name one with --agent", where);
  }
  return Beside(backup.job.has_deadline() ? backup.job : backup.row.spec, where);
}

StatusOr<v1::Run> BackupService::Start(const net::Identity& caller, Asked asked,
                                       std::string detail) {
  MUSTER_ASSIGN_OR_RETURN(RunRow run, ManualRun(caller, std::move(asked), clock_.Now()));
  const AuditNote note = NoteOf(caller, "backup." + run.action, "job/" + run.job,
                                fmt::format("run {}, {}", run.id, detail), run.slot);
  MUSTER_ASSIGN_OR_RETURN(const RunRow started, store_.runs().Start(std::move(run), note));
  on_change_();
  return RunMessage(started);
}

Status BackupService::Verify(const net::Identity& caller, const v1::VerifyBackupRequest& request,
                             v1::VerifyBackupResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const Reachable backup, Reach(request.snapshot_id()));
  MUSTER_ASSIGN_OR_RETURN(v1::JobSpec spec, BesideOf(backup, request.agent()));
  *spec.mutable_verify_backup() = VerifyTask(backup.task, backup.row.backup, request.restore());
  MUSTER_ASSIGN_OR_RETURN(*response.mutable_run(), Start(caller,
                                                         {.job = backup.row.job,
                                                          .action = "verify",
                                                          .request_id = request.request_id(),
                                                          .spec = std::move(spec)},
                                                         "backup " + backup.row.id()));
  return OkStatus();
}

Status BackupService::Restore(const net::Identity& caller, const v1::RestoreBackupRequest& request,
                              v1::RestoreBackupResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const Reachable backup, Reach(request.snapshot_id()));
  MUSTER_ASSIGN_OR_RETURN(v1::JobSpec spec, BesideOf(backup, request.agent()));
  v1::RestoreBackupTask& task = *spec.mutable_restore_backup();
  task = RestoreTask(backup.task, backup.row.backup);
  MUSTER_RETURN_IF_ERROR(TakeMoment(backup.row.backup, request, task));
  std::string target;
  if (request.has_folder()) {
    if (!request.folder().starts_with('/') || request.folder().size() == 1) {
      return InvalidArgument("folder: \"{}\" is no absolute path", OneLine(request.folder()));
    }
    task.set_folder(request.folder());
    target = "folder " + OneLine(request.folder());
  } else if (request.has_postgres()) {
    MUSTER_RETURN_IF_ERROR(CheckDump(backup.row.backup));
    const v1::PostgresTarget& postgres = request.postgres();
    if (postgres.database().empty()) return InvalidArgument("postgres.database: is missing");
    if (!postgres.has_connection() && postgres.dsn().empty()) {
      return InvalidArgument("postgres: needs a connection or a dsn to the server");
    }
    *task.mutable_postgres() = postgres;
    target = "database " + OneLine(postgres.database());
  } else {
    return InvalidArgument("a restore needs a target: folder or postgres");
  }
  MUSTER_ASSIGN_OR_RETURN(*response.mutable_run(),
                          Start(caller,
                                {.job = backup.row.job,
                                 .action = "restore",
                                 .request_id = request.request_id(),
                                 .spec = std::move(spec)},
                                fmt::format("backup {} to {}", backup.row.id(), target)));
  return OkStatus();
}

StatusOr<v1::StoredBackup> BackupService::Hold(const net::Identity& caller,
                                               const std::string& snapshot_id,
                                               const std::string& reason) {
  const AuditNote note = NoteOf(caller, reason.empty() ? "backup.release" : "backup.hold",
                                "backup/" + OneLine(snapshot_id), reason, clock_.Now());
  MUSTER_ASSIGN_OR_RETURN(const BackupRow row, store_.backups().Hold(snapshot_id, reason, note));
  return BackupMessage(row);
}

Status BackupService::Apply(const net::Identity& caller, const v1::ApplyRetentionRequest& request,
                            v1::ApplyRetentionResponse& response) {
  const absl::Time now = clock_.Now();
  MUSTER_ASSIGN_OR_RETURN(const RetentionView view, ViewRetention(store_, request.job(), now));
  const Dispensable gone = DispensableOf(view.backups, view.decisions);
  if (gone.ids.empty()) return OkStatus();
  Asked asked{.job = request.job(),
              .action = "forget",
              .request_id = request.request_id(),
              .spec = Beside(view.spec, gone.agent)};
  *asked.spec.mutable_forget_backups() = ForgetTask(view.spec.backup(), gone.ids);
  MUSTER_ASSIGN_OR_RETURN(RunRow run, ManualRun(caller, std::move(asked), now));
  const AuditNote note =
      NoteOf(caller, "backup.forget", "job/" + request.job(),
             fmt::format("{} backups, by run {}{}", gone.ids.size(), run.id, gone.named), run.slot);
  MUSTER_RETURN_IF_ERROR(store_.backups().StartForget(std::nullopt, run, note).status());
  *response.mutable_run() = RunMessage(run);
  on_change_();
  return OkStatus();
}

Status BackupService::Import(const net::Identity& caller, const v1::ImportBackupsRequest& request,
                             v1::ImportBackupsResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const SpecRow job, FindJob(store_, request.job()));
  const v1::JobSpec& spec = job.document.job();
  if (!spec.has_backup()) return FailedPrecondition("{} makes no backups", request.job());
  Asked asked{.job = request.job(),
              .action = "list",
              .request_id = request.request_id(),
              .spec = Beside(spec, "")};
  *asked.spec.mutable_list_backups() = ListTask(spec.backup(), request.job());
  const v1::BackupRepository& repository = spec.backup().repository();
  const std::string place = spec.backup().has_pgbackrest()
                                ? "of stanza " + spec.backup().pgbackrest().stanza()
                                : (repository.has_path() ? repository.path() : repository.url());
  MUSTER_ASSIGN_OR_RETURN(*response.mutable_run(),
                          Start(caller, std::move(asked), "repository " + place));
  return OkStatus();
}

}  // namespace muster::control
