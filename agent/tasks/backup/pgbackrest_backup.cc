// A backup by pgBackRest from its source to its proof, and the same proof of one that is there.
#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/pgbackrest_tasks.h"
#include "agent/tasks/backup/physical_server.h"
#include "agent/tasks/backup/proof.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

// The log that it recovers from, besides the server itself.
constexpr uint64_t kLogRoom = 256 << 20;

// Proves one backup as far as it is asked for, and tells of each step.
class Proof {
 public:
  Proof(TaskContext& context, PgBackRest& program, const Workspace& workspace,
        const v1::BackupVerify& verify)
      : context_(context), program_(program), workspace_(workspace), verify_(verify) {}

  // The record grows with what is proven; DataLoss is told as its problem.
  Status Run(const StanzaBackup& backup, v1::Backup& record) {
    const Status proven = Steps(backup, record);
    if (!absl::IsDataLoss(proven)) return proven;
    record.set_problem(OneLine(Message(proven)));
    SetProof(context_, v1::BACKUP_PROOF_TAKEN, record);
    record.clear_restore_took();
    Tell(context_, record);
    return proven;
  }

 private:
  Status Steps(const StanzaBackup& backup, v1::Backup& record) {
    const absl::Duration began = context_.clock().Uptime();
    if (backup.has_errors) {
      return DataLoss(
          "pgBackRest found pages with a wrong checksum in the server: see the output "
          "of the run, and restore a backup from before");
    }
    MUSTER_RETURN_IF_ERROR(context_.Step("reads back " + program_.place()));
    MUSTER_ASSIGN_OR_RETURN(const WalArchive archive,
                            program_.Archive(context_, program_.info().ArchiveOf(backup)));
    MUSTER_ASSIGN_OR_RETURN(const absl::Time until, RecoverableUntil(archive, backup));
    uint64_t files = 0;
    MUSTER_RETURN_IF_ERROR(program_.Verify(context_, backup, files));
    record.set_files(files);
    *record.mutable_recoverable_until() = wire::ToProto(until);
    SetProof(context_, v1::BACKUP_PROOF_READ_BACK, record);
    Tell(context_, record);
    if (!verify_.restore()) return OkStatus();
    MUSTER_RETURN_IF_ERROR(Restore(backup));
    *record.mutable_restore_took() = wire::ToProto(context_.clock().Uptime() - began);
    SetProof(context_, v1::BACKUP_PROOF_RESTORED, record);
    Tell(context_, record);
    return OkStatus();
  }

  Status Restore(const StanzaBackup& backup) {
    MUSTER_RETURN_IF_ERROR(context_.Step("restores the backup into a throw-away server"));
    MUSTER_RETURN_IF_ERROR(CheckPlain(workspace_.path()));
    MUSTER_RETURN_IF_ERROR(workspace_.NeedRoom(backup.bytes + kLogRoom, "the restored backup"));
    MUSTER_ASSIGN_OR_RETURN(const auto tablespaces, program_.Tablespaces(context_, backup.label));
    MUSTER_ASSIGN_OR_RETURN(const std::string folder,
                            MakeServerFolder(workspace_, program_.user()));
    for (const char* name : {"server/data", "server/tablespaces"})
      MUSTER_RETURN_IF_ERROR(workspace_.MakeSub(name).status());
    MUSTER_RETURN_IF_ERROR(program_.user().Own(folder));
    MUSTER_RETURN_IF_ERROR(program_.Restore(
        context_, {.label = backup.label,
                   .folder = folder + "/data",
                   .tablespaces = tablespaces.empty() ? "" : folder + "/tablespaces",
                   .target_time = std::nullopt,
                   .bytes = backup.bytes,
                   .watch = [&] { return workspace_.CheckReserve(); }}));
    const StanzaServer* server = program_.info().ServerOf(backup);
    return ProveServer(context_,
                       {.folder = folder,
                        .user = program_.user(),
                        .restore_command = program_.RestoreCommand(folder + "/data"),
                        .system_identifier = server == nullptr ? "" : server->system_identifier,
                        .database = "",
                        .verify = verify_});
  }

