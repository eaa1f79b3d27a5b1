#include "control-plane/notify/sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/notify/test_servers.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::HasSubstr;
using testing::HttpSink;
using testing::MailServer;
using ::testing::Not;

Notification News(std::string event = "raised") {
  Notification news{.event = std::move(event), .id = 7};
  news.alert.set_id("11111111-2222-5333-8444-555555555555");
  news.alert.set_name("check/api on web-1");
  news.alert.set_severity(v1::SEVERITY_CRITICAL);
  news.alert.set_state(v1::ALERT_STATE_FIRING);
  news.alert.set_check("api");
  news.alert.set_agent("web-1");
  news.alert.set_summary("connection refused");
  news.at = news.sent_at = absl::FromUnixSeconds(1'800'000'000);
  *news.alert.mutable_started_at() = wire::ToProto(news.at);
  return news;
}

class SenderTest : public ::testing::Test {
 protected:
  ManualClock clock_;
  Sender sender_{clock_, {.timeout = absl::Seconds(2)}};
};

v1::ReceiverSpec Webhook(const std::string& url) {
  v1::ReceiverSpec receiver;
  receiver.mutable_webhook()->set_url(url);
  return receiver;
}

v1::ReceiverSpec Slack(const std::string& url) {
  v1::ReceiverSpec receiver;
  receiver.mutable_slack()->set_url(url);
  return receiver;
}

v1::ReceiverSpec Email(const MailServer& server) {
  v1::ReceiverSpec receiver;
  v1::EmailReceiver& email = *receiver.mutable_email();
  email.set_server(server.address());
  email.set_from("muster@example.org");
  email.add_to("oncall@example.org");
  email.add_to("second@example.org");
  email.set_ca_file(server.ca_file());
  return receiver;
}

TEST_F(SenderTest, PostsTheDocumentedJsonToAWebhook) {
  HttpSink sink;
  auto receiver = Webhook(sink.url("/hook?a=b"));
  (*receiver.mutable_webhook()->mutable_headers())["X-Team"] = "core";
  const Outcome outcome = sender_.Send(receiver, News());
  ASSERT_EQ(outcome.telling, Telling::kDelivered) << outcome.reason;
  const auto seen = sink.Requests();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0]["method"], "POST");
  EXPECT_EQ(seen[0]["path"], "/hook?a=b");
  EXPECT_EQ(seen[0]["headers"]["content-type"], "application/json");
  EXPECT_EQ(seen[0]["headers"]["x-team"], "core");
  const auto body = nlohmann::json::parse(seen[0]["body"].get<std::string>());
  EXPECT_EQ(body["version"], "1");
  EXPECT_EQ(body["event"], "raised");
  EXPECT_EQ(body["alert"]["severity"], "critical");
  EXPECT_EQ(body["dedupKey"], body["alert"]["id"]);
}

TEST_F(SenderTest, SendsABearerTokenReadFromAFile) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("token"), "s3cr3t-token\n").ok());
  HttpSink sink({R"({"status": 400, "body": "bad token s3cr3t-token"})"});
  auto receiver = Webhook(sink.url("/"));
  receiver.mutable_webhook()->mutable_bearer()->set_secret("file:" + folder.File("token"));
  const Outcome outcome = sender_.Send(receiver, News());
  EXPECT_EQ(outcome.telling, Telling::kPermanent);
  EXPECT_THAT(outcome.reason, HasSubstr("HTTP 400: bad token"));
  EXPECT_THAT(outcome.reason, Not(HasSubstr("s3cr3t")));
  EXPECT_EQ(sink.Requests().at(0)["headers"]["authorization"], "Bearer s3cr3t-token");
}

TEST_F(SenderTest, TriesAgainWhenASecretCannotBeReadYet) {
  auto receiver = Webhook("http://127.0.0.1:1/");
  receiver.mutable_webhook()->mutable_bearer()->set_secret("file:/nonexistent/token");
  EXPECT_EQ(sender_.Send(receiver, News()).telling, Telling::kRetry);
}

