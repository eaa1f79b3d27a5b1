// A dump restored into a throw-away PostgreSQL: the rows of each table are those of the manifest,
// and the operator's queries are true. They are asked by a role that may read every table and
// nothing else: a superuser's query could run programs of the host, and read its files.
#include <charconv>
#include <csignal>

#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/manifest.h"
#include "agent/tasks/backup/postgres.h"
#include "agent/tasks/backup/throw_away.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

// Like no role that a backup may hold.
constexpr char kOwner[] = "muster_throw_away";
constexpr char kReader[] = "muster_throw_away_reader";
constexpr int kReadAllSince = 14;  // pg_read_all_data
constexpr absl::Duration kStartWithin = absl::Minutes(1);
// Until a server process that has ended has told of what it did.
constexpr absl::Duration kStatisticsWithin = absl::Seconds(2);
constexpr absl::Duration kStatisticsEvery = absl::Milliseconds(50);

Status MakeDatabase(TaskContext& context, PgWork& work, const v1::BackupManifest& manifest,
                    const std::string& name) {
  const std::string make = fmt::format("create database {} template template0 encoding {} ",
                                       QuotedName(name), Quoted(manifest.encoding()));
  const Status made = work.Query(fmt::format("{} lc_collate {} lc_ctype {}", make,
                                             Quoted(manifest.collate()), Quoted(manifest.ctype())))
                          .status();
  if (made.ok() || Message(made).find("locale") == std::string_view::npos) return made;
  context.Note(
      fmt::format("the server has no locale {}: restored with C instead", manifest.collate()));
  return work.Query(make + "lc_collate 'C' lc_ctype 'C'").status();
}

Status FillDatabase(TaskContext& context, const Workspace& workspace, const PgServer& server,
                    const std::string& programs, const ProveRequest& request) {
  MUSTER_ASSIGN_OR_RETURN(const exec::Fd password, server.PassFile());
  ProgramRequest program;
  program.argv = {programs + "/pg_restore", "--dbname=" + server.Conninfo(),
                  "--no-password",          "--exit-on-error",
                  "--no-tablespaces",       fmt::format("--jobs={}", request.parallel),
                  request.folder + "/dump"};
  program.in = password.get();
  program.confinement = ClientConfinement(program.argv[0]);
  program.watch = [&] { return workspace.CheckReserve(); };
  const Status filled = RunToolWell(context, std::move(program)).status();
  // Where the disk is full, that is why.
  if (!filled.ok() && !absl::IsAborted(filled)) MUSTER_RETURN_IF_ERROR(workspace.CheckReserve());
  return Annotate(filled, "the dump cannot be restored");
}

Status CompareDatabase(PgWork& work, const v1::BackupManifest& manifest) {
  Tables restored;
  for (const v1::TableRows& table : manifest.tables()) {
    const StatusOr<std::string> rows = work.Value("select count(*) from only " + table.table());
    if (!rows.ok()) return Annotate(rows.status(), "the restored table " + table.table());
    uint64_t number = 0;
    std::from_chars(rows->data(), rows->data() + rows->size(), number);
    v1::TableRows& found = *restored.Add();
    found.set_table(table.table());
    found.set_rows(number);
  }
  return Annotate(CompareTables(manifest.tables(), restored), "restored");
}

// Whether the server's own statistics say that as many rows were put into each table. Of a new
// database they are exact; where they are switched off, or late, that is no.
StatusOr<bool> AllWereInserted(PgWork& work, const v1::BackupManifest& manifest) {
  for (const v1::TableRows& table : manifest.tables()) {
    MUSTER_ASSIGN_OR_RETURN(
        const std::string inserted,
        work.Value(fmt::format("select pg_stat_get_tuples_inserted({}::regclass)",
                               Quoted(table.table()))));
    if (inserted != std::to_string(table.rows())) return false;
  }
  return true;
}

