#include "lib/redis/connection.h"

#include <signal.h>

#include "lib/base/clock.h"
#include "lib/base/text.h"

namespace muster::redis {
namespace {

Status Refused(std::string_view command, const Refusal& refusal) {
  return Unavailable("{} is refused: {}", command, Truncate(OneLine(refusal.text), 300));
}

}  // namespace

void BlockPipeSignal() {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
}

Connection::Connection(const Address& address, const ConnectionOptions& options, Waiter& waiter)
    : name_(address.name()), waiter_(waiter), reader_(options.limits) {}

StatusOr<std::unique_ptr<Connection>> Connection::Open(const Address& address,
                                                       const ConnectionOptions& options,
                                                       Waiter& waiter) {
  const absl::Duration until = SystemClock().Uptime() + options.open_within;
  if (address.sentinels().empty()) return OpenAt(address, options, waiter, until);
  MUSTER_ASSIGN_OR_RETURN(const HostPort place, FindMaster(address, options, waiter, until));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection,
                          OpenAt(address.ServerAt(place), options, waiter, until));
  MUSTER_RETURN_IF_ERROR(connection->Named(connection->DemandMaster(until)));
  return connection;
}

StatusOr<HostPort> Connection::FindMaster(const Address& address, const ConnectionOptions& options,
                                          Waiter& waiter, absl::Duration until) {
  std::string failed;
  auto shares = static_cast<int64_t>(address.sentinels().size()) + 1;  // one is the master's
  for (const HostPort& place : address.sentinels()) {
    const Address sentinel = address.SentinelAt(place);
    const absl::Duration now = SystemClock().Uptime();
    const absl::Duration mine = now + (until - now) / shares--;
    StatusOr<std::unique_ptr<Connection>> connection = OpenAt(sentinel, options, waiter, mine);
    if (absl::IsCancelled(connection.status())) return connection.status();
    Status why = connection.status();
    if (connection.ok()) {
      StatusOr<HostPort> master = (*connection)->AskForMaster(address.master(), mine);
      if (master.ok() || absl::IsCancelled(master.status())) return master;
      why = (*connection)->Named(master.status());
    }
    failed += fmt::format("{}{}", failed.empty() ? "" : "; ", Message(why));
  }
  return Unavailable("no Sentinel names the master: {}", failed);
}

StatusOr<HostPort> Connection::AskForMaster(const std::string& master, absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(const Reply reply,
                          Ask({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", master}, until));
  if (reply.refusal() != nullptr) return Refused("SENTINEL", *reply.refusal());
  if (reply.IsNil()) return Unavailable("this Sentinel watches no master named {}", master);
  const Reply::Array* parts = reply.array();
  if (parts == nullptr || parts->size() != 2 || (*parts)[0].text() == nullptr ||
      (*parts)[1].text() == nullptr) {
    return Unavailable("the answer to SENTINEL is none that a Sentinel gives");
  }
  std::string host = OneLine(*(*parts)[0].text());
  if (host.find(':') != std::string::npos) host = fmt::format("[{}]", host);
  return ParseHostPort(fmt::format("{}:{}", host, *(*parts)[1].text()));
}

// A Sentinel may not know yet that it is none any more.
Status Connection::DemandMaster(absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(const Reply reply, Ask({"ROLE"}, until));
  if (reply.refusal() != nullptr) {
    return Unavailable("{}; allow it: ACL SETUSER USER +role",
                       Message(Refused("ROLE", *reply.refusal())));
  }
  const Reply::Array* parts = reply.array();
  if (parts == nullptr || parts->empty() || parts->front().text() == nullptr)
    return Unavailable("the answer to ROLE is none that Redis gives");
  if (*parts->front().text() == "master") return OkStatus();
  return Unavailable("the Sentinels name it as the master, but it is a {}",
                     Truncate(OneLine(*parts->front().text()), 30));
}

StatusOr<std::unique_ptr<Connection>> Connection::OpenAt(const Address& address,
                                                         const ConnectionOptions& options,
                                                         Waiter& waiter, absl::Duration until) {
  std::unique_ptr<Connection> connection(new Connection(address, options, waiter));
  StatusOr<std::unique_ptr<Transport>> transport = Transport::Open(address, waiter, until);
  MUSTER_RETURN_IF_ERROR(connection->Named(transport.status()));
  connection->transport_ = *std::move(transport);
  MUSTER_RETURN_IF_ERROR(connection->Named(connection->SignIn(address, options, until)));
  return connection;
}

// Whatever went wrong, what is to be done is to try later, unless this side wants to end.
Status Connection::Named(const Status& status) const {
  if (status.ok() || absl::IsCancelled(status)) return status;
  return Unavailable("{}: {}", name_, Message(status));
}

Status Connection::SignIn(const Address& address, const ConnectionOptions& options,
                          absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(const Secret password, address.ReadPassword());
  if (!password.empty()) MUSTER_RETURN_IF_ERROR(Authenticate(address.user(), password, until));
  if (address.db() != 0)
    MUSTER_RETURN_IF_ERROR(Demand({"SELECT", fmt::format("{}", address.db())}, until));
  // A user may be kept from naming itself, and the connection works all the same.
  MUSTER_RETURN_IF_ERROR(Ask({"CLIENT", "SETNAME", options.client_name}, until).status());
  return Demand({"PING"}, until);
}

Status Connection::Authenticate(std::string_view user, const Secret& password,
                                absl::Duration until) {
  std::vector<std::string_view> argv = {"AUTH"};
  if (!user.empty()) argv.push_back(user);
  argv.push_back(password.Reveal());
  const Status status = Demand(argv, until);
  // A server that does not know AUTH repeats what it was given.
  if (Message(status).find(password.Reveal()) == std::string_view::npos) return status;
  return Unavailable("AUTH is refused");
}

Status Connection::Demand(const std::vector<std::string_view>& argv, absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(const Reply reply, Ask(argv, until));
  return reply.refusal() == nullptr ? OkStatus() : Refused(argv.front(), *reply.refusal());
}

StatusOr<Reply> Connection::Ask(const std::vector<std::string_view>& argv, absl::Duration until) {
  Send(FormatCommand(argv).Reveal());
  const auto waiting = [&](const Status& status) {
    return Annotate(status, fmt::format("waiting for the answer to {}", argv.front()));
  };
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(std::optional<Reply> reply, reader_.Next());
    if (reply.has_value()) return *std::move(reply);
    if (SystemClock().Uptime() >= until)
      return waiting(DeadlineExceeded("the server does not answer"));
    MUSTER_RETURN_IF_ERROR(waiting(Turn(until)));
  }
}

Status Connection::Turn(absl::Duration until) {
  const auto events = static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
  if (!transport_->HasBuffered()) {
    const Status waited = waiter_.Wait(transport_->fd(), events, until);
    if (absl::IsDeadlineExceeded(waited)) return OkStatus();
    MUSTER_RETURN_IF_ERROR(waited);
  }
  if (!unsent_.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const size_t sent, transport_->Write(unsent_));
    // An AUTH may be in it.
    if (sent == unsent_.size()) WipeText(unsent_);
    unsent_.erase(0, sent);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::string bytes, transport_->Read());
  if (!bytes.empty()) reader_.Feed(bytes);
  return OkStatus();
}

StatusOr<std::optional<Reply>> Connection::Next() { return reader_.Next(); }

}  // namespace muster::redis