  TaskContext& context_;
  PgBackRest& program_;
  const Workspace& workspace_;
  const v1::BackupVerify& verify_;
};

// A full one where the spec asks for that, and where the last one is too old for another to build
// upon.
v1::PgBackRestType TypeNow(const v1::PgBackRestSource& spec, const StanzaInfo& info,
                           absl::Time now) {
  if (spec.type() != v1::PG_BACK_REST_TYPE_DIFFERENTIAL &&
      spec.type() != v1::PG_BACK_REST_TYPE_INCREMENTAL) {
    return v1::PG_BACK_REST_TYPE_FULL;
  }
  absl::Time newest = absl::InfinitePast();
  const StanzaServer* server = info.server();
  for (const StanzaBackup& backup : info.backups) {
    const bool of_now = server != nullptr && backup.database == server->id;
    if (of_now && backup.type == "full" && !backup.has_errors) newest = backup.stop;
  }
  if (newest == absl::InfinitePast()) return v1::PG_BACK_REST_TYPE_FULL;
  const bool too_old = spec.has_full_every() && now - newest >= wire::FromProto(spec.full_every());
  return too_old ? v1::PG_BACK_REST_TYPE_FULL : spec.type();
}

class PgBackRestBackup final : public Task {
 public:
  PgBackRestBackup(v1::BackupTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return fmt::format("a backup of the server of stanza {} by pgBackRest",
                       spec_.pgbackrest().stanza());
  }

  TaskEnd Run(TaskContext& context) override {
    v1::Backup record;
    const Status status = Run(context, record);
    return EndOf(context, status, status.ok() ? Summary(record) : "");
  }

 private:
  Status Run(TaskContext& context, v1::Backup& record) const {
    const absl::Duration began = context.clock().Uptime();
    MUSTER_ASSIGN_OR_RETURN(const auto workspace, OpenWorkspace(context, spec_.staging()));
    PgBackRest program(spec_.pgbackrest(), policy_);
    MUSTER_RETURN_IF_ERROR(program.Open(context));
    MUSTER_RETURN_IF_ERROR(context.Step("looks whether the log reaches the archive"));
    MUSTER_RETURN_IF_ERROR(program.CheckArchiving(context));
    MUSTER_RETURN_IF_ERROR(context.Step("takes a backup into " + program.place()));
    const v1::PgBackRestType type =
        TypeNow(spec_.pgbackrest(), program.info(), context.clock().Now());
    MUSTER_ASSIGN_OR_RETURN(const std::string label, program.Backup(context, type));
    MUSTER_RETURN_IF_ERROR(program.Look(context));
    MUSTER_ASSIGN_OR_RETURN(const StanzaBackup* backup, FindListed(program, label));
    MUSTER_ASSIGN_OR_RETURN(record, RecordOf(program, *backup));
    *record.mutable_took() = wire::ToProto(context.clock().Uptime() - began);
    SetProof(context, v1::BACKUP_PROOF_TAKEN, record);
    Tell(context, record);
    if (backup->bytes == 0) return DataLoss("pgBackRest says that the backup {} is empty", label);
    return Proof(context, program, *workspace, spec_.verify()).Run(*backup, record);
  }

  static std::string Summary(const v1::Backup& record) {
    std::string text =
        fmt::format("{}, {}; read back", record.source(), BytesText(record.source_bytes()));
    if (record.has_restore_took()) {
      text += " and restored in " + ShortDuration(wire::FromProto(record.restore_took()));
    }
    return fmt::format("{}, backup {}", text, record.snapshot_id());
  }

  const v1::BackupTask spec_;
  const Policy policy_;
};

