#include "control-plane/hint_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "lib/testing/servers.h"

namespace muster::control {
namespace {

using redis::Topic;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

// A Redis of this process: what is published is noted, what is said is heard.
class Wire final : public redis::Hints {
 public:
  void Subscribe(redis::HintListener listener) override { listener_ = std::move(listener); }
  void Start() override { started = true; }
  void Stop() override { started = false; }
  void Publish(Topic topic, std::string_view payload) override {
    published.push_back({topic, std::string(payload)});
  }
  redis::HintsHealth health() const override { return {.configured = true}; }
  void Say(Topic topic, const std::string& payload = "") { listener_.on_hint({topic, payload}); }
  void Miss() { listener_.on_gap(); }

  std::vector<redis::Hint> published;
  bool started = false;

 private:
  redis::HintListener listener_;
};

class HintExchangeTest : public ::testing::Test {
 protected:
  HintExchangeTest() {
    auto wire = std::make_unique<Wire>();
    wire_ = wire.get();
    const auto note = [this](const std::string& what) {
      return [this, what] {
        absl::MutexLock lock(&mutex_);
        looks_.push_back(what);
      };
    };
    exchange_ = std::make_unique<HintExchange>(
        std::move(wire),
        HintReactions{note("specs"), note("transitions"), note("revocations"), note("replicas"),
                      note("runs"), [this](const std::string& agent) {
                        absl::MutexLock lock(&mutex_);
                        looks_.push_back("states of " + agent);
                      }});
  }

  std::vector<std::string> looks() {
    absl::MutexLock lock(&mutex_);
    return looks_;
  }
  std::vector<std::string> AwaitLooks(size_t count) {
    EXPECT_TRUE(testing::Eventually([&] { return looks().size() >= count; }));
    return looks();
  }

  Wire* wire_;
  absl::Mutex mutex_;
  std::vector<std::string> looks_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<HintExchange> exchange_;
};

TEST_F(HintExchangeTest, WhoeverHearsAHintLooks) {
  exchange_->Start();
  wire_->Say(Topic::kSpecs);
  EXPECT_THAT(AwaitLooks(1), ElementsAre("specs"));
  wire_->Say(Topic::kStates, "db-1");
  EXPECT_THAT(AwaitLooks(2), ElementsAre("specs", "states of db-1"));
}

TEST_F(HintExchangeTest, AfterAGapEverybodyLooksOnceButNoSessionReadsItsStatesAnew) {
  wire_->Miss();
  wire_->Miss();
  exchange_->Start();
  EXPECT_THAT(AwaitLooks(5),
              UnorderedElementsAre("specs", "transitions", "revocations", "replicas", "runs"));
}

TEST_F(HintExchangeTest, AFloodIsFewLooks) {
  exchange_->Start();
  wire_->Say(Topic::kSpecs);
  AwaitLooks(1);
  for (int i = 0; i < 100'000; ++i) wire_->Say(Topic::kReplicas, std::to_string(i));
  wire_->Say(Topic::kTransitions, "last");
  EXPECT_TRUE(testing::Eventually([&] {
    const auto seen = looks();
    return std::find(seen.begin(), seen.end(), "transitions") != seen.end();
  }));
  EXPECT_LT(looks().size(), 100U);
}

TEST_F(HintExchangeTest, PublishesWhatItIsTold) {
  exchange_->Publish(Topic::kStates, "db-1");
  EXPECT_THAT(wire_->published, ElementsAre(redis::Hint{Topic::kStates, "db-1"}));
}

TEST_F(HintExchangeTest, NobodyLooksAfterStop) {
  exchange_->Start();
  EXPECT_TRUE(wire_->started);
  exchange_->Stop();
  exchange_->Stop();
  EXPECT_FALSE(wire_->started);
  wire_->Say(Topic::kSpecs);
  EXPECT_TRUE(looks().empty());
}

}  // namespace
}  // namespace muster::control
