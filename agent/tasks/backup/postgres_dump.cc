// One database by pg_dump, in the snapshot of a session that counts the rows; and the roles and
// tablespaces of its server.
#include <filesystem>

#include "agent/tasks/backup/bytes.h"
#include "agent/tasks/backup/engine.h"
#include "agent/tasks/backup/filling.h"
#include "agent/tasks/backup/manifest.h"
#include "agent/tasks/backup/postgres.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent::backup {
namespace {

constexpr char kClient[] = "postgresql-client";
constexpr char kDump[] = "dump";  // in the folder of what is made

// A lock that is not to be had within a minute is somebody's long transaction: waiting for it
// would make everybody else wait behind the dump.
constexpr char kBegin[] =
    "begin isolation level repeatable read read only; set local lock_timeout = '60s'; "
    "set local statement_timeout = 0; set local row_security = off; "
    "set local idle_in_transaction_session_timeout = 0; set local search_path = pg_catalog";
constexpr char kFacts[] =
    "select current_setting('server_version_num'), current_setting('server_version'), "
    "(select system_identifier from pg_control_system()), current_database(), "
    "pg_encoding_to_char(encoding), datcollate, datctype, "
    "(select rolsuper from pg_roles where rolname = current_user), "
    "pg_database_size(oid) from pg_database where datname = current_database()";
// What pg_dump writes rows of, but for extensions' own tables: those it writes in part.
constexpr char kTables[] =
    "select c.oid, format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid) from pg_class c "
    "join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and "
    "c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and "
    "not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and "
    "d.objid = c.oid and d.deptype = 'e') order by 2";

struct Table {
  std::string oid;
  std::string name;
  uint64_t bytes = 0;
  uint64_t rows = 0;
};

struct Facts {
  int major = 0;
  std::string version;
  std::string system_identifier;
  std::string database;
  std::string encoding;
  std::string collate;
  std::string ctype;
  bool superuser = false;
  uint64_t bytes = 0;
};

uint64_t LinesIn(std::string_view bytes) {
  uint64_t lines = 0;
  for (size_t at = bytes.find('\n'); at != bytes.npos; at = bytes.find('\n', at + 1)) ++lines;
  return lines;
}

struct DataFile {
  std::string oid;  // of its table
  uint64_t lines = 0;
};

// The dump's own files of rows, by path, as its list of contents names them.
//   "3346; 0 16384 TABLE DATA public t postgres" is dump/3346.dat, of the table with oid 16384
std::map<std::string, DataFile> DataFiles(const std::string& list) {
  std::map<std::string, DataFile> files;
  for (const std::string_view line : Split(list, '\n')) {
    const std::vector<std::string_view> words = Split(line, ' ');
    if (words.size() < 5 || words[3] != "TABLE" || words[4] != "DATA") continue;
    files[fmt::format("{}/{}.dat", kDump, words[0].substr(0, words[0].find(';')))].oid = words[2];
  }
  return files;
}

class PostgresDump final : public Engine {
 public:
  PostgresDump(v1::PostgresSource spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  std::string What() const override { return "a PostgreSQL database, by pg_dump"; }

  StatusOr<Need> Plan(TaskContext& context) override {
    MUSTER_RETURN_IF_ERROR(Reach(context));
    MUSTER_ASSIGN_OR_RETURN(work_, PgWork::Open(*server_, context));
    taken_at_ = context.clock().Now();
    MUSTER_RETURN_IF_ERROR(work_->Query(kBegin).status());
    MUSTER_RETURN_IF_ERROR(ReadFacts());
    MUSTER_ASSIGN_OR_RETURN(programs_, FindPostgres(facts_.major, "pg_dump", kClient));
    MUSTER_ASSIGN_OR_RETURN(const PgTable rows, work_->Query(kTables));
    uint64_t bytes = 0;
    for (const auto& row : rows) {
      tables_.push_back({row[0], row[1], LeadingNumber(row[2]), 0});
      bytes += tables_.back().bytes;
    }
    planned_ = bytes;
    // As text a row may be larger than in the table.
    return Need{bytes + bytes / 4 + (16 << 20), facts_.bytes + (64 << 20)};
  }

  Status Produce(TaskContext& context, const Workspace& workspace, const std::string& folder,
                 v1::BackupManifest& manifest) override {
    MUSTER_ASSIGN_OR_RETURN(const std::string snapshot,
                            work_->Value("select pg_export_snapshot()"));
    MUSTER_RETURN_IF_ERROR(CountRows(context));
    MUSTER_RETURN_IF_ERROR(Dump(context, workspace, folder + "/" + kDump, snapshot));
    work_.reset();
    MUSTER_RETURN_IF_ERROR(DumpGlobals(context, folder, "roles"));
    MUSTER_RETURN_IF_ERROR(DumpGlobals(context, folder, "tablespaces"));
    Tell(manifest);
    MUSTER_RETURN_IF_ERROR(ReadClientVersion(context, manifest));
    return NotKept(Check(context, folder, manifest), workspace);
  }

  ResticSource Source(const std::string& folder) const override {
    return {.directory = folder, .paths = {"."}, .exclude = {}};
  }

 private:
  Status Reach(TaskContext& context) {
    MUSTER_ASSIGN_OR_RETURN(server_, PgServer::Of(spec_, policy_, context));
    return OkStatus();
  }

  Status ReadFacts() {
    MUSTER_ASSIGN_OR_RETURN(const PgTable rows, work_->Query(kFacts));
    if (rows.empty()) return DataLoss("PostgreSQL says nothing of its database");
    const std::vector<std::string>& row = rows[0];
    facts_ = {static_cast<int>(LeadingNumber(row[0]) / 10'000),
              row[1],
              row[2],
              row[3],
              row[4],
              row[5],
              row[6],
              row[7] == "t",
              LeadingNumber(row[8])};
    return OkStatus();
  }

  // In the session whose snapshot pg_dump takes. It also holds a lock on each table until the dump
  // is over, so that none is emptied or changed in between.
  Status CountRows(TaskContext& context) {
    for (Table& table : tables_) {
      const StatusOr<std::string> rows = work_->Value("select count(*) from only " + table.name);
      if (!rows.ok()) return CannotCount(table, rows.status());
      table.rows = LeadingNumber(*rows);
      v1::RunProgress progress;
      progress.set_done(static_cast<uint64_t>(&table - tables_.data()) + 1);
      progress.set_total(tables_.size());
      progress.set_unit("tables");
      progress.set_text("counted " + table.name);
      context.Progress(std::move(progress));
    }
    return OkStatus();
  }

  static Status CannotCount(const Table& table, const Status& why) {
    const Status annotated = Annotate(why, fmt::format("counting the rows of {}", table.name));
    if (Message(why).find("SQLSTATE 42501") == std::string_view::npos) return annotated;
    return PermissionDenied("{}: grant pg_read_all_data to the user", Message(annotated));
  }

  Status Dump(TaskContext& context, const Workspace& workspace, const std::string& target,
              const std::string& snapshot) const {
    MUSTER_RETURN_IF_ERROR(context.Step("dumps the database into " + target));
    MUSTER_ASSIGN_OR_RETURN(const exec::Fd password, server_->PassFile());
    ProgramRequest request;
    request.argv = {programs_ + "/pg_dump",
                    "--dbname=" + server_->Conninfo(),
                    "--no-password",
                    "--format=directory",
                    "--compress=0",
                    "--lock-wait-timeout=60s",
                    fmt::format("--jobs={}", std::max(1U, spec_.parallel())),
                    "--snapshot=" + snapshot,
                    "--file=" + target};
    request.in = password.get();
    request.watch = TellFilling(context, target, planned_, "dumping",
                                [&workspace] { return workspace.CheckReserve(); });
    const Status dumped = RunToolWell(context, std::move(request)).status();
    // Whatever pg_dump says of a full disk, how much is left and what to do is told.
    if (!dumped.ok() && !absl::IsAborted(dumped)) MUSTER_RETURN_IF_ERROR(workspace.CheckReserve());
    return Advised(dumped);
  }

  // Without the passwords of roles where the user may not see them.
  Status DumpGlobals(TaskContext& context, const std::string& folder, const char* which) const {
    MUSTER_ASSIGN_OR_RETURN(const exec::Fd password, server_->PassFile());
    ProgramRequest request;
    request.argv = {
        programs_ + "/pg_dumpall",       "--dbname=" + server_->Conninfo(),
        "--database=" + facts_.database, "--no-password",
        fmt::format("--{}-only", which), fmt::format("--file={}/{}.sql", folder, which)};
    if (!facts_.superuser) request.argv.emplace_back("--no-role-passwords");
    request.in = password.get();
    if (!facts_.superuser && std::string_view(which) == "roles") {
      context.Note("the user is no superuser: roles are kept without their passwords");
    }
    return Advised(RunToolWell(context, std::move(request)).status());
  }

  void Tell(v1::BackupManifest& manifest) const {
    manifest.set_engine(v1::BACKUP_ENGINE_POSTGRES_DUMP);
    *manifest.mutable_taken_at() = wire::ToProto(taken_at_);
    manifest.set_source(
        OneLine(fmt::format("database {} at {}", facts_.database, server_->Name())));
    manifest.set_system_identifier(facts_.system_identifier);
    manifest.set_database(facts_.database);
    manifest.set_server_version(facts_.version);
    manifest.set_encoding(facts_.encoding);
    manifest.set_collate(facts_.collate);
    manifest.set_ctype(facts_.ctype);
    for (const Table& table : tables_) {
      v1::TableRows& rows = *manifest.add_tables();
      rows.set_table(table.name);
      rows.set_rows(table.rows);
    }
  }

  Status ReadClientVersion(TaskContext& context, v1::BackupManifest& manifest) const {
    MUSTER_ASSIGN_OR_RETURN(const ToolEnd end,
                            RunToolWell(context, {.argv = {programs_ + "/pg_dump", "--version"}}));
    manifest.set_client_version(std::string(Truncate(Trim(end.out), wire::kMostNameBytes)));
    return OkStatus();
  }

  // pg_dump's exit code is not enough: its list of contents must name every table, and each
  // table's file must hold as many rows as the table did.
  Status Check(TaskContext& context, const std::string& folder,
               v1::BackupManifest& manifest) const {
    const StatusOr<ToolEnd> list =
        RunToolWell(context, {.argv = {programs_ + "/pg_restore", "--list", folder + "/" + kDump}});
    if (absl::IsUnavailable(list.status())) {
      return DataLoss("the dump cannot be read: {}", Message(list.status()));
    }
    MUSTER_RETURN_IF_ERROR(list.status());
    std::map<std::string, DataFile> files = DataFiles(list->out);
    MUSTER_ASSIGN_OR_RETURN(
        const Files hashed,
        HashSub(context, folder, kDump, [&](const std::string& path, std::string_view bytes) {
          const auto found = files.find(path);
          if (found != files.end()) found->second.lines += LinesIn(bytes);
        }));
    std::map<std::string, uint64_t> lines;
    for (const auto& [path, file] : files) {
      if (file.lines > 0) lines[file.oid] += file.lines;
    }
    manifest.mutable_files()->Assign(hashed.begin(), hashed.end());
    for (const Table& table : tables_) MUSTER_RETURN_IF_ERROR(CheckTable(table, lines));
    return OkStatus();
  }

  static Status NotKept(const Status& check, const Workspace& workspace) {
    if (!absl::IsDataLoss(check)) return check;
    return DataLoss(
        "{}: nothing was put into the repository. Run it again, and if that comes back look at the "
        "disk of {}",
        Message(check), workspace.staging());
  }

  // Behind the rows stand "\." and two empty lines.
  static Status CheckTable(const Table& table, const std::map<std::string, uint64_t>& lines) {
    constexpr uint64_t kEndLines = 3;
    const auto found = lines.find(table.oid);
    if (found == lines.end()) return DataLoss("the dump does not hold the table {}", table.name);
    if (found->second == table.rows + kEndLines) return OkStatus();
    return DataLoss("the dump holds {} rows of {}, and the database {}",
                    found->second - std::min(kEndLines, found->second), table.name, table.rows);
  }

  const v1::PostgresSource spec_;
  const Policy policy_;
  std::optional<PgServer> server_;
  std::unique_ptr<PgWork> work_;  // holds the snapshot
  absl::Time taken_at_;
  Facts facts_;
  std::vector<Table> tables_;
  uint64_t planned_ = 0;
  std::string programs_;  // of PostgreSQL, a folder
};

}  // namespace

EngineOr MakePostgresDump(const v1::PostgresSource& spec, const Policy& policy) {
  if (spec.has_connection()) {
    MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.connection().secret()));
  } else if (spec.dsn().empty()) {
    return InvalidArgument("a backup of PostgreSQL needs a connection or a dsn");
  }
  return std::make_unique<PostgresDump>(spec, policy);
}

}  // namespace muster::agent::backup
