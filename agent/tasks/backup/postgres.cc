#include "agent/tasks/backup/postgres.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <libpq-fe.h>
#include <poll.h>

#include "agent/tasks/backup/programs.h"
#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr absl::Duration kConnectWithin = absl::Seconds(20);
constexpr int kLookMilliseconds = 200;

std::string Escaped(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string Get(const PgSettings& settings, const char* keyword) {
  const auto found = settings.find(keyword);
  return found == settings.end() ? "" : found->second;
}

std::string Doubled(std::string_view text, char quote) {
  std::string quoted(1, quote);
  for (const char c : text) {
    if (c == quote) quoted += c;
    quoted += c;
  }
  return quoted + quote;
}

// The first of what PostgreSQL says, with its code.
Status Said(const PGresult* result) {
  const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (primary == nullptr || code == nullptr) {
    return Unavailable("{}", OneLine(Trim(PQresultErrorMessage(result))));
  }
  return Unavailable("{} (SQLSTATE {})", OneLine(primary), code);
}

}  // namespace

Status Advised(const Status& status) {
  const std::string_view said = Message(status);
  if (status.ok() || said.find("FATAL: ") == std::string_view::npos) return status;
  for (const std::string_view mark : {"authentication failed", "no pg_hba.conf entry",
                                      "\" does not exist", "permitted to log in"}) {
    if (said.find(mark) == std::string_view::npos) continue;
    return PermissionDenied(
        "{}: see to the user, the password and the database in the connection string, and to the "
        "server's pg_hba.conf",
        said);
  }
  return status;
}

std::string Quoted(std::string_view text) { return Doubled(text, '\''); }
std::string QuotedName(std::string_view name) { return Doubled(name, '"'); }

StatusOr<PgServer> PgServer::At(std::string_view dsn, const Policy& policy, TaskContext& context) {
  PgServer server;
  MUSTER_ASSIGN_OR_RETURN(server.settings_, ParsePgSettings(dsn));
  if (const auto found = server.settings_.find("password"); found != server.settings_.end()) {
    server.password_ = std::make_shared<const Secret>(found->second);
    WipeText(found->second);
    server.settings_.erase(found);
    server.settings_.erase("passfile");
  }
  if (const auto found = server.settings_.find("sslpassword"); found != server.settings_.end()) {
    WipeText(found->second);
    return InvalidArgument(
        "sslpassword cannot be given to pg_dump without showing it to every "
        "user of the host: use a key without a password, which only the agent "
        "can read");
  }
  MUSTER_RETURN_IF_ERROR(AllowPgFiles(server.settings_, policy));
  const ProbeContext within{context.clock(), context.clock().Uptime() + kConnectWithin};
  Report report(within);
  MUSTER_RETURN_IF_ERROR(PinPgHost(server.settings_, policy, within, report));
  server.settings_["application_name"] = "muster";
  server.settings_["client_encoding"] = "UTF8";
  return server;
}

PgServer PgServer::Own(const std::string& folder, const std::string& user,
                       const std::string& database) {
  PgServer server;
  server.settings_ = {{"host", folder},
                      {"port", "5432"},
                      {"user", user},
                      {"dbname", database},
                      {"client_encoding", "UTF8"}};
  return server;
}

PgServer PgServer::Database(const std::string& name) const {
  PgServer other = *this;
  other.settings_["dbname"] = name;
  return other;
}

std::string PgServer::Conninfo() const {
  std::string text;
  for (const auto& [keyword, value] : settings_) {
    // pg_dump and pg_restore choose the encoding themselves.
    if (keyword == "client_encoding") continue;
    text += fmt::format("{}='{}' ", keyword, Escaped(value, "'\\"));
  }
  // None of the user's own: a password is what the connection string holds.
  if (!settings_.contains("passfile")) {
    // Where there is none, a name that no file can have: libpq warns of others at every connection.
    text += fmt::format("passfile={}", password_->empty() ? "/dev/null/none" : kStdin);
  }
  return text;
}

StatusOr<exec::Fd> PgServer::PassFile() const {
  if (password_->empty()) return exec::Fd();
  std::string line = "*:*:*:*:" + Escaped(password_->Reveal(), ":\\") + "\n";
  StatusOr<exec::Fd> file = MemoryFile(line);
  WipeText(line);
  return file;
}

