#include "agent/tasks/backup/physical_server.h"

#include <charconv>
#include <csignal>
#include <filesystem>

#include "agent/tasks/backup/postgres.h"
#include "agent/tasks/backup/programs.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr absl::Duration kStartWithin = absl::Minutes(2);
constexpr int kReadAllSince = 14;  // pg_read_all_data
constexpr char kSingleDatabase[] = "template1";
constexpr char kOnlyDatabase[] =
    "select datname from pg_database where datallowconn and not datistemplate and "
    "datname <> 'postgres'";

// The database that a query names in front of it; "" if it names none.
std::string DatabaseOf(std::string_view query) {
  constexpr std::string_view kBegin = "/* database: ";
  query = Trim(query);
  if (!query.starts_with(kBegin)) return "";
  query.remove_prefix(kBegin.size());
  return std::string(Trim(query.substr(0, query.find("*/"))));
}

class PhysicalProof {
 public:
  PhysicalProof(TaskContext& context, const PhysicalServer& server)
      : context_(context),
        server_(server),
        data_(server.folder + "/data"),
        role_("muster_" + context.run_id().substr(0, 8)) {}

  Status Run() {
    MUSTER_RETURN_IF_ERROR(FindPrograms());
    MUSTER_RETURN_IF_ERROR(WriteConfiguration());
    MUSTER_RETURN_IF_ERROR(Recover());
    MUSTER_RETURN_IF_ERROR(Start());
    MUSTER_RETURN_IF_ERROR(Compare());
    for (const std::string& query : server_.verify.queries()) MUSTER_RETURN_IF_ERROR(Ask(query));
    return OkStatus();
  }

 private:
  Status FindPrograms() {
    MUSTER_RETURN_IF_ERROR(CheckSocket(server_.folder + "/.s.PGSQL.5432"));
    MUSTER_ASSIGN_OR_RETURN(major_, DataVersion(data_));
    MUSTER_ASSIGN_OR_RETURN(programs_, FindPostgres(major_, "postgres", "postgresql"));
    if (programs_ == fmt::format("{}/{}/bin", kPostgresPrograms, major_)) return OkStatus();
    return NotFound(
        "a server of PostgreSQL {} can only be proven by that version, which this host does not "
        "have: run apt-get install postgresql-{}",
        major_, major_);
  }

  // What the server was run with may name programs, libraries and files that are not here.
  Status WriteConfiguration() const {
    std::error_code error;
    std::filesystem::remove(data_ + "/standby.signal", error);
    for (const auto& [name, text] :
         {std::pair{data_ + "/postgresql.auto.conf", std::string()},
          std::pair{server_.folder + "/server.conf", std::string("listen_addresses = ''\n")},
          std::pair{server_.folder + "/hba.conf", std::string("local all all trust\n")}}) {
      MUSTER_RETURN_IF_ERROR(WriteFileAtomically(name, text));
      MUSTER_RETURN_IF_ERROR(server_.user.Own(name));
    }
    return OkStatus();
  }

  std::vector<std::string> Settings() const {
    std::vector<std::string> argv;
    for (const std::string& setting :
         {"config_file=" + server_.folder + "/server.conf",
          "hba_file=" + server_.folder + "/hba.conf", "unix_socket_directories=" + server_.folder,
          std::string("port=5432"), std::string("archive_mode=off"), std::string("fsync=off"),
          std::string("hot_standby=off"), std::string("max_prepared_transactions=500"),
          std::string("autovacuum=off"), std::string("max_wal_senders=0"),
          std::string("shared_buffers=64MB"), std::string("jit=off"),
          std::string("dynamic_shared_memory_type=mmap"),
          std::string("recovery_target=") + (server_.restore_command.empty() ? "" : "immediate"),
          std::string("recovery_target_action=promote"),
          "restore_command=" + server_.restore_command}) {
      argv.insert(argv.end(), {"-c", setting});
    }
    return argv;
  }

