// How often something may be done, counted together by all replicas in Redis, and by each for
// itself while Redis is away. The generic cell rate algorithm: a key may do `burst` at once after a
// rest, and `permits` in each `per` for ever.
//
// What is counted in Redis may be lost or forged by whoever can write there: it slows down, it does
// not protect. While Redis is away, n replicas together allow up to n times the rate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "lib/base/clock.h"
#include "lib/redis/client.h"

namespace muster::redis {

// At most a million permits a second.
struct RateLimit {
  uint32_t permits = 10;
  absl::Duration per = absl::Minutes(1);
  uint32_t burst = 10;
};

enum class DecidedBy { kShared, kLocal };

struct Verdict {
  bool allowed = false;
  absl::Duration retry_after = absl::ZeroDuration();  // if not allowed
  DecidedBy decided_by = DecidedBy::kLocal;
};

// Any thread may call.
class RateLimiter {
 public:
  virtual ~RateLimiter() = default;
  // Takes one permit of the key, any bytes, if there is one. May wait for Redis as long as a
  // Client's call may.
  virtual Verdict Take(std::string_view key) = 0;
};

// Within this process. Past `most_keys` it forgets the key that is nearest to its full burst.
std::unique_ptr<RateLimiter> LocalRateLimiter(const RateLimit& limit, const Clock& clock,
                                              size_t most_keys = 10'000);

// Client and clock must outlive it. `name` tells limiters of one Redis apart ("muster:join");
// those of the same name should have the same limit. Falls back to a LocalRateLimiter, which
// knows nothing of what was taken in Redis.
std::unique_ptr<RateLimiter> SharedRateLimiter(Client& client, std::string name,
                                               const RateLimit& limit, const Clock& clock);

}  // namespace muster::redis
