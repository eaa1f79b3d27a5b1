#include "control-plane/notify/notifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/decide/alert.h"
#include "control-plane/notify/test_servers.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using testing::Eventually;
using ::testing::HasSubstr;
using testing::HttpSink;
using testing::MailServer;

class NotifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::OpenInMemory();
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }

  v1::Document Receiver(const std::string& name) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Receiver");
    document.mutable_metadata()->set_name(name);
    return document;
  }
  void Apply(const v1::Document& document) {
    const AuditNote note{.actor = "admin/test", .action = "spec.apply", .at = clock_.Now()};
    const auto applied = store_->specs().Apply({document}, note);
    ASSERT_TRUE(applied.ok()) << applied.status();
  }
  void AddWebhook(const std::string& name, const HttpSink& sink) {
    v1::Document document = Receiver(name);
    document.mutable_receiver()->mutable_webhook()->set_url(sink.url("/" + name));
    Apply(document);
  }
  void AddSlack(const std::string& name, const HttpSink& sink) {
    v1::Document document = Receiver(name);
    document.mutable_receiver()->mutable_slack()->set_url(sink.url("/" + name));
    Apply(document);
  }
  void AddMail(const std::string& name, const MailServer& server) {
    v1::Document document = Receiver(name);
    v1::EmailReceiver& email = *document.mutable_receiver()->mutable_email();
    email.set_server(server.address());
    email.set_from("muster@example.org");
    email.add_to("oncall@example.org");
    email.set_ca_file(server.ca_file());
    Apply(document);
  }

  // An alert of this id, and outbox rows of these events for these receivers.
  void Tell(const std::string& id, const std::vector<std::string>& events,
            const std::vector<std::string>& receivers) {
    AlertRow alert{.id = id,
                   .key = "check/web-1/" + id,
                   .name = "check/" + id + " on web-1",
                   .severity = v1::SEVERITY_CRITICAL,
                   .state = v1::ALERT_STATE_FIRING,
                   .check = id,
                   .agent = "web-1",
                   .started_at = clock_.Now(),
                   .fired_at = clock_.Now(),
                   .resolved_at = absl::InfiniteFuture()};
    AlertDecision decision;
    decision.alerts = {alert};
    for (const std::string& event : events) {
      for (const std::string& receiver : receivers) {
        decision.outbox.push_back({.alert_id = id,
                                   .receiver = receiver,
                                   .event = event,
                                   .payload = AlertMessage(alert).SerializeAsString(),
                                   .created_at = clock_.Now(),
                                   .next_attempt_at = clock_.Now(),
                                   .delivered_at = absl::InfinitePast()});
      }
    }
    const Status applied = store_->alerts().Apply(LeaderEpoch{}, decision);
    ASSERT_TRUE(applied.ok()) << applied;
  }

  std::unique_ptr<Notifier> Start() {
    NotifierOptions options;
    options.poll = absl::Milliseconds(10);
    options.sender.timeout = absl::Seconds(5);
    options.on_attempt = [this](std::string_view kind, std::string_view outcome) {
      const absl::MutexLock lock(&mutex_);
      attempts_.push_back(fmt::format("{} {}", kind, outcome));
    };
    return std::make_unique<Notifier>(*store_, clock_, *random_, options);
  }

  OutboxRow Row(const std::string& id, size_t index = 0) {
    const auto rows = store_->alerts().Deliveries(id);
    return rows.ok() && rows->size() > index ? (*rows)[index] : OutboxRow{};
  }
  bool EventuallyIs(const std::string& id, OutboxState state, uint32_t attempts, size_t index = 0) {
    return Eventually([&] {
      const OutboxRow row = Row(id, index);
      return row.state == state && row.attempts == attempts;
    });
  }

  ManualClock clock_;
  std::unique_ptr<Random> random_ = SeededRandom(1);
  std::unique_ptr<Store> store_;
  absl::Mutex mutex_;
  std::vector<std::string> attempts_;
};

TEST_F(NotifierTest, DeliversToEveryReceiverAndRemembersIt) {
  HttpSink one;
  HttpSink two;
  AddWebhook("one", one);
  AddSlack("two", two);
  const auto notifier = Start();
  Tell("a", {"raised"}, {"one", "two"});
  notifier->Wake();
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 1, 0));
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 1, 1));
  EXPECT_EQ(Row("a").delivered_at, clock_.Now());
  EXPECT_EQ(one.Requests().size(), 1U);
  EXPECT_EQ(two.Requests().size(), 1U);
  const absl::MutexLock lock(&mutex_);
  EXPECT_THAT(attempts_, ::testing::UnorderedElementsAre("webhook delivered", "slack delivered"));
}

TEST_F(NotifierTest, KeepsTheOrderOfEachReceiver) {
  HttpSink sink({R"({"status": 500})"});
  AddWebhook("one", sink);
  Tell("a", {"raised", "changed", "resolved"}, {"one"});
  const auto notifier = Start();
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kWaiting, 1));
  EXPECT_EQ(sink.Events(), std::vector<std::string>{"raised"});
  clock_.Advance(absl::Seconds(10));
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 1, 2));
  EXPECT_THAT(sink.Events(), ElementsAre("raised", "raised", "changed", "resolved"));
}

