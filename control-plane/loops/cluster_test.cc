// The heart of a replica, its terms as the leader, and how it watches the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "control-plane/loops/alert_loop.h"
#include "control-plane/loops/cluster_loop.h"
#include "control-plane/loops/heartbeat.h"
#include "control-plane/loops/leader.h"
#include "lib/testing/servers.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using testing::Eventually;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kLease = LeadershipPolicy{}.lease;

TEST(Term, IsBelievedInUntilItsTime) {
  ManualClock clock;
  Term term({3}, clock, clock.Uptime() + kLease);
  EXPECT_TRUE(term.Holds());
  clock.Advance(absl::Seconds(2));
  EXPECT_TRUE(term.Renew(clock.Uptime() + kLease));
  clock.Advance(absl::Seconds(2));
  EXPECT_TRUE(term.Holds());
  clock.Advance(absl::Seconds(1));
  EXPECT_FALSE(term.Holds());
  EXPECT_FALSE(term.Renew(clock.Uptime() + kLease));
  EXPECT_FALSE(term.Holds());
}

TEST(Term, EndsWithAWriteThatWasRefused) {
  ManualClock clock;
  Term term({3}, clock, clock.Uptime() + kLease);
  EXPECT_FALSE(term.Note(Aborted("others were in the way")).ok());
  EXPECT_TRUE(term.Holds());
  const auto store = *Store::OpenInMemory();
  EXPECT_FALSE(term.Note(store->alerts().Apply(term.epoch(), {})).ok());
  EXPECT_FALSE(term.Holds());
  EXPECT_EQ(term.refused(), 1U);
}

// Notes which terms' work is there.
class Works {
 public:
  Leader::Begin Begin() {
    return [this](std::shared_ptr<Term> term) { return std::make_unique<Work>(*this, *term); };
  }
  std::vector<uint64_t> here() const {
    absl::MutexLock lock(&mutex_);
    return here_;
  }
  std::atomic<int> begun = 0;
  std::atomic<int> woken = 0;

 private:
  class Work final : public LeaderWork {
   public:
    Work(Works& works, const Term& term) : works_(works), epoch_(term.epoch().value) {
      absl::MutexLock lock(&works_.mutex_);
      works_.here_.push_back(epoch_);
      ++works_.begun;
    }
    ~Work() override {
      absl::MutexLock lock(&works_.mutex_);
      std::erase(works_.here_, epoch_);
    }
    void Wake() override { ++works_.woken; }

   private:
    Works& works_;
    const uint64_t epoch_;
  };
  mutable absl::Mutex mutex_;
  std::vector<uint64_t> here_ ABSL_GUARDED_BY(mutex_);
};

class LeaderTest : public ::testing::Test {
 protected:
  bool Here(std::vector<uint64_t> epochs) {
    return Eventually([&] { return works_.here() == epochs; });
  }
  void Lead(uint64_t epoch) { leader_.Lead({epoch}, clock_.Uptime() + kLease); }

  ManualClock clock_;
  Works works_;
  Leader leader_{clock_, works_.Begin()};
};

TEST_F(LeaderTest, WorksForAsLongAsItsTermIsRenewed) {
  EXPECT_EQ(leader_.epoch().value, 0U);
  Lead(1);
  EXPECT_TRUE(Here({1}));
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Seconds(2));
    Lead(1);
  }
  EXPECT_EQ(leader_.epoch().value, 1U);
  leader_.Wake();
  EXPECT_EQ(works_.woken, 1);
  EXPECT_EQ(works_.begun, 1);
  leader_.Leave();
  EXPECT_EQ(leader_.epoch().value, 0U);
  EXPECT_TRUE(Here({}));
}

TEST_F(LeaderTest, StopsByItselfWhenNobodyRenewsItsTerm) {
  Lead(1);
  EXPECT_TRUE(Here({1}));
  clock_.Advance(kLease);
  EXPECT_TRUE(Here({}));
  EXPECT_EQ(leader_.epoch().value, 0U);
  // Renewed after all: new objects, for what is still the same term.
  Lead(1);
  EXPECT_TRUE(Here({1}));
  EXPECT_EQ(works_.begun, 2);
  EXPECT_EQ(leader_.counts().terms, 1U);
}

TEST_F(LeaderTest, NewObjectsWorkInANewTerm) {
  Lead(1);
  EXPECT_TRUE(Here({1}));
  Lead(5);
  EXPECT_TRUE(Here({5}));
  EXPECT_EQ(leader_.counts().terms, 2U);
  leader_.Stop();
  EXPECT_THAT(works_.here(), IsEmpty());
  Lead(6);
  EXPECT_THAT(works_.here(), IsEmpty());
}

