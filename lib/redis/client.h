// Commands to a Redis server. Redis holds hints and caches only: every call ends within a short
// deadline, and an error is an ordinary outcome that costs its caller some latency.
//
// One pipelined connection, kept by a thread of its own, which reconnects with full jitter. While
// it is away, calls are answered Unavailable at once. A server that lets a command wait for longer
// than the deadline counts as away too. A command that failed may have happened all the same.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/backoff.h"
#include "lib/base/status.h"
#include "lib/redis/address.h"
#include "lib/redis/reply.h"

namespace muster::redis {

struct Health {
  bool up = false;         // the connection is open, and its last answer came in time
  std::string last_error;  // why it was last away; empty if never
  uint64_t connects = 0;
};

// Any thread may call. Tests derive a fake: Pipeline is all that the rest stands on.
class Client {
 public:
  virtual ~Client() = default;

  // The replies in the order of the commands, a Refusal among them being one too. Unavailable: no
  // answer, for all of them together. ResourceExhausted: a limit of ClientOptions or ReplyLimits.
  // InvalidArgument: a command without words.
  virtual StatusOr<std::vector<Reply>> Pipeline(std::vector<Argv> commands) = 0;
  virtual Health health() const = 0;

  // One command: {"GET", key}. A Refusal is Unavailable here: "GET is refused: WRONGTYPE …".
  StatusOr<Reply> Command(Argv argv);
};

struct ClientOptions {
  std::string name = "muster";                        // in CLIENT LIST
  absl::Duration deadline = absl::Milliseconds(250);  // of every call
  size_t most_waiting = 4096;                         // commands that wait for an answer
  size_t most_waiting_bytes = 4 << 20;
  ReplyLimits reply;
  absl::Duration ping_every = absl::Seconds(2);  // when idle, so that health() is true
  absl::Duration open_within = absl::Seconds(2);
  Backoff backoff{.first = absl::Milliseconds(100), .longest = absl::Seconds(5)};
};

// Returns at once; calls made before the first connection stands wait for it, within their
// deadline. An error is one of the settings: a file that the address names cannot be read.
StatusOr<std::unique_ptr<Client>> OpenClient(const Address& address, ClientOptions options = {});

}  // namespace muster::redis
