#include "lib/redis/rate_limiter.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::redis {
namespace {

// The algorithm's two constants. A key's one number is when it will have its whole burst again.
struct Pace {
  absl::Duration interval;   // one permit costs it
  absl::Duration tolerance;  // as far ahead of now as the number may be
};

Pace PaceOf(const RateLimit& limit) {
  const absl::Duration interval =
      std::max(absl::Trunc(limit.per / std::max<int64_t>(limit.permits, 1), absl::Microseconds(1)),
               absl::Microseconds(1));
  return {interval, interval * std::max<int64_t>(limit.burst, 1)};
}

// The same as kTake below.
Verdict TakeAt(const Pace& pace, absl::Duration now, absl::Duration& full_at) {
  const bool sound = full_at >= now && full_at <= now + pace.tolerance;
  const absl::Duration from = sound ? full_at : now;
  const absl::Duration next = from + pace.interval;
  const absl::Duration wait = next - now - pace.tolerance;
  if (wait > absl::ZeroDuration()) return {.allowed = false, .retry_after = wait};
  full_at = next;
  return {.allowed = true};
}

class Local final : public RateLimiter {
 public:
  Local(const RateLimit& limit, const Clock& clock, size_t most_keys)
      : pace_(PaceOf(limit)), clock_(clock), most_keys_(std::max<size_t>(most_keys, 1)) {}

  Verdict Take(std::string_view key) override {
    absl::MutexLock lock(&mutex_);
    const absl::Duration now = clock_.Uptime();
    Forget(now);
    const auto known = full_at_.find(key);
    absl::Duration full_at = known == full_at_.end() ? now : known->second;
    const Verdict verdict = TakeAt(pace_, now, full_at);
    if (verdict.allowed) Remember(std::string(key), full_at);
    return verdict;
  }

 private:
  // Keys that have their whole burst again need no memory.
  void Forget(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (!by_time_.empty() && by_time_.begin()->first <= now) ForgetFirst();
  }

  void ForgetFirst() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    full_at_.erase(by_time_.begin()->second);
    by_time_.erase(by_time_.begin());
  }

  void Remember(const std::string& key, absl::Duration full_at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (const auto known = full_at_.find(key); known != full_at_.end()) {
      by_time_.erase({known->second, key});
    } else if (full_at_.size() >= most_keys_) {
      ForgetFirst();
    }
    full_at_[key] = full_at;
    by_time_.emplace(full_at, key);
  }

  const Pace pace_;
  const Clock& clock_;
  const size_t most_keys_;
  absl::Mutex mutex_;
  std::map<std::string, absl::Duration, std::less<>> full_at_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<absl::Duration, std::string>> by_time_ ABSL_GUARDED_BY(mutex_);
};

// Microseconds to wait, 0 if the permit was taken. KEYS: the key; ARGV: interval and tolerance in
// microseconds. The clock is Redis's: one for all replicas. A number that this script cannot have
// written, or that a clock that was set back has made so, counts as none.
constexpr const char* kTake = R"(
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local from = tonumber(redis.call('GET', KEYS[1]) or '') or now
if not (from >= now and from <= now + tolerance) then from = now end
local next = from + interval
local wait = next - now - tolerance
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return 0
)";

class Shared final : public RateLimiter {
 public:
  Shared(Client& client, std::string name, const RateLimit& limit, const Clock& clock)
      : client_(client),
        name_(std::move(name)),
        pace_(PaceOf(limit)),
        local_(LocalRateLimiter(limit, clock)) {}

  Verdict Take(std::string_view key) override {
    const StatusOr<Reply> reply = client_.Command(
        {"EVAL", kTake, "1", RedisKey(key), Micros(pace_.interval), Micros(pace_.tolerance)});
    const int64_t* wait = reply.ok() ? reply->integer() : nullptr;
    if (wait == nullptr) return local_->Take(key);
    return {
        .allowed = *wait <= 0,
        .retry_after = std::clamp(absl::Microseconds(*wait), absl::ZeroDuration(), pace_.interval),
        .decided_by = DecidedBy::kShared};
  }

 private:
  // Any key becomes a short one without special characters.
  std::string RedisKey(std::string_view key) const {
    return fmt::format("{}:rate:{}", name_, HexEncode(Sha256(key).substr(0, 16)));
  }

  static std::string Micros(absl::Duration duration) {
    return fmt::format("{}", absl::ToInt64Microseconds(duration));
  }

  Client& client_;
  const std::string name_;
  const Pace pace_;
  const std::unique_ptr<RateLimiter> local_;
};

}  // namespace

std::unique_ptr<RateLimiter> LocalRateLimiter(const RateLimit& limit, const Clock& clock,
                                              size_t most_keys) {
  return std::make_unique<Local>(limit, clock, most_keys);
}

std::unique_ptr<RateLimiter> SharedRateLimiter(Client& client, std::string name,
                                               const RateLimit& limit, const Clock& clock) {
  return std::make_unique<Shared>(client, std::move(name), limit, clock);
}

}  // namespace muster::redis
