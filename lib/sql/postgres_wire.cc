#include "lib/sql/postgres_wire.h"

#include <poll.h>

#include <algorithm>

#include "lib/base/clock.h"
#include "lib/base/text.h"

namespace muster::sql {
namespace {

constexpr int kBinary = 1;

bool Refused(const PGresult* result) {
  const ExecStatusType status = PQresultStatus(result);
  return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY;
}

// Connects as far as it goes by the deadline.
void Poll(PGconn* connection, absl::Duration deadline) {
  PostgresPollingStatusType wants = PGRES_POLLING_WRITING;  // as libpq's documentation has it
  while (wants == PGRES_POLLING_READING || wants == PGRES_POLLING_WRITING) {
    const absl::Duration left = deadline - SystemClock().Uptime();
    if (left <= absl::ZeroDuration()) return;
    pollfd socket = {PQsocket(connection),
                     static_cast<short>(wants == PGRES_POLLING_READING ? POLLIN : POLLOUT), 0};
    if (poll(&socket, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) == 0) return;
    wants = PQconnectPoll(connection);
  }
}

// Of "connection to server at … failed: FATAL:  28P01", whatever the language of the words is.
std::string StateAtTheEnd(std::string_view said) {
  constexpr size_t kLength = 5;
  said = Trim(said);
  if (said.size() < kLength + 2) return "";
  const std::string_view state = said.substr(said.size() - kLength);
  const auto in_state = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'); };
  const bool stands_alone = said.substr(said.size() - kLength - 2, 2) == "  ";
  return stands_alone && std::all_of(state.begin(), state.end(), in_state) ? std::string(state)
                                                                           : "";
}

}  // namespace

std::string SqlState(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  return state == nullptr ? "" : state;
}

PostgresWire::PostgresWire(PGconn* connection) : connection_(connection) {
  PQsetErrorVerbosity(connection_, PQERRORS_TERSE);
  PQsetNoticeReceiver(connection_, &PostgresWire::Hear, this);
  PQsetnonblocking(connection_, 1);
}

PostgresWire::~PostgresWire() { PQfinish(connection_); }

StatusOr<std::unique_ptr<PostgresWire>> PostgresWire::Connect(const PostgresAddress& address) {
  // Each host has connect_timeout to answer and to let us in.
  PGconn* connection = PQconnectdb(std::string(address.RevealWords()).c_str());
  if (PQstatus(connection) == CONNECTION_OK)
    return std::unique_ptr<PostgresWire>(new PostgresWire(connection));
  const std::string said = address.Clean(PQerrorMessage(connection));
  PQfinish(connection);
  return Unavailable("{} cannot be reached: {}", address.name(), said);
}

std::string PostgresWire::RefusalOf(const PostgresAddress& address, absl::Duration within) {
  const absl::Duration deadline = SystemClock().Uptime() + within;
  const std::unique_ptr<PGconn, decltype(&PQfinish)> connection(
      PQconnectStart(std::string(address.RevealWords()).c_str()), &PQfinish);
  PQsetErrorVerbosity(connection.get(), PQERRORS_SQLSTATE);
  if (PQstatus(connection.get()) != CONNECTION_BAD) Poll(connection.get(), deadline);
  if (PQconnectionNeedsPassword(connection.get()) == 1) return "28P01";
  return StateAtTheEnd(PQerrorMessage(connection.get()));
}

void PostgresWire::Hear(void* wire, const PGresult* notice) {
  static_cast<PostgresWire*>(wire)->warning_ = PQresultErrorMessage(notice);
}

void PostgresWire::Cut(const std::string& why) {
  PQfinish(connection_);
  connection_ = nullptr;
  lost_ = why;
}

// False once the deadline has passed.
bool PostgresWire::Wait(bool to_write, absl::Duration deadline) {
  const absl::Duration left = deadline - SystemClock().Uptime();
  pollfd socket = {PQsocket(connection_), static_cast<short>(to_write ? POLLIN | POLLOUT : POLLIN),
                   0};
  const auto milliseconds =
      std::clamp<int64_t>(absl::ToInt64Milliseconds(left) + 1, 0, 1000 * 3600);
  return poll(&socket, 1, static_cast<int>(milliseconds)) != 0 || left > absl::Hours(1);
}

bool PostgresWire::Flush(absl::Duration deadline) {
  int waiting = 0;
  while ((waiting = PQflush(connection_)) == 1) {
    if (!Wait(true, deadline)) return false;
    // The server may speak before it has heard all: not to read it would stop both.
    if (PQconsumeInput(connection_) == 0) return true;
  }
  return true;
}

PostgresWire::Answer PostgresWire::Collect(absl::Duration deadline) {
  Answer kept;
  while (true) {
    while (PQisBusy(connection_) != 0) {
      if (!Wait(false, deadline)) return nullptr;
      if (PQconsumeInput(connection_) == 0) break;
    }
    Answer next(PQgetResult(connection_));
    if (next == nullptr) return kept;
    if (kept == nullptr || !Refused(kept.get())) kept = std::move(next);
  }
}

PostgresWire::Answer PostgresWire::Finish(bool sent, absl::Duration within) {
  const absl::Duration deadline = SystemClock().Uptime() + within;
  Answer answer;
  bool late = false;
  if (sent) {
    late = !Flush(deadline);
    if (!late) answer = Collect(deadline);
    late |= answer == nullptr && open();
  }
  if (late) Cut(fmt::format("no answer within {}", DurationText(within)));
  if (open() && answer != nullptr) return answer;
  if (connection_ != nullptr) lost_ = PQerrorMessage(connection_);
  return nullptr;
}

PostgresWire::Answer PostgresWire::Run(const std::string& statements, absl::Duration within) {
  if (!open()) return nullptr;
  return Finish(PQsendQuery(connection_, statements.c_str()) == 1, within);
}

bool PostgresWire::SendOne(const std::string& statement, const PostgresParameters& parameters) {
  return PQsendQueryParams(connection_, statement.c_str(), parameters.count(), parameters.types(),
                           parameters.values(), parameters.lengths(), parameters.formats(),
                           kBinary) == 1;
}

PostgresWire::Answer PostgresWire::Ask(const std::string& statement,
                                       const PostgresParameters& parameters,
                                       absl::Duration within) {
  if (!open()) return nullptr;
  if (waiting_ == 0) return Finish(SendOne(statement, parameters), within);
  if (!Send(statement, parameters) || !Settle(within)) return nullptr;
  Answer answer = std::move(earlier_.back());
  earlier_.pop_back();
  return answer;
}

bool PostgresWire::Send(const std::string& statement, const PostgresParameters& parameters) {
  if (!open()) return false;
  const bool first = waiting_ == 0;
  const bool sent =
      (!first || PQenterPipelineMode(connection_) == 1) && SendOne(statement, parameters);
  if (sent) {
    ++waiting_;
    PQflush(connection_);  // the server may begin; the rest goes out later
    return true;
  }
  lost_ = PQerrorMessage(connection_);
  if (first) PQexitPipelineMode(connection_);
  return false;
}

bool PostgresWire::Settle(absl::Duration within) {
  if (!open()) return false;
  if (waiting_ == 0) return true;
  const absl::Duration deadline = SystemClock().Uptime() + within;
  const size_t wanted = std::exchange(waiting_, 0);
  if (PQpipelineSync(connection_) == 1 && !(Flush(deadline) && CollectSent(deadline)))
    Cut(fmt::format("no answer within {}", DurationText(within)));
  const bool ended = open() && PQexitPipelineMode(connection_) == 1;
  if (connection_ != nullptr && !ended) lost_ = PQerrorMessage(connection_);
  // What is said as a connection ends is no answer to a statement, and what was skipped has none.
  const auto refused = std::find_if(earlier_.begin(), earlier_.end(),
                                    [](const Answer& answer) { return Refused(answer.get()); });
  if (refused != earlier_.end()) earlier_.erase(ended ? refused + 1 : refused, earlier_.end());
  return ended && earlier_.size() == wanted;
}

// All answers up to the mark. False once the deadline has passed.
bool PostgresWire::CollectSent(absl::Duration deadline) {
  while (open()) {
    while (PQisBusy(connection_) != 0) {
      if (!Wait(false, deadline)) return false;
      if (PQconsumeInput(connection_) == 0) break;
    }
    Answer next(PQgetResult(connection_));
    if (next == nullptr) {  // stands behind each statement's answer
      if (SystemClock().Uptime() > deadline) return false;
      continue;
    }
    if (PQresultStatus(next.get()) == PGRES_PIPELINE_SYNC) return true;
    earlier_.push_back(std::move(next));
  }
  return true;
}

}  // namespace muster::sql
