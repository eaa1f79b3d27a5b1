#include "lib/redis/rate_limiter.h"

#include <atomic>

#include <gmock/gmock.h>

#include "lib/base/random.h"
#include "lib/exec/threads.h"
#include "lib/redis/test_redis.h"
#include "lib/testing/redis_server.h"

namespace muster::redis {
namespace {

using muster::testing::Eventually;
using muster::testing::RedisServer;

constexpr RateLimit kTenAMinute{.permits = 10, .per = absl::Minutes(1), .burst = 3};

// How many of `tries` were allowed.
int Allowed(RateLimiter& limiter, std::string_view key, int tries) {
  int allowed = 0;
  for (int i = 0; i < tries; ++i) allowed += limiter.Take(key).allowed ? 1 : 0;
  return allowed;
}

TEST(LocalRateLimiter, AllowsTheBurstAndThenTheRate) {
  ManualClock clock;
  const auto limiter = LocalRateLimiter(kTenAMinute, clock);
  EXPECT_EQ(Allowed(*limiter, "a", 5), 3);
  const Verdict refused = limiter->Take("a");
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after, absl::Seconds(6));
  EXPECT_EQ(refused.decided_by, DecidedBy::kLocal);
  clock.Advance(refused.retry_after - absl::Milliseconds(1));
  EXPECT_FALSE(limiter->Take("a").allowed);
  clock.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Allowed(*limiter, "a", 2), 1);
  clock.Advance(absl::Hours(1));
  EXPECT_EQ(Allowed(*limiter, "a", 5), 3);
}

TEST(LocalRateLimiter, KeysAreCountedApart) {
  ManualClock clock;
  const auto limiter = LocalRateLimiter(kTenAMinute, clock);
  EXPECT_EQ(Allowed(*limiter, "a", 5), 3);
  EXPECT_EQ(Allowed(*limiter, "b", 5), 3);
}

// Over any stretch of time, a key gets no more than its burst and its rate.
TEST(LocalRateLimiter, NeverAllowsMoreThanBurstAndRate) {
  const uint64_t seed = 20'261'123;
  const std::unique_ptr<Random> random = SeededRandom(seed);
  for (int round = 0; round < 50; ++round) {
    ManualClock clock;
    const RateLimit limit{.permits = 1 + static_cast<uint32_t>(random->Below(uint64_t{50})),
                          .per = absl::Seconds(10),
                          .burst = 1 + static_cast<uint32_t>(random->Below(uint64_t{5}))};
    const auto limiter = LocalRateLimiter(limit, clock);
    const absl::Duration began = clock.Uptime();
    int allowed = 0;
    for (int i = 0; i < 500; ++i) {
      clock.Advance(random->Below(absl::Milliseconds(300)));
      allowed += limiter->Take("a").allowed ? 1 : 0;
      const double passed = absl::ToDoubleSeconds(clock.Uptime() - began);
      // An interval is cut to whole microseconds.
      EXPECT_LE(allowed, limit.burst + 1.001 * passed * limit.permits / 10 + 0.001)
          << "seed " << seed << " round " << round;
    }
  }
}

TEST(LocalRateLimiter, ForgetsWhoIsNearestToTheFullBurst) {
  ManualClock clock;
  const auto limiter = LocalRateLimiter(kTenAMinute, clock, 2);
  Allowed(*limiter, "a", 3);
  clock.Advance(absl::Seconds(1));
  Allowed(*limiter, "b", 1);
  EXPECT_EQ(Allowed(*limiter, "c", 3), 3);
  EXPECT_EQ(Allowed(*limiter, "a", 3), 0);
  EXPECT_EQ(Allowed(*limiter, "b", 3), 3);
}

TEST(SharedRateLimiter, ReplicasShareOneBurst) {
  RedisServer server;
  ManualClock clock;
  const auto one = Open(server.url());
  const auto two = Open(server.url());
  const auto a = SharedRateLimiter(*one, "muster:test", kTenAMinute, clock);
  const auto b = SharedRateLimiter(*two, "muster:test", kTenAMinute, clock);
  EXPECT_EQ(Allowed(*a, "x", 2) + Allowed(*b, "x", 5), 3);
  const Verdict refused = a->Take("x");
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.decided_by, DecidedBy::kShared);
  EXPECT_GT(refused.retry_after, absl::ZeroDuration());
  EXPECT_LE(refused.retry_after, absl::Seconds(6));
  const auto other = SharedRateLimiter(*one, "muster:other", kTenAMinute, clock);
  EXPECT_EQ(Allowed(*other, "x", 5), 3);
}

