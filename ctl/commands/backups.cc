#include <algorithm>
#include <iostream>

#include "ctl/commands/backup_ids.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/run_start.h"
#include "ctl/render/backups.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "muster/v1/backup_service.grpc.pb.h"

namespace muster::ctl {
namespace {

std::unique_ptr<v1::BackupService::Stub> Backups(const std::shared_ptr<grpc::Channel>& channel) {
  return v1::BackupService::NewStub(channel);
}

Status List(Session& session, const v1::ListBackupsRequest& request, size_t limit) {
  MUSTER_ASSIGN_OR_RETURN(const auto backups, ListBackups(session, request, limit));
  Json items = Json::array();
  for (const v1::StoredBackup& one : backups) items.push_back(BackupJson(one));
  session.PrintList(items, "backups");
  if (limit > 0 && backups.size() == limit) {
    std::cerr << fmt::format("these are the newest {}; --limit 0 lists all\n", limit);
  }
  return OkStatus();
}

Status Describe(Session& session, const std::string& backup) {
  v1::GetBackupRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), ResolveBackup(session, backup));
  v1::GetBackupResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return Backups(channel)->GetBackup(&context, request, &response);
  }));
  if (session.structured()) {
    session.PrintOne(BackupJson(response.backup()));
  } else {
    std::cout << DescribeBackupText(response.backup(), session.style());
  }
  return OkStatus();
}

Status Verify(Session& session, const std::string& backup, v1::VerifyBackupRequest request,
              const WaitFlags& wait, int& exit_code) {
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), ResolveBackup(session, backup));
  request.set_request_id(RandomUuid());
  v1::VerifyBackupResponse response;
  MUSTER_RETURN_IF_ERROR(
      AskForRun(session, wait, "", [&](const auto& channel, grpc::ClientContext& context) {
        return Backups(channel)->VerifyBackup(&context, request, &response);
      }));
  return FinishRun(session, response.run(), wait, exit_code);
}

// Where a restore goes, as flags say it.
struct Target {
  std::string folder;
  std::string database;
  std::string secret;
  std::string dsn;
  uint32_t parallel = 2;
};

Status Take(const Target& target, v1::RestoreBackupRequest& request) {
  if (target.folder.empty() == target.database.empty()) {
    return InvalidArgument("say where to: --folder DIR, or --database NAME with --secret or --dsn");
  }
  if (!target.folder.empty()) {
    request.set_folder(target.folder);
    return OkStatus();
  }
  if (target.secret.empty() == target.dsn.empty()) {
    return InvalidArgument(
        "say which server the database is to be made on: --secret file:/etc/muster/secrets/NAME, "
        "or --dsn \"host=… user=…\" without a password");
  }
  v1::PostgresTarget& postgres = *request.mutable_postgres();
  postgres.set_database(target.database);
  postgres.set_parallel(target.parallel);
  if (target.secret.empty()) {
    postgres.set_dsn(target.dsn);
  } else {
    postgres.mutable_connection()->set_secret(target.secret);
  }
  return OkStatus();
}

Status Restore(Session& session, const std::string& backup, const Target& target,
               v1::RestoreBackupRequest request, const WaitFlags& wait, int& exit_code) {
  MUSTER_RETURN_IF_ERROR(Take(target, request));
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), ResolveBackup(session, backup));
  request.set_request_id(RandomUuid());
  v1::RestoreBackupResponse response;
  MUSTER_RETURN_IF_ERROR(
      AskForRun(session, wait, "", [&](const auto& channel, grpc::ClientContext& context) {
        return Backups(channel)->RestoreBackup(&context, request, &response);
      }));
  return FinishRun(session, response.run(), wait, exit_code);
}

Status Hold(Session& session, const std::string& backup, const std::string& reason) {
  v1::HoldBackupRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), ResolveBackup(session, backup));
  request.set_reason(reason);
  v1::HoldBackupResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return Backups(channel)->HoldBackup(&context, request, &response);
  }));
  session.PrintItem(BackupJson(response.backup()), "backups");
  return OkStatus();
}

Status Release(Session& session, const std::string& backup) {
  v1::ReleaseBackupRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), ResolveBackup(session, backup));
  v1::ReleaseBackupResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return Backups(channel)->ReleaseBackup(&context, request, &response);
  }));
  session.PrintItem(BackupJson(response.backup()), "backups");
  return OkStatus();
}