std::string PgServer::Name() const {
  const std::string host = Get(settings_, "host");
  return fmt::format("{}:{}", host.empty() ? Get(settings_, "hostaddr") : host,
                     Get(settings_, "port"));
}

StatusOr<std::unique_ptr<PgWork>> PgWork::Open(const PgServer& server, TaskContext& context) {
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  for (const auto& [keyword, value] : server.settings()) {
    keywords.push_back(keyword.c_str());
    values.push_back(value.c_str());
  }
  std::string password(server.password());
  if (!password.empty()) {
    keywords.push_back("password");
    values.push_back(password.c_str());
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  std::unique_ptr<PgWork> work(
      new PgWork(PQconnectStartParams(keywords.data(), values.data(), 0), context));
  WipeText(password);
  MUSTER_RETURN_IF_ERROR(Advised(work->Connect(kConnectWithin)));
  return work;
}

PgWork::~PgWork() { PQfinish(connection_); }

Status PgWork::Error() const {
  const std::string line = OneLine(Trim(PQerrorMessage(connection_)));
  return Unavailable("{}", line.empty() ? "PostgreSQL closed the connection" : line);
}

// Until the socket is ready; DeadlineExceeded at `until`, by uptime.
Status PgWork::Wait(short events, absl::Duration until) {
  while (true) {
    if (context_.demand() != Demand::kNone) {
      Cancel();
      return Aborted("the run is to end");
    }
    if (context_.clock().Uptime() > until) return DeadlineExceeded("PostgreSQL took too long");
    pollfd fd{.fd = PQsocket(connection_), .events = events, .revents = 0};
    if (fd.fd < 0) return Error();
    const int ready = poll(&fd, 1, kLookMilliseconds);
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Unavailable("poll: {}", std::strerror(errno));
  }
}

// So that the server does not go on with what nobody waits for.
void PgWork::Cancel() const {
  if (PQstatus(connection_) != CONNECTION_OK) return;
  std::array<char, 256> error{};
  if (PGcancel* cancel = PQgetCancel(connection_); cancel != nullptr) {
    (void)PQcancel(cancel, error.data(), static_cast<int>(error.size()));
    PQfreeCancel(cancel);
  }
}

Status PgWork::Connect(absl::Duration within) {
  if (connection_ == nullptr) return Internal("libpq has no memory");
  if (PQstatus(connection_) == CONNECTION_BAD) return Error();
  const absl::Duration until = context_.clock().Uptime() + within;
  PostgresPollingStatusType want = PGRES_POLLING_WRITING;
  while (want != PGRES_POLLING_OK) {
    if (want == PGRES_POLLING_FAILED) return Error();
    MUSTER_RETURN_IF_ERROR(Wait(want == PGRES_POLLING_READING ? POLLIN : POLLOUT, until));
    want = PQconnectPoll(connection_);
  }
  return OkStatus();
}

StatusOr<PgTable> PgWork::Query(const std::string& sql) {
  if (PQsendQuery(connection_, sql.c_str()) != 1) return Error();
  PgTable table;
  Status failed;
  while (true) {
    while (PQisBusy(connection_) != 0) {
      MUSTER_RETURN_IF_ERROR(Wait(POLLIN, absl::InfiniteDuration()));
      if (PQconsumeInput(connection_) != 1) return Error();
    }
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQgetResult(connection_), &PQclear);
    if (result == nullptr) break;
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
      failed.Update(Said(result.get()));
      if (status != PGRES_FATAL_ERROR) return failed;
      continue;
    }
    table.clear();
    for (int row = 0; row < PQntuples(result.get()); ++row) {
      std::vector<std::string>& columns = table.emplace_back();
      for (int column = 0; column < PQnfields(result.get()); ++column)
        columns.emplace_back(PQgetvalue(result.get(), row, column));
    }
  }
  MUSTER_RETURN_IF_ERROR(failed);
  return table;
}

StatusOr<std::string> PgWork::Value(const std::string& sql) {
  MUSTER_ASSIGN_OR_RETURN(PgTable table, Query(sql));
  if (!table.empty() && !table[0].empty()) return std::move(table[0][0]);
  return DataLoss("PostgreSQL answered no row to: {}", OneLine(sql));
}

}  // namespace muster::agent::backup
