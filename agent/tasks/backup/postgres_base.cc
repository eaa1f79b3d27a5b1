// A whole server by pg_basebackup, with the log that it needs to start; it is proven as a server
// that recovers from it.
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <sys/stat.h>

#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/filling.h"
#include "agent/tasks/backup/physical_server.h"
#include "agent/tasks/backup/postgres.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

constexpr char kClient[] = "postgresql-client";
constexpr char kBase[] = "/base";  // in the folder of the backup
constexpr int kManifestSince = 13;
// Log that is written meanwhile, as a rule.
constexpr uint64_t kLogRoom = 256 << 20;

constexpr char kFacts[] =
    "select current_setting('server_version_num'), current_setting('server_version'), "
    "(select system_identifier from pg_control_system()), current_database(), "
    "(select rolreplication or rolsuper from pg_roles where rolname = current_user), current_user, "
    "(select sum(pg_database_size(oid)) from pg_database), "
    "(select string_agg(spcname, ', ' order by spcname) from pg_tablespace "
    "where pg_tablespace_location(oid) <> '')";

struct Facts {
  int major = 0;
  std::string version;
  std::string system_identifier;
  std::string database;
  bool may_replicate = false;
  std::string user;
  uint64_t bytes = 0;
  std::string tablespaces;
};

Status VerifyBase(TaskContext& context, const std::string& programs, const std::string& base) {
  const StatusOr<ToolEnd> end =
      RunToolWell(context, {.argv = {programs + "/pg_verifybackup", "--quiet", base}, .file = {}});
  if (!absl::IsUnavailable(end.status())) return end.status();
  return DataLoss("what pg_basebackup wrote is not whole: {}", Message(end.status()));
}

class PostgresBase final : public Engine {
 public:
  PostgresBase(v1::PostgresSource spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override { return "a PostgreSQL server, by pg_basebackup"; }

  StatusOr<Need> Plan(TaskContext& context) override {
    MUSTER_RETURN_IF_ERROR(Reach(context));
    MUSTER_RETURN_IF_ERROR(ReadFacts(context));
    MUSTER_RETURN_IF_ERROR(CheckFacts());
    MUSTER_ASSIGN_OR_RETURN(programs_, FindPostgres(facts_.major, "pg_basebackup", kClient));
    // Only the programs of its own version read the log of a server.
    if (programs_ != fmt::format("{}/{}/bin", kPostgresPrograms, facts_.major)) {
      return NotFound(
          "the server is PostgreSQL {}, and this host has no pg_verifybackup of it: run "
          "apt-get install {}-{}",
          facts_.major, kClient, facts_.major);
    }
    return Need{facts_.bytes + kLogRoom, kLogRoom};
  }

  Status Produce(TaskContext& context, const Workspace& workspace, const std::string& folder,
                 v1::BackupManifest& manifest) override {
    MUSTER_RETURN_IF_ERROR(Copy(context, workspace, folder + kBase));
    // It leads to where the copying ended.
    taken_at_ = context.clock().Now();
    MUSTER_RETURN_IF_ERROR(Annotate(VerifyBase(context, programs_, folder + kBase),
                                    "nothing was put into the repository"));
    Tell(manifest);
    MUSTER_ASSIGN_OR_RETURN(
        const ToolEnd end,
        RunToolWell(context, {.argv = {programs_ + "/pg_basebackup", "--version"}, .file = {}}));
    manifest.set_client_version(std::string(Truncate(Trim(end.out), wire::kMostNameBytes)));
    return OkStatus();
  }

  ResticSource Source(const std::string& folder) const override {
    return {.directory = folder, .paths = {"."}, .exclude = {}};
  }

 private:
  Status Reach(TaskContext& context) {
    MUSTER_ASSIGN_OR_RETURN(server_, PgServer::Of(spec_, policy_, context));
    return OkStatus();
  }

  Status ReadFacts(TaskContext& context) {
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<PgWork> work, PgWork::Open(*server_, context));
    const StatusOr<PgTable> rows = work->Query(kFacts);
    if (Message(rows.status()).find("SQLSTATE 42501") != std::string_view::npos) {
      return PermissionDenied(
          "{}: grant pg_read_all_stats and connect on every database to the user",
          Message(rows.status()));
    }
    MUSTER_RETURN_IF_ERROR(rows.status());
    if (rows->empty()) return DataLoss("PostgreSQL says nothing of itself");
    const std::vector<std::string>& row = (*rows)[0];
    facts_ = {static_cast<int>(LeadingNumber(row[0]) / 10'000),
              row[1],
              row[2],
              row[3],
              row[4] == "t",
              row[5],
              LeadingNumber(row[6]),
              row[7]};
    return OkStatus();
  }

  Status CheckFacts() const {
    if (facts_.major < kManifestSince) {
      return FailedPrecondition(
          "the server is PostgreSQL {}: base backups that can be verified are "
          "of {} and newer; use method: dump, or pgbackrest",
          facts_.major, kManifestSince);
    }
    if (!facts_.may_replicate) {
      return PermissionDenied("the role {} may not copy the server: run ALTER ROLE {} REPLICATION",
                              facts_.user, QuotedName(facts_.user));
    }
    if (facts_.tablespaces.empty()) return OkStatus();
    return FailedPrecondition(
        "the server keeps data outside of its folder, in the tablespaces {}: a base backup cannot "
        "hold them; use pgbackrest, or method: dump",
        facts_.tablespaces);
  }

  Status Copy(TaskContext& context, const Workspace& workspace, const std::string& target) const {
    MUSTER_RETURN_IF_ERROR(context.Step("copies the server into " + target));
    MUSTER_ASSIGN_OR_RETURN(const exec::Fd password, server_->PassFile());
    ProgramRequest request;
    request.argv = {programs_ + "/pg_basebackup",
                    "--dbname=" + server_->Conninfo(),
                    "--no-password",
                    "--pgdata=" + target,
                    "--format=plain",
                    "--wal-method=stream",
                    "--checkpoint=fast",
                    "--no-sync",
                    "--label=muster " + context.run_id()};
    request.in = password.get();
    request.watch = TellFilling(context, target, facts_.bytes, "copying",
                                [&workspace] { return workspace.CheckReserve(); });
    const Status copied = RunToolWell(context, std::move(request)).status();
    if (!copied.ok() && !absl::IsAborted(copied)) MUSTER_RETURN_IF_ERROR(workspace.CheckReserve());
    if (Message(copied).find("no pg_hba.conf entry for replication") != std::string_view::npos) {
      return PermissionDenied("{}: add a line for the database \"replication\" to pg_hba.conf",
                              Message(copied));
    }
    return Advised(copied);
  }

  void Tell(v1::BackupManifest& manifest) const {
    manifest.set_engine(v1::BACKUP_ENGINE_POSTGRES_BASE);
    *manifest.mutable_taken_at() = wire::ToProto(taken_at_);
    manifest.set_source(OneLine(fmt::format("the server {}", server_->Name())));
    manifest.set_system_identifier(facts_.system_identifier);
    manifest.set_database(facts_.database);
    manifest.set_server_version(facts_.version);
  }

  const v1::PostgresSource spec_;
  const Policy policy_;
  std::optional<PgServer> server_;
  absl::Time taken_at_;
  Facts facts_;
  std::string programs_;  // of PostgreSQL, a folder
};

}  // namespace

