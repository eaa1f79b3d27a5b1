#include "agent/probes/pg_session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <libpq-fe.h>
#include <poll.h>

#include "agent/probes/pg_address.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr size_t kMostRows = 100;

PGconn* Start(const PgSettings& settings) {
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  for (const auto& [keyword, value] : settings) {
    keywords.push_back(keyword.c_str());
    values.push_back(value.c_str());
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  return PQconnectStartParams(keywords.data(), values.data(), 0);
}

}  // namespace

PgSession::~PgSession() { PQfinish(connection_); }

StatusOr<std::unique_ptr<PgSession>> PgSession::Open(std::string_view dsn, const Policy& policy,
                                                     const ProbeContext& context, Report& report) {
  MUSTER_ASSIGN_OR_RETURN(PgSettings settings, ParsePgSettings(dsn));
  MUSTER_RETURN_IF_ERROR(AllowPgFiles(settings, policy));
  MUSTER_RETURN_IF_ERROR(PinPgHost(settings, policy, context, report));
  settings["application_name"] = "muster";
  settings["client_encoding"] = "UTF8";
  report.Begin("connect",
               fmt::format("connecting to PostgreSQL at {} port {}",
                           settings.contains("hostaddr") ? settings["hostaddr"] : settings["host"],
                           settings["port"]));
  std::unique_ptr<PgSession> session(new PgSession(Start(settings)));
  if (const auto password = settings.find("password"); password != settings.end())
    WipeText(password->second);
  MUSTER_RETURN_IF_ERROR(session->Connect(context));
  report.Begin("query", "waiting for PostgreSQL's answer");
  MUSTER_RETURN_IF_ERROR(session->Begin(context));
  return session;
}

Status PgSession::Error() const {
  const std::string line = OneLine(Trim(PQerrorMessage(connection_)));
  return Unavailable("{}", line.empty() ? "PostgreSQL closed the connection" : line);
}

Status PgSession::Wait(short events, const ProbeContext& context) const {
  while (true) {
    const int left = LeftMilliseconds(context);
    if (left == 0) return DeadlineExceeded("PostgreSQL took too long");
    pollfd fd{.fd = PQsocket(connection_), .events = events, .revents = 0};
    if (fd.fd < 0) return Error();
    const int ready = poll(&fd, 1, left);
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Unavailable("poll: {}", std::strerror(errno));
  }
}

Status PgSession::Connect(const ProbeContext& context) {
  if (connection_ == nullptr) return Internal("libpq has no memory");
  if (PQstatus(connection_) == CONNECTION_BAD) return Error();
  PostgresPollingStatusType want = PGRES_POLLING_WRITING;
  while (want != PGRES_POLLING_OK) {
    if (want == PGRES_POLLING_FAILED) return Error();
    MUSTER_RETURN_IF_ERROR(Wait(want == PGRES_POLLING_READING ? POLLIN : POLLOUT, context));
    want = PQconnectPoll(connection_);
  }
  PQsetnonblocking(connection_, 1);
  return OkStatus();
}

// The server ends the statement by itself soon after the probe has given up.
Status PgSession::Begin(const ProbeContext& context) {
  const std::string sql =
      fmt::format("begin transaction read only; set local statement_timeout = {}",
                  std::max(1, LeftMilliseconds(context)) + 100);
  if (PQsendQuery(connection_, sql.c_str()) != 1) return Error();
  return Collect(context).status();
}

StatusOr<PgRows> PgSession::Query(const std::string& sql, const ProbeContext& context) {
  if (PQsendQueryParams(connection_, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) != 1)
    return Error();
  return Collect(context);
}

StatusOr<PgRows> PgSession::Collect(const ProbeContext& context) {
  for (int left = 1; (left = PQflush(connection_)) != 0;) {
    if (left < 0) return Error();
    MUSTER_RETURN_IF_ERROR(Wait(POLLIN | POLLOUT, context));
    if (PQconsumeInput(connection_) != 1) return Error();
  }
  PgRows found;
  Status failed;
  while (true) {
    while (PQisBusy(connection_) != 0) {
      MUSTER_RETURN_IF_ERROR(Wait(POLLIN, context));
      if (PQconsumeInput(connection_) != 1) return Error();
    }
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQgetResult(connection_), &PQclear);
    if (result == nullptr) break;
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
      failed.Update(Unavailable("{}", OneLine(Trim(PQresultErrorMessage(result.get())))));
      if (status != PGRES_FATAL_ERROR)
        return Unavailable("the statement is not one that gives rows");
      continue;
    }
    const int rows = std::min(PQntuples(result.get()), static_cast<int>(kMostRows));
    for (int row = 0; row < rows; ++row) {
      std::vector<std::string>& columns = found.rows.emplace_back();
      for (int column = 0; column < PQnfields(result.get()); ++column) {
        columns.emplace_back(PQgetvalue(result.get(), row, column));
      }
    }
  }
  MUSTER_RETURN_IF_ERROR(failed);
  return found;
}

}  // namespace muster::agent