// Two replicas over one store, each with a heart that beats when it is told to.
class HeartTest : public ::testing::Test {
 protected:
  struct Replica {
    Replica(Store& store, const Clock& clock, const std::string& id)
        : heart(store, clock, *store.cluster().Start({id, {id + ":1"}, "1.0"}), Options()) {}
    HeartbeatOptions Options() {
      HeartbeatOptions options;
      options.on_lead = [this](LeaderEpoch epoch, absl::Duration at) {
        leads = epoch.value;
        until = at;
      };
      options.on_leave = [this] { leads = 0; };
      options.on_found = [this] { ++found; };
      options.on_replaced = [this](const Status&) { ++replaced; };
      return options;
    }
    uint64_t leads = 0;
    absl::Duration until;
    int found = 0;
    int replaced = 0;
    Heartbeat heart;
  };

  void Age(absl::Duration by) {
    const int64_t micros = absl::ToInt64Microseconds(by);
    const Status aged = store_->database().Write([&](sql::Transaction& t) -> Status {
      MUSTER_RETURN_IF_ERROR(t.Execute("UPDATE lease SET until = until - $1", {micros}).status());
      return t.Execute("UPDATE replicas SET seen_at = seen_at - $1", {micros}).status();
    });
    ASSERT_TRUE(aged.ok());
  }

  ManualClock clock_;
  std::unique_ptr<Store> store_ = *Store::OpenInMemory();
  Replica a_{*store_, clock_, "a"};
  Replica b_{*store_, clock_, "b"};
};

TEST_F(HeartTest, TheFirstLeadsAtOnceAndUntilItsLeaseIsOver) {
  clock_.Advance(absl::Seconds(100));
  EXPECT_EQ(a_.heart.Once(), absl::Seconds(1));
  EXPECT_EQ(a_.leads, 1U);
  EXPECT_EQ(a_.until, clock_.Uptime() + kLease);
  const absl::Duration next = b_.heart.Once();
  EXPECT_EQ(b_.leads, 0U);
  EXPECT_LE(next, absl::Seconds(1));
  Age(kLease);
  b_.heart.Once();
  EXPECT_EQ(b_.leads, 2U);
  a_.heart.Once();
  EXPECT_EQ(a_.leads, 0U);
}

TEST_F(HeartTest, EachKnowsWhomToNameToAgents) {
  EXPECT_THAT(a_.heart.Servers(), ElementsAre("a:1"));
  a_.heart.Once();
  EXPECT_THAT(a_.heart.Servers(), ElementsAre("a:1", "b:1"));
  b_.heart.Once();
  EXPECT_THAT(b_.heart.Servers(), ElementsAre("b:1", "a:1"));
  ASSERT_TRUE(b_.heart.Drain().ok());
  a_.heart.Once();
  EXPECT_THAT(a_.heart.Servers(), ElementsAre("a:1"));
}

TEST_F(HeartTest, WhoDrainsLeadsNoMore) {
  a_.heart.Once();
  ASSERT_TRUE(a_.heart.Drain().ok());
  a_.heart.Once();
  EXPECT_EQ(a_.leads, 0U);
  b_.heart.Once();
  EXPECT_EQ(b_.leads, 2U);
}

TEST_F(HeartTest, WhoWasDeclaredLostHearsIt) {
  a_.heart.Once();
  b_.heart.Once();
  const ReplicaRow row = store_->cluster().List()->at(1);
  ASSERT_TRUE(store_->cluster().DeclareLost({1}, row).value_or(false));
  b_.heart.Once();
  EXPECT_EQ(b_.found, 1);
  b_.heart.Once();
  EXPECT_EQ(b_.found, 1);
}

TEST_F(HeartTest, WhoWasReplacedHearsIt) {
  a_.heart.Once();
  EXPECT_EQ(a_.replaced, 0);
  ASSERT_TRUE(store_->cluster().Start({"a", {}, "1.0"}).ok());
  a_.heart.Once();
  EXPECT_EQ(a_.replaced, 1);
  EXPECT_EQ(a_.heart.view().failures, 1U);
}

TEST_F(HeartTest, ALeaseThatIsNeverRenewedIsTakenWhateverTheDatabasesClockSays) {
  a_.heart.Once();
  Age(-absl::Hours(5));  // the clock was set back
  b_.heart.Once();
  clock_.Advance(2 * kLease - absl::Milliseconds(1));
  b_.heart.Once();
  EXPECT_EQ(b_.leads, 0U);
  clock_.Advance(absl::Milliseconds(1));
  b_.heart.Once();
  EXPECT_EQ(b_.leads, 2U);
}

TEST_F(HeartTest, ItIsCutOffFromItsLastBeatThatReachedTheDatabase) {
  a_.heart.Once();
  clock_.Advance(absl::Seconds(17));
  EXPECT_FALSE(a_.heart.CutOff());
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(a_.heart.CutOff());
  a_.heart.Once();
  EXPECT_FALSE(a_.heart.CutOff());
}