StatusOr<v1::PlanRetentionResponse> Plan(Session& session, const std::string& job) {
  v1::PlanRetentionRequest request;
  request.set_job(job);
  v1::PlanRetentionResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return Backups(channel)->PlanRetention(&context, request, &response);
  }));
  return response;
}

Status Preview(Session& session, const std::string& job) {
  MUSTER_ASSIGN_OR_RETURN(const v1::PlanRetentionResponse plan, Plan(session, job));
  Json items = Json::array();
  for (const v1::RetentionDecision& one : plan.items()) items.push_back(DecisionJson(one));
  session.PrintList(items, "decisions");
  return OkStatus();
}

Status Prune(Session& session, const std::string& job, bool yes, const WaitFlags& wait,
             int& exit_code) {
  MUSTER_ASSIGN_OR_RETURN(const v1::PlanRetentionResponse plan, Plan(session, job));
  const auto deleted = std::count_if(plan.items().begin(), plan.items().end(),
                                     [](const auto& one) { return !one.keep(); });
  if (deleted == 0) {
    std::cerr << fmt::format("{} keeps all of its {} backups\n", job, plan.items_size());
    return OkStatus();
  }
  MUSTER_RETURN_IF_ERROR(session.Confirm(
      fmt::format("Remove {} of the {} backups of {}? (musterctl backup prune {} --dry-run "
                  "shows which)",
                  deleted, plan.items_size(), job, job),
      yes));
  v1::ApplyRetentionRequest request;
  request.set_job(job);
  request.set_request_id(RandomUuid());
  v1::ApplyRetentionResponse response;
  MUSTER_RETURN_IF_ERROR(
      AskForRun(session, wait, job, [&](const auto& channel, grpc::ClientContext& context) {
        return Backups(channel)->ApplyRetention(&context, request, &response);
      }));
  if (response.has_run()) return FinishRun(session, response.run(), wait, exit_code);
  std::cerr << "there is nothing to remove any more\n";
  return OkStatus();
}

Status Import(Session& session, const std::string& job, const WaitFlags& wait, int& exit_code) {
  v1::ImportBackupsRequest request;
  request.set_job(job);
  request.set_request_id(RandomUuid());
  v1::ImportBackupsResponse response;
  MUSTER_RETURN_IF_ERROR(
      AskForRun(session, wait, job, [&](const auto& channel, grpc::ClientContext& context) {
        return Backups(channel)->ImportBackups(&context, request, &response);
      }));
  return FinishRun(session, response.run(), wait, exit_code);
}

constexpr char kBackup[] = "id, how it begins, JOB/latest or JOB/verified";

void AddList(Cli& cli, CLI::App& backup) {
  CLI::App* list = backup.add_subcommand("list", "backups, newest first, and what is proven");
  auto request = std::make_shared<v1::ListBackupsRequest>();
  auto job = std::make_shared<std::string>();
  auto agent = std::make_shared<std::string>();
  auto all = std::make_shared<bool>(false);
  auto limit = std::make_shared<size_t>(200);
  list->add_option("job", *job, "of this job alone");
  list->add_option("--agent", *agent, "made on this agent alone");
  list->add_flag("--all", *all, "those that were removed, too");
  list->add_option("--limit", *limit, "at most so many; 0 is all")->capture_default_str();
  list->callback([&cli, request, job, agent, all, limit] {
    request->set_job(*job);
    request->set_agent(*agent);
    request->set_forgotten(*all);
    cli.Run([&](Session& session) { return List(session, *request, *limit); });
  });
}

void AddDescribe(Cli& cli, CLI::App& backup) {
  CLI::App* describe = backup.add_subcommand("describe", "everything that is known of a backup");
  auto id = std::make_shared<std::string>();
  describe->add_option("backup", *id, kBackup)->required();
  describe->callback(
      [&cli, id] { cli.Run([&](Session& session) { return Describe(session, *id); }); });
}

void AddVerify(Cli& cli, CLI::App& backup) {
  CLI::App* verify = backup.add_subcommand("verify", "prove a backup once more");
  auto id = std::make_shared<std::string>();
  auto agent = std::make_shared<std::string>();
  auto restore = std::make_shared<bool>(false);
  verify->add_option("backup", *id, kBackup)->required();
  verify->add_flag("--restore", *restore,
                   "restore it into a throw-away server, even if its job does not ask for that");
  verify->add_option("--agent", *agent, "on this agent; else where it was made");
  const auto wait = AddWaitFlags(*verify);
  verify->callback([&cli, id, agent, restore, wait] {
    Take(*wait, cli.flags);
    v1::VerifyBackupRequest request;
    request.set_agent(*agent);
    request.set_restore(*restore);
    cli.Run([&](Session& session) { return Verify(session, *id, request, *wait, cli.exit_code); });
  });
}