TEST(SharedRateLimiter, PermitsComeBackAndKeysGoAway) {
  RedisServer server;
  ManualClock clock;
  const auto client = Open(server.url());
  const auto limiter = SharedRateLimiter(
      *client, "t", {.permits = 1, .per = absl::Milliseconds(100), .burst = 1}, clock);
  EXPECT_TRUE(limiter->Take(std::string("any\0 bytes\n", 11)).allowed);
  EXPECT_TRUE(Eventually([&] { return limiter->Take(std::string("any\0 bytes\n", 11)).allowed; }));
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"DBSIZE"}) == "0"; }));
}

TEST(SharedRateLimiter, ManyThreadsGetNoMoreThanTheBurst) {
  RedisServer server;
  ManualClock clock;
  const auto client = Open(server.url());
  const auto limiter =
      SharedRateLimiter(*client, "t", {.permits = 1, .per = absl::Hours(1), .burst = 50}, clock);
  std::atomic<int> allowed = 0;
  {
    std::vector<exec::Thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back("taker", [&] { allowed += Allowed(*limiter, "x", 30); });
  }
  EXPECT_EQ(allowed, 50);
}

TEST(SharedRateLimiter, FallsBackWhileRedisIsAwayAndComesBack) {
  RedisServer server;
  ManualClock clock;
  const auto client = Open(server.url());
  const auto limiter = SharedRateLimiter(*client, "t", kTenAMinute, clock);
  EXPECT_EQ(limiter->Take("x").decided_by, DecidedBy::kShared);
  server.Kill();
  EXPECT_TRUE(Eventually([&] { return !client->health().up; }));
  EXPECT_EQ(limiter->Take("x").decided_by, DecidedBy::kLocal);
  EXPECT_EQ(Allowed(*limiter, "x", 5), 2);
  server.Start();
  EXPECT_TRUE(Eventually([&] { return limiter->Take("y").decided_by == DecidedBy::kShared; }));
}

TEST(SharedRateLimiter, FlushallGivesTheBurstBackAndNoMore) {
  RedisServer server;
  ManualClock clock;
  const auto client = Open(server.url());
  const auto limiter = SharedRateLimiter(*client, "t", kTenAMinute, clock);
  EXPECT_EQ(Allowed(*limiter, "x", 5), 3);
  EXPECT_EQ(server.Cli({"FLUSHALL"}), "OK");
  EXPECT_EQ(Allowed(*limiter, "x", 5), 3);
}

TEST(SharedRateLimiter, WhatMakesNoSenseInRedisLocksNobodyOut) {
  RedisServer server;
  ManualClock clock;
  const auto client = Open(server.url());
  const auto limiter = SharedRateLimiter(
      *client, "t", {.permits = 1, .per = absl::Milliseconds(50), .burst = 2}, clock);
  // The same key, by one that keeps it for long enough to be looked up.
  const auto slow = SharedRateLimiter(*client, "t", kTenAMinute, clock);
  ASSERT_TRUE(slow->Take("x").allowed);
  const std::string key = server.Cli({"KEYS", "t:rate:*"});
  ASSERT_NE(key, "");
  for (const std::string value : {"junk", "nan", "inf", "1e300", "-5", ""}) {
    ASSERT_EQ(Ask(*client, {"SET", key, value}), "OK");
    EXPECT_TRUE(Eventually([&] {
      const Verdict verdict = limiter->Take("x");
      return verdict.allowed && verdict.decided_by == DecidedBy::kShared;
    })) << value;
  }
  Ask(*client, {"DEL", key});
  ASSERT_EQ(Ask(*client, {"LPUSH", key, "x"}), "1");
  EXPECT_EQ(limiter->Take("x").decided_by, DecidedBy::kLocal);
}

}  // namespace
}  // namespace muster::redis