// Time passes as it is read, which is what a heart sees of a slow database.
class PassingClock final : public Clock {
 public:
  absl::Time Now() const override { return clock_.Now(); }
  absl::Duration Uptime() const override {
    clock_.Advance(passing / 2);  // a beat reads it when it begins, when it decides, and at its end
    return clock_.Uptime();
  }
  absl::Duration passing;

 private:
  mutable ManualClock clock_;
};

TEST_F(HeartTest, OneSlowBeatStretchesNoLeaseAndTwoDo) {
  PassingClock clock;
  Replica c(*store_, clock, "c");
  const auto beat = [&](absl::Duration takes) {
    clock.passing = takes;
    c.heart.Once();
    EXPECT_EQ(c.heart.view().took, takes);
    return c.heart.view().policy.lease;
  };
  EXPECT_EQ(beat(absl::Milliseconds(10)), kLease);
  // A pause, or a failover of the database: the next leader does not wait longer for it.
  EXPECT_EQ(beat(absl::Seconds(20)), kLease);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(beat(absl::Milliseconds(10)), kLease);
  EXPECT_EQ(beat(absl::Seconds(2)), kLease);
  EXPECT_EQ(beat(absl::Seconds(2)), absl::Seconds(7));
  // It is forgotten once the database is quick again.
  EXPECT_EQ(beat(absl::Milliseconds(10)), absl::Seconds(7));
  EXPECT_EQ(beat(absl::Milliseconds(10)), absl::Seconds(7));
  EXPECT_EQ(beat(absl::Milliseconds(10)), kLease);
}

TEST_F(HeartTest, TheThreadBeatsUntilItIsStopped) {
  a_.heart.Start();
  EXPECT_TRUE(Eventually([&] { return a_.heart.view().beats > 0; }));
  const uint64_t beats = a_.heart.view().beats;
  a_.heart.Wake();
  EXPECT_TRUE(Eventually([&] { return a_.heart.view().beats > beats; }));
  a_.heart.Stop();
}

class ClusterLoopTest : public HeartTest {
 protected:
  void SetUp() override {
    a_.heart.Once();
    b_.heart.Once();
  }
  Status Tick() {
    ClusterLoop loop(
        *store_, {a_.leads},
        {.watched_since = [this] { return watched_since_; }, .on_lost = [this] { ++lost_; }});
    return loop.Tick(clock_.Now());
  }
  absl::Time watched_since_ = absl::InfinitePast();
  int lost_ = 0;
};

TEST_F(ClusterLoopTest, DeclaresLostWhoIsNotSeen) {
  ASSERT_TRUE(Tick().ok());
  EXPECT_EQ(lost_, 0);
  Age(absl::Seconds(6));
  a_.heart.Once();  // the lease had run out as well
  ASSERT_TRUE(Tick().ok());
  EXPECT_EQ(lost_, 1);
  const auto replicas = *store_->cluster().List();
  EXPECT_FALSE(replicas[0].lost());
  EXPECT_TRUE(replicas[1].lost());
  ASSERT_TRUE(Tick().ok());
  EXPECT_EQ(lost_, 1);
}

TEST_F(ClusterLoopTest, NobodyIsLostWhileNobodyCouldLook) {
  Age(absl::Hours(1));
  a_.heart.Once();
  watched_since_ = *store_->cluster().Now();
  ASSERT_TRUE(Tick().ok());
  EXPECT_EQ(lost_, 0);
}

TEST_F(ClusterLoopTest, OfAnOlderTermDeclaresNothing) {
  Age(absl::Seconds(6));
  Replica c(*store_, clock_, "c");
  c.heart.Once();
  ASSERT_EQ(c.leads, 2U);
  EXPECT_TRUE(IsFenced(Tick()));
  EXPECT_EQ(lost_, 0);
}

TEST_F(ClusterLoopTest, ItsLossIsAnAlertUntilItIsBack) {
  Presence presence(*store_, clock_.Now());
  AlertLoop alerts(*store_, {a_.leads}, presence, {});
  const auto firing = [&] {
    std::vector<std::string> names;
    EXPECT_TRUE(alerts.Tick(clock_.Now()).ok());
    const std::vector<AlertRow> open = *store_->alerts().Open();
    for (const AlertRow& alert : open) names.push_back(alert.name);
    clock_.Advance(absl::Seconds(1));
    return names;
  };
  EXPECT_THAT(firing(), IsEmpty());
  ASSERT_TRUE(store_->cluster().DeclareLost({1}, store_->cluster().List()->at(1)).value_or(false));
  EXPECT_THAT(firing(), ElementsAre("replica/b lost"));
  b_.heart.Once();
  EXPECT_THAT(firing(), IsEmpty());
}

}  // namespace
}  // namespace muster::control
