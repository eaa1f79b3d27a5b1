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
