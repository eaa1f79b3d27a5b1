// One signed-in connection to a Redis server: commands go out, whole replies come in. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "lib/base/backoff.h"
#include "lib/base/status.h"
#include "lib/redis/address.h"
#include "lib/redis/reply.h"
#include "lib/redis/transport.h"
#include "lib/redis/waiter.h"

namespace muster::redis {

struct ConnectionOptions {
  std::string client_name = "muster";             // in CLIENT LIST; no spaces
  absl::Duration open_within = absl::Seconds(2);  // Sentinels, name, TCP, TLS, AUTH and PONG
  ReplyLimits limits;
};

class Connection {
 public:
  // AUTH, SELECT and a PONG: what is returned did answer, and where Sentinels were asked it says
  // itself that it is the master. Errors name the address, and never repeat a password. Cancelled
  // if the waiter was stopped, else Unavailable. The waiter must outlive it.
  static StatusOr<std::unique_ptr<Connection>> Open(const Address& address,
                                                    const ConnectionOptions& options,
                                                    Waiter& waiter);

  // What FormatCommand made; it leaves at the next turns.
  void Send(std::string_view command) { unsent_ += command; }
  // Waits for the server, the waiter or the moment, then moves bytes both ways. An error ends the
  // connection.
  Status Turn(absl::Duration until);
  // The next whole reply that has come.
  StatusOr<std::optional<Reply>> Next();

 private:
  Connection(const Address& address, const ConnectionOptions& options, Waiter& waiter);
  static StatusOr<std::unique_ptr<Connection>> OpenAt(const Address& address,
                                                      const ConnectionOptions& options,
                                                      Waiter& waiter, absl::Duration until);
  // Asks one Sentinel after the other.
  static StatusOr<HostPort> FindMaster(const Address& address, const ConnectionOptions& options,
                                       Waiter& waiter, absl::Duration until);
  StatusOr<HostPort> AskForMaster(const std::string& master, absl::Duration until);
  Status DemandMaster(absl::Duration until);
  Status SignIn(const Address& address, const ConnectionOptions& options, absl::Duration until);
  Status Authenticate(std::string_view user, const Secret& password, absl::Duration until);
  StatusOr<Reply> Ask(const std::vector<std::string_view>& argv, absl::Duration until);
  Status Demand(const std::vector<std::string_view>& argv, absl::Duration until);
  Status Named(const Status& status) const;

  const std::string name_;
  Waiter& waiter_;
  std::unique_ptr<Transport> transport_;
  ReplyReader reader_;
  std::string unsent_;
};

// How long a thread that keeps a connection pauses before it opens the next one: full jitter over
// the failures so far. A connection that did not last counts as one.
class Retry {
 public:
  explicit Retry(Backoff backoff) : backoff_(backoff), random_(SystemRandom()) {}
  absl::Duration After(absl::Duration lasted) {
    failures_ = lasted >= backoff_.longest ? 0 : failures_ + 1;
    return FullJitter(backoff_, failures_ == 0 ? 0 : failures_ - 1, *random_);
  }

 private:
  const Backoff backoff_;
  const std::unique_ptr<Random> random_;
  uint32_t failures_ = 0;
};

// For the thread that keeps a connection: a peer that has gone is an error of the write, not a
// signal, in OpenSSL too.
void BlockPipeSignal();

}  // namespace muster::redis