TEST_F(NotifierTest, HonoursRetryAfter) {
  HttpSink sink({R"({"status": 429, "headers": {"Retry-After": "120"}})"});
  AddWebhook("one", sink);
  Tell("a", {"raised"}, {"one"});
  const absl::Time start = clock_.Now();
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kWaiting, 1));
  EXPECT_EQ(Row("a").next_attempt_at, start + absl::Seconds(120));
  clock_.Advance(absl::Seconds(119));
  testing::Pause(absl::Milliseconds(150));
  EXPECT_EQ(sink.Requests().size(), 1U);
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 2));
}

TEST_F(NotifierTest, GoesOnAfterARestart) {
  MailServer server({.defer = 1});
  AddMail("mail", server);
  Tell("a", {"raised"}, {"mail"});
  {
    const auto first = Start();
    ASSERT_TRUE(EventuallyIs("a", OutboxState::kWaiting, 1));
    EXPECT_THAT(Row("a").last_error, HasSubstr("451"));
  }
  clock_.Advance(absl::Seconds(10));
  const auto second = Start();
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 2));
  EXPECT_EQ(server.Messages().size(), 1U);
}

TEST_F(NotifierTest, SendsAgainWhatWasCutOffByItsOwnEnd) {
  HttpSink sink({R"({"hang": 30})"});
  AddWebhook("one", sink);
  Tell("a", {"raised"}, {"one"});
  {
    const auto first = Start();
    ASSERT_TRUE(Eventually([&] { return sink.Requests().size() == 1; }));
  }
  EXPECT_EQ(Row("a").attempts, 0U) << "an attempt that we cut off counted";
  const auto second = Start();
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 1));
}

TEST_F(NotifierTest, GivesUpWhatIsRefusedForEverAndShowsWhy) {
  HttpSink sink({R"({"body": "invalid_payload"})"});
  AddSlack("slack", sink);
  Tell("a", {"raised", "resolved"}, {"slack"});
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kFailed, 1));
  EXPECT_THAT(Row("a").last_error, HasSubstr("invalid_payload"));
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 1, 1))
      << "what comes after it is told all the same";
  EXPECT_EQ(store_->alerts().Counts()->failed, 1U);
}

TEST_F(NotifierTest, GivesUpAfterADay) {
  HttpSink sink({R"({"status": 500})", R"({"status": 500})"});
  AddWebhook("one", sink);
  Tell("a", {"raised"}, {"one"});
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kWaiting, 1));
  clock_.Advance(absl::Hours(24));
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kFailed, 2));
  EXPECT_THAT(Row("a").last_error, HasSubstr("given up 1d"));
}

TEST_F(NotifierTest, SaysThatAReceiverWasDeleted) {
  Tell("a", {"raised"}, {"gone"});
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kFailed, 1));
  EXPECT_EQ(Row("a").last_error, "receiver gone was deleted");
}

TEST_F(NotifierTest, LetsNoSlowMailServerDelayAWebhook) {
  MailServer slow({.hang = true});
  HttpSink quick;
  AddMail("mail", slow);
  AddWebhook("quick", quick);
  for (int i = 0; i < 20; ++i) Tell(fmt::format("a{}", i), {"raised"}, {"mail", "quick"});
  const auto notifier = Start();
  EXPECT_TRUE(Eventually([&] { return quick.Requests().size() == 20; }, absl::Seconds(4)));
  EXPECT_EQ(slow.Messages().size(), 0U);
}

TEST_F(NotifierTest, LeavesAReceiverAloneThatHasJustFailed) {
  HttpSink sink({R"({"status": 503})"});
  AddWebhook("one", sink);
  for (int i = 0; i < 5; ++i) Tell(fmt::format("a{}", i), {"raised"}, {"one"});
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a0", OutboxState::kWaiting, 1));
  testing::Pause(absl::Milliseconds(150));
  EXPECT_EQ(sink.Requests().size(), 1U);
  clock_.Advance(absl::Seconds(10));
  EXPECT_TRUE(Eventually([&] { return sink.Requests().size() == 6; }));
}

TEST_F(NotifierTest, UsesAReceiverAsItIsNow) {
  HttpSink old_sink({R"({"status": 500})"});
  HttpSink new_sink;
  AddWebhook("one", old_sink);
  Tell("a", {"raised"}, {"one"});
  const auto notifier = Start();
  ASSERT_TRUE(EventuallyIs("a", OutboxState::kWaiting, 1));
  AddWebhook("one", new_sink);
  clock_.Advance(absl::Seconds(10));
  EXPECT_TRUE(EventuallyIs("a", OutboxState::kDelivered, 2));
  EXPECT_EQ(new_sink.Requests().size(), 1U);
}

}  // namespace
}  // namespace muster::control