class PgBackRestVerify final : public Task {
 public:
  PgBackRestVerify(v1::VerifyBackupTask spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override {
    return "a proof of the backup " + spec_.backup().snapshot_id();
  }

  TaskEnd Run(TaskContext& context) override {
    return EndOf(context, Prove(context),
                 fmt::format("the backup {}: read back{}", spec_.backup().snapshot_id(),
                             spec_.verify().restore() ? " and restored" : ""));
  }

 private:
  Status Prove(TaskContext& context) const {
    MUSTER_ASSIGN_OR_RETURN(const auto workspace, OpenWorkspace(context, spec_.staging()));
    PgBackRest program(spec_.pgbackrest(), policy_);
    MUSTER_RETURN_IF_ERROR(program.Open(context));
    MUSTER_ASSIGN_OR_RETURN(const StanzaBackup* backup,
                            FindListed(program, spec_.backup().snapshot_id()));
    MUSTER_ASSIGN_OR_RETURN(v1::Backup record, RecordOf(program, *backup));
    return Proof(context, program, *workspace, spec_.verify()).Run(*backup, record);
  }

  const v1::VerifyBackupTask spec_;
  const Policy policy_;
};

}  // namespace

StatusOr<std::unique_ptr<Workspace>> OpenWorkspace(TaskContext& context,
                                                   const std::string& staging) {
  int removed = 0;
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Workspace> workspace,
                          Workspace::Open(staging, context.run_id(), removed));
  if (removed > 0) {
    context.Note(fmt::format("removed what {} runs had left in {}", removed, staging));
  }
  return workspace;
}

StatusOr<const StanzaBackup*> FindListed(const PgBackRest& program, std::string_view label) {
  if (const StanzaBackup* backup = program.info().Find(label); backup != nullptr) return backup;
  return NotFound(
      "{} has no backup {}: it was removed (pgbackrest info lists those that are there)",
      program.place(), label);
}

StatusOr<v1::Backup> RecordOf(const PgBackRest& program, const StanzaBackup& backup) {
  const StanzaServer* server = program.info().ServerOf(backup);
  if (server == nullptr) {
    return DataLoss("pgBackRest does not say which server the backup {} is of", backup.label);
  }
  v1::Backup record;
  record.set_engine(v1::BACKUP_ENGINE_PGBACKREST);
  record.set_repository_id(program.info().RepositoryId(*server));
  record.set_snapshot_id(backup.label);
  record.set_repository(OneLine(Truncate(program.place(), 500)));
  record.set_source(fmt::format("the server of stanza {}, {}", program.info().name, backup.type));
  *record.mutable_taken_at() = wire::ToProto(backup.stop);
  record.set_source_bytes(backup.bytes);
  record.set_stored_bytes(backup.stored_bytes);
  record.set_system_identifier(server->system_identifier);
  record.set_server_version(server->version);
  record.set_client_version(program.version());
  record.set_prior_id(backup.prior);
  return record;
}

StatusOr<absl::Time> RecoverableUntil(const WalArchive& archive, const StanzaBackup& backup) {
  const auto first = archive.Parse(backup.first_segment);
  const auto last = archive.Parse(backup.last_segment);
  if (!first || !last) {
    return DataLoss("the log that the backup {} needs is not in the archive at all", backup.label);
  }
  if (const auto missing = archive.MissingOf(*first, *last)) {
    return DataLoss(
        "the segment {} is missing in the archive, and the backup {} cannot be restored without "
        "it: take a new one now",
        archive.Name(*missing), backup.label);
  }
  const auto leads = archive.LeadsTo(*first);
  return std::max(backup.stop, archive.TimeOf(leads.value_or(*last)));
}

TaskOr MakePgBackRestBackup(const v1::BackupTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(PgBackRest::Check(spec.pgbackrest(), policy));
  return std::make_unique<PgBackRestBackup>(spec, policy);
}

TaskOr MakePgBackRestVerify(const v1::VerifyBackupTask& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.staging()));
  MUSTER_RETURN_IF_ERROR(PgBackRest::Check(spec.pgbackrest(), policy));
  return std::make_unique<PgBackRestVerify>(spec, policy);
}

}  // namespace muster::agent::backup
