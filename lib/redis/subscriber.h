// Hears what is published on a fixed set of Redis channels. Messages may be missed: Redis keeps
// none for those who are away.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/backoff.h"
#include "lib/base/status.h"
#include "lib/redis/address.h"
#include "lib/redis/client.h"

namespace muster::redis {

struct SubscriberOptions {
  std::string name = "muster";        // in CLIENT LIST
  std::vector<std::string> channels;  // at least one

  // Both run on the subscriber's thread, one at a time, and must be quick: while they run, nothing
  // is heard.
  std::function<void(std::string_view channel, std::string_view message)> on_message;
  // After each connection, the first one too, before its first message: others may have been
  // missed.
  std::function<void()> on_gap;

  // A peer is dead after both: when it was silent for so long it is asked, and then has so long.
  absl::Duration ping_every = absl::Seconds(2);
  absl::Duration answer_within = absl::Seconds(2);
  absl::Duration open_within = absl::Seconds(2);
  size_t largest_message = 64 << 10;  // a larger one ends the connection
  Backoff backoff{.first = absl::Milliseconds(100), .longest = absl::Seconds(5)};
};

// Its own connection and thread, which reconnects with full jitter. After the destructor nothing
// is called.
class Subscriber {
 public:
  virtual ~Subscriber() = default;
  virtual Health health() const = 0;  // up: subscribed to all channels
};

// Returns at once. An error is one of the settings, as with OpenClient.
StatusOr<std::unique_ptr<Subscriber>> OpenSubscriber(const Address& address,
                                                     SubscriberOptions options);

}  // namespace muster::redis