  // In single-user mode: it takes no name and no password, and nobody else can be there.
  Status Recover() {
    MUSTER_RETURN_IF_ERROR(context_.Step("recovers the restored server"));
    std::string sql = fmt::format("create role \"{}\" login bypassrls\n", role_);
    if (major_ >= kReadAllSince) sql += fmt::format("grant pg_read_all_data to \"{}\"\n", role_);
    MUSTER_ASSIGN_OR_RETURN(const exec::Fd input, MemoryFile(sql));
    ProgramRequest request;
    request.argv = {programs_ + "/postgres", "--single", "-D", data_};
    const std::vector<std::string> settings = Settings();
    request.argv.insert(request.argv.end(), settings.begin(), settings.end());
    request.argv.emplace_back(kSingleDatabase);
    // Reading more of the log is pgBackRest's work, which may have to connect; nothing of what the
    // backup brings along is run before the server is open.
    if (server_.restore_command.empty()) {
      request.confinement = ServerConfinement(server_.user, request.argv[0], server_.folder);
    }
    request.argv = server_.user.As(std::move(request.argv));
    request.in = input.get();
    request.on_out = [](std::string_view) {};
    std::string log;
    request.on_err = [&](std::string_view bytes) {
      context_.Output(v1::RunOutput::STREAM_STDERR, bytes);
      log += bytes;
      if (log.size() > 64 << 10) log.erase(0, log.size() - (32 << 10));
    };
    const StatusOr<ToolEnd> end = RunTool(context_, std::move(request));
    MUSTER_RETURN_IF_ERROR(end.status());
    if (end->exit_code == 0) return OkStatus();
    if (log.find("No space left on device") != std::string::npos) {
      return ResourceExhausted(
          "the disk of {} is full: make room, or choose another staging folder", server_.folder);
    }
    return DataLoss("the restored server does not recover: {}", end->last_words);
  }

  Status Start() {
    std::vector<std::string> argv = {programs_ + "/postgres", "-D", data_};
    const std::vector<std::string> settings = Settings();
    argv.insert(argv.end(), settings.begin(), settings.end());
    MUSTER_ASSIGN_OR_RETURN(
        process_, ThrowAway::Start(context_, server_.folder, server_.user, argv, SIGQUIT));
    return process_->WaitUntil([&] { return PgWork::Open(At(kSingleDatabase), context_).status(); },
                               kStartWithin);
  }

  PgServer At(const std::string& database) const {
    return PgServer::Own(server_.folder, role_, database);
  }

  Status Compare() {
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<PgWork> work,
                            PgWork::Open(At(kSingleDatabase), context_));
    MUSTER_ASSIGN_OR_RETURN(const std::string system,
                            work->Value("select system_identifier from pg_control_system()"));
    if (system != server_.system_identifier) {
      return DataLoss("the restored server has the system identifier {}, not {}", system,
                      server_.system_identifier);
    }
    MUSTER_ASSIGN_OR_RETURN(const std::string recovering,
                            work->Value("select pg_is_in_recovery()"));
    if (recovering != "f") return DataLoss("the restored server did not end its recovery");
    MUSTER_ASSIGN_OR_RETURN(const PgTable databases, work->Query(kOnlyDatabase));
    database_ = server_.database;
    if (database_.empty()) database_ = databases.size() == 1 ? databases[0][0] : "postgres";
    return PgWork::Open(At(database_), context_).status();
  }

  Status Ask(const std::string& query) {
    const std::string named = DatabaseOf(query);
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<PgWork> work,
                            PgWork::Open(At(named.empty() ? database_ : named), context_));
    const StatusOr<std::string> answer = work->Value(query);
    if (!answer.ok()) {
      return Annotate(answer.status(), fmt::format("the query \"{}\"", OneLine(query)));
    }
    if (*answer == "t") return OkStatus();
    return DataLoss("the restored server answers '{}', not true, to: {}",
                    OneLine(Truncate(*answer, 100)), OneLine(query));
  }

  TaskContext& context_;
  const PhysicalServer& server_;
  const std::string data_;
  const std::string role_;
  int major_ = 0;
  std::string programs_;
  std::string database_;
  std::unique_ptr<ThrowAway> process_;
};

}  // namespace

StatusOr<int> DataVersion(const std::string& data) {
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadFile(data + "/PG_VERSION"));
  int major = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), major);
  if (error == std::errc() && major > 0) return major;
  return DataLoss("{}/PG_VERSION names no version of PostgreSQL", data);
}

Status ProveServer(TaskContext& context, const PhysicalServer& server) {
  return PhysicalProof(context, server).Run();
}

}  // namespace muster::agent::backup