// Every row was written a moment ago, and the dump's files were those of the backup: of a large
// database it would take minutes to read them all again.
Status CompareWithStatistics(TaskContext& context, PgWork& work,
                             const v1::BackupManifest& manifest) {
  const absl::Duration until = context.clock().Uptime() + kStatisticsWithin;
  while (context.clock().Uptime() < until) {
    const StatusOr<bool> inserted = AllWereInserted(work, manifest);
    if (!inserted.ok()) break;
    if (*inserted) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(
        const std::string tracks,
        work.Value("select current_setting('track_counts') from pg_sleep(" +
                   std::to_string(absl::ToDoubleSeconds(kStatisticsEvery)) + ")"));
    if (tracks != "on") break;
  }
  return CompareDatabase(work, manifest);
}

int MajorOf(const std::string& version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

class PostgresProof {
 public:
  PostgresProof(TaskContext& context, const Workspace& workspace, const ProveRequest& request)
      : context_(context), workspace_(workspace), request_(request) {}

  Status Run() {
    MUSTER_RETURN_IF_ERROR(context_.Step("restores the backup into a throw-away server"));
    MUSTER_RETURN_IF_ERROR(Start());
    MUSTER_RETURN_IF_ERROR(Fill());
    MUSTER_RETURN_IF_ERROR(Compare());
    return Ask();
  }

 private:
  const std::string& database() const { return request_.manifest.database(); }

  Status Start() {
    MUSTER_ASSIGN_OR_RETURN(programs_, FindPostgres(MajorOf(request_.manifest.server_version()),
                                                    "initdb", "postgresql"));
    const std::string& name = request_.verify.user();
    MUSTER_ASSIGN_OR_RETURN(const ServerUser user,
                            ServerUser::Find(name.empty() ? "postgres" : name));
    MUSTER_ASSIGN_OR_RETURN(folder_, MakeServerFolder(workspace_, user));
    MUSTER_RETURN_IF_ERROR(CheckSocket(folder_ + "/.s.PGSQL.5432"));
    const std::string data = folder_ + "/data";
    MUSTER_RETURN_IF_ERROR(
        RunToolWell(context_, {.argv = user.As({programs_ + "/initdb", "--pgdata=" + data,
                                                std::string("--username=") + kOwner, "--auth=trust",
                                                "--encoding=UTF8", "--locale=C", "--no-sync",
                                                "--no-instructions"})})
            .status());
    MUSTER_ASSIGN_OR_RETURN(server_,
                            ThrowAway::Start(context_, folder_, user, Argv(data), SIGQUIT));
    return server_->WaitUntil([&] { return PgWork::Open(At("template1"), context_).status(); },
                              kStartWithin);
  }

  // No network, no archive, and none of the care that a server takes of data that matters.
  std::vector<std::string> Argv(const std::string& data) const {
    std::vector<std::string> argv = {programs_ + "/postgres", "-D", data};
    for (const char* setting :
         {"listen_addresses=", "port=5432", "archive_mode=off", "wal_level=minimal",
          "max_wal_senders=0", "fsync=off", "full_page_writes=off", "synchronous_commit=off",
          "autovacuum=off", "logging_collector=off", "log_destination=stderr", "ssl=off",
          "max_wal_size=4GB", "shared_buffers=64MB", "jit=off",
          // Not where the real servers of this user have theirs.
          "dynamic_shared_memory_type=mmap"}) {
      argv.insert(argv.end(), {"-c", setting});
    }
    argv.insert(argv.end(), {"-c", "unix_socket_directories=" + folder_});
    return argv;
  }

  PgServer At(const std::string& name) const { return PgServer::Own(folder_, kOwner, name); }

  Status Fill() {
    MUSTER_RETURN_IF_ERROR(MakeRoles());
    if (database() != "template1") {
      MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<PgWork> work,
                              PgWork::Open(At("template1"), context_));
      MUSTER_RETURN_IF_ERROR(
          work->Query("drop database if exists " + QuotedName(database())).status());
      MUSTER_RETURN_IF_ERROR(MakeDatabase(context_, *work, request_.manifest, database()));
    }
    return FillDatabase(context_, workspace_, At(database()), programs_, request_);
  }

  // psql does more than SQL where a line begins with a backslash: names of roles have been known to
  // bring that along (CVE-2025-8715).
  Status MakeRoles() {
    ProgramRequest program;
    program.argv = {programs_ + "/psql",
                    "--no-psqlrc",
                    "--quiet",
                    "--set=ON_ERROR_STOP=1",
                    "--dbname=" + At("template1").Conninfo(),
                    "--file=" + request_.folder + "/roles.sql"};
    program.on_out = [](std::string_view) {};
    program.confinement = ClientConfinement(program.argv[0]);
    return Annotate(RunToolWell(context_, std::move(program)).status(),
                    "the roles cannot be restored");
  }

  Status Compare() {
    MUSTER_ASSIGN_OR_RETURN(work_, PgWork::Open(At(database()), context_));
    return CompareDatabase(*work_, request_.manifest);
  }

  // Who asks the operator's queries.
  Status MakeReader() {
    const std::string role = QuotedName(kReader);
    MUSTER_RETURN_IF_ERROR(work_->Query("create role " + role + " login bypassrls").status());
    if (MajorOf(request_.manifest.server_version()) >= kReadAllSince) {
      return work_->Query("grant pg_read_all_data to " + role).status();
    }
    MUSTER_ASSIGN_OR_RETURN(
        const PgTable schemas,
        work_->Query("select quote_ident(nspname) from pg_namespace where nspname !~ '^pg_' and "
                     "nspname <> 'information_schema'"));
    for (const auto& schema : schemas) {
      MUSTER_RETURN_IF_ERROR(
          work_->Query(fmt::format("grant usage on schema {} to {}", schema[0], role)).status());
      MUSTER_RETURN_IF_ERROR(
          work_
              ->Query(fmt::format("grant select on all tables in schema {} to {}", schema[0], role))
              .status());
    }
    return OkStatus();
  }

  Status Ask() {
    if (request_.verify.queries().empty()) return OkStatus();
    MUSTER_RETURN_IF_ERROR(MakeReader());
    MUSTER_ASSIGN_OR_RETURN(work_,
                            PgWork::Open(PgServer::Own(folder_, kReader, database()), context_));
    for (const std::string& query : request_.verify.queries()) {
      const StatusOr<std::string> answer = work_->Value(query);
      if (!answer.ok()) {
        return Annotate(answer.status(), fmt::format("the query \"{}\"", OneLine(query)));
      }
      if (*answer == "t") continue;
      return DataLoss("the restored database answers '{}', not true, to: {}",
                      OneLine(Truncate(*answer, 100)), OneLine(query));
    }
    return OkStatus();
  }

  TaskContext& context_;
  const Workspace& workspace_;
  const ProveRequest& request_;
  std::string programs_;
  std::string folder_;
  std::unique_ptr<ThrowAway> server_;
  std::unique_ptr<PgWork> work_;
};

}  // namespace