EngineOr MakePostgresBase(const v1::PostgresSource& spec, const Policy& policy) {
  if (spec.has_connection()) {
    MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.connection().secret()));
  } else if (spec.dsn().empty()) {
    return InvalidArgument("a backup of PostgreSQL needs a connection or a dsn");
  }
  return std::make_unique<PostgresBase>(spec, policy);
}

Status ProveBase(TaskContext& context, const Workspace& workspace, const ProveRequest& request) {
  MUSTER_RETURN_IF_ERROR(context.Step("starts the backup as a throw-away server"));
  const std::string base = request.folder + kBase;
  MUSTER_ASSIGN_OR_RETURN(const int major, DataVersion(base));
  MUSTER_ASSIGN_OR_RETURN(const std::string programs,
                          FindPostgres(major, "pg_verifybackup", kClient));
  MUSTER_RETURN_IF_ERROR(VerifyBase(context, programs, base));
  const std::string& name = request.verify.user();
  MUSTER_ASSIGN_OR_RETURN(const ServerUser user,
                          ServerUser::Find(name.empty() ? "postgres" : name));
  MUSTER_ASSIGN_OR_RETURN(const std::string folder, MakeServerFolder(workspace, user));
  std::error_code error;
  std::filesystem::rename(base, folder + "/data", error);
  if (error) return Unavailable("cannot move {}: {}", base, error.message());
  MUSTER_RETURN_IF_ERROR(user.Own(folder));
  return ProveServer(context, {.folder = folder,
                               .user = user,
                               .restore_command = "",
                               .system_identifier = request.manifest.system_identifier(),
                               .database = request.manifest.database(),
                               .verify = request.verify});
}

StatusOr<std::string> MakeStartable(const std::string& folder) {
  const std::string data = folder + kBase;
  MUSTER_ASSIGN_OR_RETURN(const int major, DataVersion(data));
  std::string as = "as the user of PostgreSQL";
  if (const StatusOr<ServerUser> user = ServerUser::Find("postgres"); user.ok()) {
    MUSTER_RETURN_IF_ERROR(user->Own(data));
    if (user->is_other()) {
      as = "as postgres";
      if (chmod(folder.c_str(), 0711) != 0) {
        return Unavailable("chmod {}: {}", folder, std::strerror(errno));
      }
    }
  }
  return fmt::format("; see to its configuration, then start it {}: {}/{}/bin/pg_ctl -D {} start",
                     as, kPostgresPrograms, major, data);
}

}  // namespace muster::agent::backup
