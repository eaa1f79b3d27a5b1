#include "lib/redis/hints.h"

#include <signal.h>

#include <atomic>

#include <gmock/gmock.h>

#include "lib/base/random.h"
#include "lib/redis/hint_queue.h"
#include "lib/redis/test_redis.h"
#include "lib/testing/redis_server.h"

namespace muster::redis {

// How a failed expectation shows a hint.
void PrintTo(const Hint& hint, std::ostream* out) {
  *out << TopicName(hint.topic) << "(" << hint.payload << ")";
}

namespace {

using muster::testing::Eventually;
using muster::testing::RedisServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Put = HintQueue::Put;

TEST(HintQueue, TheSameWaitsOnce) {
  HintQueue queue(10);
  EXPECT_EQ(queue.Add(Topic::kStates, "db-1"), Put::kAdded);
  EXPECT_EQ(queue.Add(Topic::kStates, "db-2"), Put::kAdded);
  EXPECT_EQ(queue.Add(Topic::kStates, "db-1"), Put::kCoalesced);
  EXPECT_EQ(queue.Add(Topic::kReplicas, "db-1"), Put::kAdded);
  EXPECT_EQ(queue.size(), 3U);
  EXPECT_THAT(queue.TakeAll(),
              ElementsAre(Hint{Topic::kReplicas, "db-1"}, Hint{Topic::kStates, "db-1"},
                          Hint{Topic::kStates, "db-2"}));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.Add(Topic::kStates, "db-1"), Put::kAdded);
}

TEST(HintQueue, AnythingSpeaksForEveryPayload) {
  HintQueue queue(10);
  queue.Add(Topic::kStates, "db-1");
  EXPECT_EQ(queue.Add(Topic::kStates, ""), Put::kAdded);
  EXPECT_EQ(queue.Add(Topic::kStates, "db-2"), Put::kCoalesced);
  EXPECT_THAT(queue.TakeAll(), ElementsAre(Hint{Topic::kStates, ""}));
}

TEST(HintQueue, TooManyOrTooLongBecomeAnything) {
  HintQueue queue(2);
  queue.Add(Topic::kStates, "db-1");
  queue.Add(Topic::kStates, "db-2");
  EXPECT_EQ(queue.Add(Topic::kStates, "db-3"), Put::kWidened);
  EXPECT_EQ(queue.Add(Topic::kSpecs, std::string(kLongestPayload + 1, 'x')), Put::kWidened);
  EXPECT_EQ(queue.Add(Topic::kReplicas, std::string(kLongestPayload, 'x')), Put::kAdded);
  EXPECT_THAT(queue.TakeAll(),
              ElementsAre(Hint{Topic::kSpecs, ""},
                          Hint{Topic::kReplicas, std::string(kLongestPayload, 'x')},
                          Hint{Topic::kStates, ""}));
}

// Whatever is added, what is taken out covers it, and is within the bounds.
TEST(HintQueue, NoHintIsLost) {
  const uint64_t seed = 20'261'123;
  const std::unique_ptr<Random> random = SeededRandom(seed);
  for (int round = 0; round < 200; ++round) {
    HintQueue queue(4);
    std::vector<Hint> added;
    for (uint64_t i = random->Below(uint64_t{30}); i > 0; --i) {
      const uint64_t draw = random->Below(uint64_t{8});
      added.push_back(
          {kTopics[random->Below(std::size(kTopics))], draw == 0 ? "" : fmt::format("p{}", draw)});
      queue.Add(added.back().topic, added.back().payload);
    }
    const std::vector<Hint> taken = queue.TakeAll();
    EXPECT_LE(taken.size(), 4 * std::size(kTopics)) << "seed " << seed;
    for (const Hint& hint : added) {
      EXPECT_TRUE(std::count(taken.begin(), taken.end(), hint) == 1 ||
                  std::count(taken.begin(), taken.end(), Hint{hint.topic, ""}) == 1)
          << "seed " << seed << " round " << round;
    }
  }
}

TEST(NoHints, PublishesToNobody) {
  const std::unique_ptr<Hints> hints = NoHints();
  hints->Start();
  hints->Publish(Topic::kSpecs);
  EXPECT_FALSE(hints->health().configured);
  hints->Stop();
}

// A replica's hints, and what it was told.
class Replica {
 public:
  explicit Replica(const Address& address, HintsOptions options = {}) {
    options.client = Patient();
    auto opened = OpenHints(address, options);
    EXPECT_TRUE(opened.ok()) << Text(opened.status());
    hints_ = *std::move(opened);
    hints_->Subscribe(
        {.on_hint = [this](const Hint& hint) { Note(hint); }, .on_gap = [this] { ++gaps_; }});
    hints_->Start();
  }
  ~Replica() { hints_->Stop(); }