void AddRestore(Cli& cli, CLI::App& backup) {
  CLI::App* restore = backup.add_subcommand("restore", "write a backup to a new place");
  auto id = std::make_shared<std::string>();
  auto agent = std::make_shared<std::string>();
  auto target = std::make_shared<Target>();
  restore->add_option("backup", *id, kBackup)->required();
  restore->add_option("--folder", target->folder,
                      "a folder of the host that is not there yet, or is empty");
  restore->add_option("--database", target->database, "a database that is not there yet");
  restore->add_option("--secret", target->secret,
                      "with --database: the file on the host that says how to reach its server");
  restore->add_option("--dsn", target->dsn, "the same, where no password is needed");
  restore->add_option("--parallel", target->parallel, "connections that restore at once")
      ->check(CLI::Range(1, 32))
      ->capture_default_str();
  restore->add_option("--agent", *agent, "on this agent; else where it was made");
  auto moment = std::make_shared<std::string>();
  restore->add_option("--target-time", *moment,
                      "of a backup by pgBackRest: the moment to lead to, as 2026-12-24T02:00:00Z; "
                      "else where the backup ended");
  const auto wait = AddWaitFlags(*restore);
  restore->callback([&cli, id, agent, target, moment, wait] {
    Take(*wait, cli.flags);
    v1::RestoreBackupRequest request;
    request.set_agent(*agent);
    request.set_target_time(*moment);
    cli.Run([&](Session& session) {
      return Restore(session, *id, *target, request, *wait, cli.exit_code);
    });
  });
}

void AddHold(Cli& cli, CLI::App& backup) {
  CLI::App* hold = backup.add_subcommand("hold", "never let a rule remove this backup");
  auto id = std::make_shared<std::string>();
  auto reason = std::make_shared<std::string>();
  hold->add_option("backup", *id, kBackup)->required();
  hold->add_option("--reason", *reason, "for those who wonder later")->required();
  hold->callback([&cli, id, reason] {
    cli.Run([&](Session& session) { return Hold(session, *id, *reason); });
  });
  CLI::App* release = backup.add_subcommand("release", "let the rules decide of it again");
  release->add_option("backup", *id, kBackup)->required();
  release->callback(
      [&cli, id] { cli.Run([&](Session& session) { return Release(session, *id); }); });
}

void AddPrune(Cli& cli, CLI::App& backup) {
  CLI::App* prune = backup.add_subcommand(
      "prune", "remove what the job's keep does not keep, as is done after each good backup");
  auto job = std::make_shared<std::string>();
  auto dry = std::make_shared<bool>(false);
  auto yes = std::make_shared<bool>(false);
  prune->add_option("job", *job, "name of the job")->required();
  prune->add_flag("--dry-run", *dry, "show what would be kept and removed, and why");
  prune->add_flag("-y,--yes", *yes, "do not ask");
  const auto wait = AddWaitFlags(*prune);
  prune->callback([&cli, job, dry, yes, wait] {
    Take(*wait, cli.flags);
    cli.Run([&](Session& session) {
      return *dry ? Preview(session, *job) : Prune(session, *job, *yes, *wait, cli.exit_code);
    });
  });
}

void AddImport(Cli& cli, CLI::App& backup) {
  CLI::App* import = backup.add_subcommand(
      "import", "look for backups of a job in its repository that are not listed");
  auto job = std::make_shared<std::string>();
  import->add_option("job", *job, "name of the job")->required();
  const auto wait = AddWaitFlags(*import);
  import->callback([&cli, job, wait] {
    Take(*wait, cli.flags);
  cli.Run([&](Session& session) { return Import(session, *job, *wait, cli.exit_code); });
});
}  // namespace

}  // namespace muster::ctl

void AddBackup(Cli& cli) {
  CLI::App* backup = cli.app.add_subcommand("backup", "backups: list, verify, restore, keep");
  backup->require_subcommand(1);
  AddList(cli, *backup);
  AddDescribe(cli, *backup);
  AddVerify(cli, *backup);
  AddRestore(cli, *backup);
  AddHold(cli, *backup);
  AddPrune(cli, *backup);
  AddImport(cli, *backup);
}

}  // namespace muster::ctl