TEST_F(SenderTest, SortsAnswersIntoRetryAndForEver) {
  struct Case {
    const char* answer;
    Telling telling;
    absl::Duration after;
  };
  const std::vector<Case> cases{
      {R"({"status": 204, "body": ""})", Telling::kDelivered, absl::ZeroDuration()},
      {R"({"status": 429, "headers": {"Retry-After": "7"}})", Telling::kRetry, absl::Seconds(7)},
      {R"({"status": 503, "headers": {"Retry-After": "Fri, 15 Jan 2027 08:01:00 GMT"}})",
       Telling::kRetry, absl::Seconds(60)},
      {R"({"status": 503, "headers": {"Retry-After": "soon"}})", Telling::kRetry,
       absl::ZeroDuration()},
      {R"({"status": 500})", Telling::kRetry, absl::ZeroDuration()},
      {R"({"status": 408})", Telling::kRetry, absl::ZeroDuration()},
      {R"({"status": 404})", Telling::kPermanent, absl::ZeroDuration()},
      {R"({"status": 302, "headers": {"Location": "/elsewhere"}})", Telling::kPermanent,
       absl::ZeroDuration()},
  };
  std::vector<std::string> script;
  for (const Case& c : cases) script.emplace_back(c.answer);
  HttpSink sink(script);
  for (const Case& c : cases) {
    const Outcome outcome = sender_.Send(Webhook(sink.url("/")), News());
    EXPECT_EQ(outcome.telling, c.telling) << c.answer << outcome.reason;
    EXPECT_EQ(outcome.after, c.after) << c.answer;
  }
  EXPECT_EQ(sink.Requests().size(), cases.size()) << "a redirect was followed";
}

TEST_F(SenderTest, TriesAgainWhenNobodyListensOrNobodyAnswers) {
  const Outcome refused =
      sender_.Send(Webhook(fmt::format("http://127.0.0.1:{}/", testing::FreePort())), News());
  EXPECT_EQ(refused.telling, Telling::kRetry);
  EXPECT_FALSE(refused.reason.empty());
  HttpSink sink({R"({"hang": 30})"});
  EXPECT_EQ(sender_.Send(Webhook(sink.url("/")), News()).telling, Telling::kRetry);
}

TEST_F(SenderTest, BelievesSlackOnlyWhenItSaysOk) {
  HttpSink sink({R"({"body": "ok"})", R"({"body": "invalid_payload"})",
                 R"({"status": 404, "body": "no_service"})",
                 R"({"status": 429, "headers": {"Retry-After": "1"}, "body": "rate_limited"})"});
  const auto receiver = Slack(sink.url("/services/T0/B0/x"));
  EXPECT_EQ(sender_.Send(receiver, News()).telling, Telling::kDelivered);
  const Outcome invalid = sender_.Send(receiver, News());
  EXPECT_EQ(invalid.telling, Telling::kPermanent);
  EXPECT_THAT(invalid.reason, HasSubstr("invalid_payload"));
  EXPECT_EQ(sender_.Send(receiver, News()).telling, Telling::kPermanent);
  const Outcome limited = sender_.Send(receiver, News());
  EXPECT_EQ(limited.telling, Telling::kRetry);
  EXPECT_EQ(limited.after, absl::Seconds(1));
}

TEST_F(SenderTest, NeverSaysASecretUrl) {
  testing::TempFolder folder;
  const std::string url = fmt::format("http://127.0.0.1:{}/services/hidden", testing::FreePort());
  ASSERT_TRUE(WriteFileAtomically(folder.File("url"), url).ok());
  v1::ReceiverSpec receiver;
  receiver.mutable_slack()->mutable_url_from()->set_secret("file:" + folder.File("url"));
  const Outcome outcome = sender_.Send(receiver, News());
  EXPECT_EQ(outcome.telling, Telling::kRetry);
  EXPECT_THAT(outcome.reason, Not(HasSubstr("hidden")));
}