  std::vector<Hint> heard() const {
    absl::MutexLock lock(&mutex_);
    return heard_;
  }
  bool Hears(const Hint& hint) const {
    return Eventually([&] {
      const std::vector<Hint> all = heard();
      return std::find(all.begin(), all.end(), hint) != all.end();
    });
  }
  bool Listens(int gaps = 1) const {
    return Eventually([&] { return gaps_ >= gaps && hints_->health().publishing; });
  }
  Hints& hints() { return *hints_; }
  int gaps() const { return gaps_; }

 private:
  void Note(const Hint& hint) {
    absl::MutexLock lock(&mutex_);
    heard_.push_back(hint);
  }
  mutable absl::Mutex mutex_;
  std::vector<Hint> heard_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> gaps_ = 0;
  std::unique_ptr<Hints> hints_;
};

TEST(RedisHints, OtherReplicasHearWhatOnePublishes) {
  RedisServer server;
  Replica a(At(server.url()));
  Replica b(At("redis+unix:" + server.socket()));
  ASSERT_TRUE(a.Listens() && b.Listens());
  a.hints().Publish(Topic::kStates, "db-1");
  EXPECT_TRUE(b.Hears({Topic::kStates, "db-1"}));
  for (const Topic topic : kTopics) b.hints().Publish(topic);
  for (const Topic topic : kTopics) EXPECT_TRUE(a.Hears({topic, ""})) << TopicName(topic);
  // Not their own.
  EXPECT_EQ(a.heard().size(), std::size(kTopics));
  EXPECT_EQ(b.heard().size(), 1U);
  // Redis may have brought the last one to others before its answer is here.
  EXPECT_TRUE(
      testing::Eventually([&] { return b.hints().health().published == std::size(kTopics); }));
  const HintsHealth health = b.hints().health();
  EXPECT_TRUE(health.configured && health.publishing && health.listening);
  EXPECT_EQ(health.heard, 1U);
  EXPECT_EQ(health.gaps, 1U);
}

TEST(RedisHints, ControlPlanesOfDifferentPrefixesDoNotMeet) {
  RedisServer server;
  Replica mine(At(server.url()), {.prefix = "one"});
  Replica other(At(server.url()), {.prefix = "two"});
  Replica peer(At(server.url()), {.prefix = "one"});
  ASSERT_TRUE(mine.Listens() && other.Listens() && peer.Listens());
  mine.hints().Publish(Topic::kSpecs, "x");
  EXPECT_TRUE(peer.Hears({Topic::kSpecs, "x"}));
  EXPECT_THAT(other.heard(), IsEmpty());
}

TEST(RedisHints, WhatWaitsWhileRedisIsAwayGoesOutAfterwards) {
  RedisServer server;
  Replica a(At(server.url()), {.most_waiting = 3});
  Replica b(At(server.url()));
  ASSERT_TRUE(a.Listens() && b.Listens());
  server.Kill();
  ASSERT_TRUE(
      Eventually([&] { return !a.hints().health().publishing && !b.hints().health().listening; }));
  for (int i = 0; i < 1000; ++i) a.hints().Publish(Topic::kStates, fmt::format("db-{}", i));
  a.hints().Publish(Topic::kRevocations, "x");
  a.hints().Publish(Topic::kRevocations, "x");
  EXPECT_GE(a.hints().health().widened, 1U);
  EXPECT_LE(a.hints().health().waiting, 6U);
  EXPECT_THAT(a.hints().health().last_error, HasSubstr("redis://127.0.0.1"));
  server.Start();
  // A hint may still be lost to one whose own connection is not back: its gap speaks for it.
  EXPECT_TRUE(b.Listens(2));
  EXPECT_TRUE(a.Listens(2));
  EXPECT_TRUE(Eventually([&] { return a.hints().health().waiting == 0; }));
  a.hints().Publish(Topic::kReplicas);
  EXPECT_TRUE(b.Hears({Topic::kReplicas, ""}));
}

TEST(RedisHints, PublishDoesNotWaitForASilentRedis) {
  RedisServer server;
  Replica a(At(server.url()));
  ASSERT_TRUE(a.Listens());
  server.process().Signal(SIGSTOP);
  // Patient() would wait 20 s for each.
  for (int i = 0; i < 10'000; ++i) a.hints().Publish(Topic::kStates, std::to_string(i));
  EXPECT_GE(a.hints().health().widened, 1U);
  server.process().Signal(SIGCONT);
  EXPECT_TRUE(Eventually([&] { return a.hints().health().waiting == 0; }));
}

TEST(RedisHints, FlushallLosesNothing) {
  RedisServer server;
  Replica a(At(server.url()));
  Replica b(At(server.url()));
  ASSERT_TRUE(a.Listens() && b.Listens());
  EXPECT_EQ(server.Cli({"FLUSHALL"}), "OK");
  a.hints().Publish(Topic::kTransitions, "7");
  EXPECT_TRUE(b.Hears({Topic::kTransitions, "7"}));
  EXPECT_EQ(b.gaps(), 1);
}

TEST(RedisHints, WhatIsNoHintIsNotHeard) {
  RedisServer server;
  Replica a(At(server.url()));
  ASSERT_TRUE(a.Listens());
  server.Cli({"PUBLISH", "muster:hint:specs", "nonsense"});
  server.Cli({"PUBLISH", "muster:hint:specs", "who " + std::string(kLongestPayload + 1, 'x')});
  server.Cli({"PUBLISH", "muster:hint:specs", "who a\nb"});
  ASSERT_TRUE(a.Hears({Topic::kSpecs, "a b"}));
  EXPECT_THAT(a.heard(), ElementsAre(Hint{Topic::kSpecs, ""}, Hint{Topic::kSpecs, "a b"}));
}

TEST(RedisHints, AUserThatMayNotPublishIsShownAsNotPublishing) {
  RedisServer server;
  server.Cli({"ACL", "SETUSER", "ada", "on", ">p", "~*", "allchannels", "+@all", "-publish"});
  const auto hints = *OpenHints(At("redis://ada:p@127.0.0.1:" + std::to_string(server.port())));
  hints->Start();
  ASSERT_TRUE(Eventually([&] { return hints->health().publishing; }));
  hints->Publish(Topic::kSpecs, "x");
  EXPECT_TRUE(Eventually([&] { return !hints->health().publishing; }));
  EXPECT_THAT(hints->health().last_error, HasSubstr("PUBLISH is refused: NOPERM"));
  server.Cli({"ACL", "SETUSER", "ada", "+publish"});
  EXPECT_TRUE(Eventually([&] { return hints->health().waiting == 0; }));
  EXPECT_TRUE(hints->health().publishing);
}

TEST(RedisHints, StopMayBeCalledTwiceAndBeforeStart) {
  RedisServer server;
  const auto hints = *OpenHints(At(server.url()));
  hints->Stop();
  hints->Stop();
  hints->Publish(Topic::kSpecs);
}

}  // namespace
}  // namespace muster::redis
