#include "control-plane/ingest/opener.h"

#include <gtest/gtest.h>

#include <map>

#include <absl/synchronization/notification.h>

#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/testing/servers.h"

namespace muster::control {
namespace {

using testing::Eventually;

class OpenerTest : public ::testing::Test {
 protected:
  OpenerTest() {
    for (const char* agent : {"host-1", "host-2", "host-3"}) Enrol(agent);
  }

  void Enrol(const std::string& agent) {
    const absl::Time now = SystemClock().Now();
    const TokenRow token{"token of " + agent, agent, {}, now + absl::Hours(1)};
    ASSERT_TRUE(store_->identity().SaveToken(token, {"test", "token.create", agent, "", now}).ok());
    const CertificateRow certificate{.fingerprint = agent,
                                     .role = v1::ROLE_AGENT,
                                     .name = agent,
                                     .serial = agent,
                                     .not_before = now,
                                     .not_after = now + absl::Hours(1),
                                     .der = agent,
                                     .public_key = agent};
    ASSERT_TRUE(
        store_->identity()
            .RedeemToken(token.hash, certificate, now, {"test", "agent.join", agent, "", now})
            .ok());
  }

  // Those of them that are submitted while it runs wait for one another.
  void WhileNobodyWrites(const std::function<void()>& submit) {
    const Status done = store_->database().Write([&](sql::Transaction&) {
      submit();
      testing::Pause(absl::Milliseconds(100));
      return OkStatus();
    });
    ASSERT_TRUE(done.ok()) << done;
  }
  bool Submit(const std::string& agent) {
    SessionOpening opening{.agent = agent, .replica = "r", .log_epoch = "log"};
    opening.now = SystemClock().Now();
    return opener_.Submit(std::move(opening),
                          [this](const SessionOpening& of, StatusOr<OpenedSession> answer) {
                            absl::MutexLock lock(&mutex_);
                            answers_.emplace_back(of.agent, std::move(answer));
                          });
  }
  std::vector<std::pair<std::string, StatusOr<OpenedSession>>> Answers(size_t count) {
    EXPECT_TRUE(Eventually([&] {
      absl::MutexLock lock(&mutex_);
      return answers_.size() >= count;
    }));
    absl::MutexLock lock(&mutex_);
    return answers_;
  }

  testing::TempFolder folder_;
  std::unique_ptr<Store> store_ = *Store::Open("sqlite:" + folder_.File("muster.db"));
  absl::Mutex mutex_;
  std::vector<std::pair<std::string, StatusOr<OpenedSession>>> answers_ ABSL_GUARDED_BY(mutex_);
  Opener opener_{store_->sessions(), 4};
};

TEST_F(OpenerTest, EachThatComesIsAnswered) {
  WhileNobodyWrites([&] {
    for (const char* agent : {"host-1", "host-2", "stranger"}) EXPECT_TRUE(Submit(agent));
  });
  std::map<std::string, StatusOr<OpenedSession>> of;
  for (auto& [agent, answer] : Answers(3)) of.emplace(agent, answer);
  ASSERT_TRUE(of.at("host-1").ok()) << of.at("host-1").status();
  EXPECT_EQ(of.at("host-1")->epoch, 1U);
  ASSERT_TRUE(of.at("host-2").ok()) << of.at("host-2").status();
  EXPECT_TRUE(absl::IsNotFound(of.at("stranger").status()));
}

TEST_F(OpenerTest, OneThatNoStoreWouldTakeSpoilsNoOther) {
  const Status refused = store_->database().Write([](sql::Transaction& t) {
    return t
        .Execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON agents WHEN NEW.name = 'host-3' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END")
        .status();
  });
  ASSERT_TRUE(refused.ok()) << refused;
  WhileNobodyWrites([&] {
    EXPECT_TRUE(Submit("host-1"));  // on its way alone
    EXPECT_TRUE(Submit("host-2"));
    EXPECT_TRUE(Submit("host-3"));
  });
  std::map<std::string, StatusOr<OpenedSession>> of;
  for (auto& [agent, answer] : Answers(3)) of.emplace(agent, answer);
  EXPECT_TRUE(of.at("host-1").ok()) << of.at("host-1").status();
  EXPECT_TRUE(of.at("host-2").ok()) << of.at("host-2").status();
  EXPECT_FALSE(of.at("host-3").ok());
}

TEST_F(OpenerTest, AnAgentThatComesTwiceFencesItsFirstSession) {
  WhileNobodyWrites([&] {
    EXPECT_TRUE(Submit("host-2"));
    EXPECT_TRUE(Submit("host-1"));
    EXPECT_TRUE(Submit("host-1"));
  });
  std::vector<uint64_t> epochs;
  for (auto& [agent, answer] : Answers(3)) {
    if (agent == "host-1") epochs.push_back(answer->epoch);
  }
  EXPECT_EQ(epochs, (std::vector<uint64_t>{1, 2}));
}

TEST_F(OpenerTest, ThoseForWhomThereIsNoRoomAreRefused) {
  WhileNobodyWrites([&] {
    EXPECT_TRUE(Submit("host-1"));
    testing::Pause(absl::Milliseconds(100));  // it is on its way
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(Submit("host-2"));
    EXPECT_FALSE(Submit("host-3"));
  });
  EXPECT_EQ(Answers(5).size(), 5U);
  opener_.Stop();
  EXPECT_FALSE(Submit("host-1")) << "it has stopped";
}

}  // namespace
}  // namespace muster::control