Status ProvePostgres(TaskContext& context, const Workspace& workspace,
                     const ProveRequest& request) {
  return PostgresProof(context, workspace, request).Run();
}

Status RestoreDatabase(TaskContext& context, const Workspace& workspace, const PgServer& server,
                       const ProveRequest& request, const std::string& database) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<PgWork> work, PgWork::Open(server, context));
  MUSTER_ASSIGN_OR_RETURN(const std::string version,
                          work->Value("select current_setting('server_version')"));
  MUSTER_ASSIGN_OR_RETURN(const std::string programs,
                          FindPostgres(MajorOf(version), "pg_restore", "postgresql-client"));
  MUSTER_RETURN_IF_ERROR(context.Step("makes the database " + database));
  MUSTER_RETURN_IF_ERROR(MakeDatabase(context, *work, request.manifest, database));
  const PgServer target = server.Database(database);
  Status filled = FillDatabase(context, workspace, target, programs, request);
  if (filled.ok()) {
    const StatusOr<std::unique_ptr<PgWork>> restored = PgWork::Open(target, context);
    filled = restored.ok() ? CompareWithStatistics(context, **restored, request.manifest)
                           : restored.status();
  }
  // Where the run is to end nothing can be asked of the server any more.
  if (!filled.ok() && !work->Query("drop database " + QuotedName(database)).ok()) {
    context.Note(fmt::format("the database {} is left half restored: drop it", database));
  }
  return filled;
}

}  // namespace muster::agent::backup
