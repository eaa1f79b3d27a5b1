// The subscriber against a real redis-server.
#include "lib/redis/subscriber.h"

#include <signal.h>

#include <gmock/gmock.h>

#include "lib/base/clock.h"
#include "lib/redis/test_redis.h"
#include "lib/testing/redis_server.h"

namespace muster::redis {
namespace {

using muster::testing::Eventually;
using muster::testing::RedisServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What a subscriber of "a" and "b" was told, a gap being "gap".
class Ear {
 public:
  explicit Ear(const std::string& url, SubscriberOptions options = {}) {
    options.channels = {"a", "b"};
    options.backoff = Patient().backoff;
    options.on_message = [this](std::string_view channel, std::string_view message) {
      Note(fmt::format("{}: {}", channel, message));
    };
    options.on_gap = [this] { Note("gap"); };
    auto opened = OpenSubscriber(At(url), options);
    EXPECT_TRUE(opened.ok()) << Text(opened.status());
    subscriber_ = *std::move(opened);
  }

  std::vector<std::string> heard() const {
    absl::MutexLock lock(&mutex_);
    return heard_;
  }
  bool Hears(size_t count) const {
    return Eventually([&] { return heard().size() >= count; });
  }
  Health health() const { return subscriber_->health(); }

 private:
  void Note(std::string text) {
    absl::MutexLock lock(&mutex_);
    heard_.push_back(std::move(text));
  }
  mutable absl::Mutex mutex_;
  std::vector<std::string> heard_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Subscriber> subscriber_;
};

int PingsOf(RedisServer& server) {
  const std::string stats = server.Cli({"INFO", "commandstats"});
  const std::string key = "cmdstat_ping:calls=";
  const size_t at = stats.find(key);
  return at == std::string::npos ? 0 : std::atoi(stats.c_str() + at + key.size());
}

TEST(RedisSubscriber, HearsItsChannelsAfterTheFirstGap) {
  RedisServer server;
  const Ear ear(server.url());
  ASSERT_TRUE(ear.Hears(1));
  EXPECT_EQ(server.Cli({"PUBLISH", "a", "one"}), "1");
  EXPECT_EQ(server.Cli({"PUBLISH", "c", "two"}), "0");
  EXPECT_EQ(server.Cli({"PUBLISH", "b", "three"}), "1");
  ASSERT_TRUE(ear.Hears(3));
  EXPECT_THAT(ear.heard(), ElementsAre("gap", "a: one", "b: three"));
  EXPECT_TRUE(ear.health().up);
}

TEST(RedisSubscriber, ACutConnectionIsAGap) {
  RedisServer server;
  const Ear ear(server.url());
  ASSERT_TRUE(ear.Hears(1));
  EXPECT_EQ(server.Cli({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
  ASSERT_TRUE(ear.Hears(2));
  server.Cli({"PUBLISH", "a", "one"});
  ASSERT_TRUE(ear.Hears(3));
  EXPECT_THAT(ear.heard(), ElementsAre("gap", "gap", "a: one"));
  EXPECT_EQ(ear.health().connects, 2U);
}

TEST(RedisSubscriber, ARestartIsAGap) {
  RedisServer server;
  const Ear ear(server.url());
  ASSERT_TRUE(ear.Hears(1));
  server.Kill();
  ASSERT_TRUE(Eventually([&] { return !ear.health().up; }));
  server.Start();
  ASSERT_TRUE(ear.Hears(2));
  EXPECT_THAT(ear.heard(), ElementsAre("gap", "gap"));
}

TEST(RedisSubscriber, ASilentPeerIsNoticedWithinFiveSeconds) {
  const SubscriberOptions defaults;
  EXPECT_LE(defaults.ping_every + defaults.answer_within, absl::Seconds(5));
  RedisServer server;
  const Ear ear(server.url(),
                {.ping_every = absl::Milliseconds(50), .answer_within = absl::Milliseconds(200)});
  ASSERT_TRUE(ear.Hears(1));
  server.process().Signal(SIGSTOP);
  ASSERT_TRUE(Eventually([&] { return !ear.health().up; }));
  EXPECT_THAT(ear.health().last_error, HasSubstr("did not answer a subscriber"));
  server.process().Signal(SIGCONT);
  ASSERT_TRUE(ear.Hears(2));
}

TEST(RedisSubscriber, PingsKeepAQuietConnection) {
  RedisServer server;
  const Ear ear(server.url(), {.ping_every = absl::Milliseconds(5)});
  ASSERT_TRUE(ear.Hears(1));
  ASSERT_TRUE(Eventually([&] { return PingsOf(server) >= 20; }));
  EXPECT_EQ(ear.health().connects, 1U);
}

TEST(RedisSubscriber, AUserThatMayNotSubscribeIsTold) {
  RedisServer server;
  server.Cli({"ACL", "SETUSER", "ada", "on", ">p", "~*", "+@all", "resetchannels", "&b"});
  const Ear ear("redis://ada:p@127.0.0.1:" + std::to_string(server.port()));
  ASSERT_TRUE(Eventually([&] { return !ear.health().last_error.empty(); }));
  EXPECT_THAT(ear.health().last_error, HasSubstr("SUBSCRIBE is refused: NOPERM"));
  EXPECT_THAT(ear.heard(), ElementsAre());
}

TEST(RedisSubscriber, AMessageOverTheLimitIsAGap) {
  RedisServer server;
  const Ear ear(server.url(), {.largest_message = 1000});
  ASSERT_TRUE(ear.Hears(1));
  server.Cli({"PUBLISH", "a", std::string(20'000, 'x')});
  ASSERT_TRUE(ear.Hears(2));
  server.Cli({"PUBLISH", "a", "one"});
  ASSERT_TRUE(ear.Hears(3));
  EXPECT_THAT(ear.heard(), ElementsAre("gap", "gap", "a: one"));
}

}  // namespace
}  // namespace muster::redis