TEST_F(SenderTest, SendsMailUnderTlsWithAPassword) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("password"), "hunter22\n").ok());
  MailServer server({.user = "muster", .password = "hunter22"});
  auto receiver = Email(server);
  receiver.mutable_email()->set_username("muster");
  receiver.mutable_email()->mutable_password()->set_secret("file:" + folder.File("password"));
  const Outcome outcome = sender_.Send(receiver, News());
  ASSERT_EQ(outcome.telling, Telling::kDelivered) << outcome.reason;
  const auto mail = server.Messages().at(0);
  EXPECT_EQ(mail["tls"], true);
  EXPECT_EQ(mail["user"], "muster");
  EXPECT_EQ(mail["from"], "muster@example.org");
  EXPECT_EQ(mail["to"], nlohmann::json({"oncall@example.org", "second@example.org"}));
  EXPECT_THAT(mail["message"].get<std::string>(),
              HasSubstr("Subject: [CRITICAL] check/api on web-1: connection refused"));
}

TEST_F(SenderTest, SendsNoPasswordInClear) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("password"), "hunter22\n").ok());
  MailServer server({.user = "muster", .password = "hunter22", .tls = false});
  auto receiver = Email(server);
  receiver.mutable_email()->set_username("muster");
  receiver.mutable_email()->mutable_password()->set_secret("file:" + folder.File("password"));
  for (const bool allow_plaintext : {false, true}) {
    receiver.mutable_email()->set_allow_plaintext(allow_plaintext);
    const Outcome outcome = sender_.Send(receiver, News());
    EXPECT_EQ(outcome.telling, Telling::kRetry);
    EXPECT_THAT(outcome.reason, HasSubstr("STARTTLS"));
  }
  EXPECT_TRUE(server.Record().empty());
}

TEST_F(SenderTest, SendsMailInClearOnlyWhereThatIsAllowed) {
  MailServer server({.tls = false});
  auto receiver = Email(server);
  EXPECT_EQ(sender_.Send(receiver, News()).telling, Telling::kRetry);
  receiver.mutable_email()->set_allow_plaintext(true);
  const Outcome outcome = sender_.Send(receiver, News());
  EXPECT_EQ(outcome.telling, Telling::kDelivered) << outcome.reason;
}

TEST_F(SenderTest, TrustsOnlyTheCertificateAuthorityOfTheMailServer) {
  MailServer server;
  auto receiver = Email(server);
  receiver.mutable_email()->clear_ca_file();
  EXPECT_EQ(sender_.Send(receiver, News()).telling, Telling::kRetry);
  EXPECT_TRUE(server.Messages().empty());
}

TEST_F(SenderTest, SortsWhatAMailServerSays) {
  MailServer deferring({.defer = 1});
  const Outcome later = sender_.Send(Email(deferring), News());
  EXPECT_EQ(later.telling, Telling::kRetry);
  EXPECT_THAT(later.reason, HasSubstr("451 4.3.0 come back later"));
  EXPECT_EQ(sender_.Send(Email(deferring), News()).telling, Telling::kDelivered);

  MailServer refusing({.refuse = true});
  const Outcome never = sender_.Send(Email(refusing), News());
  EXPECT_EQ(never.telling, Telling::kPermanent);
  EXPECT_THAT(never.reason, HasSubstr("550 5.7.1 not wanted here"));
}

TEST_F(SenderTest, IsHeldByAHangingMailServerForItsTimeoutOnly) {
  MailServer server({.hang = true});
  const absl::Duration start = SystemClock().Uptime();
  EXPECT_EQ(sender_.Send(Email(server), News()).telling, Telling::kRetry);
  EXPECT_LT(SystemClock().Uptime() - start, absl::Seconds(8));
}

TEST_F(SenderTest, RefusesAWrongPasswordForEver) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("password"), "wrong-one\n").ok());
  MailServer server({.user = "muster", .password = "hunter22"});
  auto receiver = Email(server);
  receiver.mutable_email()->set_username("muster");
  receiver.mutable_email()->mutable_password()->set_secret("file:" + folder.File("password"));
  const Outcome outcome = sender_.Send(receiver, News());
  EXPECT_EQ(outcome.telling, Telling::kPermanent);
  EXPECT_THAT(outcome.reason, Not(HasSubstr("wrong-one")));
}

}  // namespace
}  // namespace muster::control
