#include "control-plane/notify/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

Notification News(std::string event) {
  Notification news{.event = std::move(event), .id = 42, .at = kNow, .sent_at = kNow};
  v1::Alert& alert = news.alert;
  alert.set_id("11111111-2222-5333-8444-555555555555");
  alert.set_name("check/api on web-1");
  alert.set_severity(v1::SEVERITY_CRITICAL);
  alert.set_state(v1::ALERT_STATE_FIRING);
  alert.set_check("api");
  alert.set_agent("web-1");
  alert.set_summary("connection refused");
  alert.set_description("people cannot buy");
  alert.set_runbook("https://runbooks.example.org/api");
  *alert.mutable_started_at() = wire::ToProto(kNow);
  return news;
}

v1::EmailReceiver Receiver() {
  v1::EmailReceiver receiver;
  receiver.set_from("muster@example.org");
  receiver.add_to("oncall@example.org");
  return receiver;
}

// The header's lines, without its body.
std::string Head(const std::string& mail) { return mail.substr(0, mail.find("\r\n\r\n")); }

TEST(WebhookMessage, HasTheDocumentedShape) {
  EXPECT_EQ(
      WebhookBody(News("raised")),
      R"({"version":"1","event":"raised","alert":{"id":"11111111-2222-5333-8444-555555555555",)"
      R"("name":"check/api on web-1","severity":"critical","state":"FIRING","check":"api",)"
      R"("agent":"web-1","summary":"connection refused","description":"people cannot buy",)"
      R"("runbook":"https://runbooks.example.org/api","startedAt":"2027-01-15T08:00:00Z",)"
      R"("resolvedAt":null},"dedupKey":"11111111-2222-5333-8444-555555555555",)"
      R"("sentAt":"2027-01-15T08:00:00Z","late":false})");
}

TEST(WebhookMessage, SaysWhenItIsResolvedAndWhenItIsLate) {
  Notification news = News("resolved");
  *news.alert.mutable_resolved_at() = wire::ToProto(kNow + absl::Seconds(90));
  news.sent_at = kNow + absl::Minutes(6);
  const auto body = nlohmann::json::parse(WebhookBody(news));
  EXPECT_EQ(body["alert"]["resolvedAt"], "2027-01-15T08:01:30Z");
  EXPECT_EQ(body["late"], true);
}

TEST(WebhookMessage, StaysJsonWhateverAProbePrinted) {
  Notification news = News("raised");
  news.alert.set_summary("\"quoted\"\n\x01 caf\xc3\xa9");
  EXPECT_EQ(nlohmann::json::parse(WebhookBody(news))["alert"]["summary"],
            "\"quoted\"\n\x01 caf\xc3\xa9");
}

TEST(SlackMessage, HasAFallbackTextAndBlocks) {
  const auto body = nlohmann::json::parse(SlackBody(News("raised")));
  EXPECT_EQ(body["text"], "[CRITICAL] check/api on web-1: connection refused");
  ASSERT_EQ(body["blocks"].size(), 2U);
  EXPECT_EQ(body["blocks"][0]["type"], "section");
  EXPECT_THAT(body["blocks"][1]["text"]["text"].get<std::string>(),
              HasSubstr("https://runbooks.example.org/api"));
}

TEST(SlackMessage, LetsNoProbeMentionTheWholeChannel) {
  Notification news = News("raised");
  news.alert.set_summary("<!channel> & <@U1>");
  const auto body = nlohmann::json::parse(SlackBody(news));
  EXPECT_THAT(body["text"].get<std::string>(), HasSubstr("&lt;!channel&gt; &amp; &lt;@U1&gt;"));
  EXPECT_THAT(SlackBody(news), Not(HasSubstr("<!channel>")));
}

TEST(SlackMessage, StaysUnderSlacksLimits) {
  Notification news = News("raised");
  news.alert.set_summary(std::string(9000, '<'));
  news.alert.set_description(std::string(9000, 'd'));
  const auto body = nlohmann::json::parse(SlackBody(news));
  for (const auto& block : body["blocks"])
    EXPECT_LE(block["text"]["text"].get<std::string>().size(), 3000U);
}

TEST(Mail, CarriesTheHeadersThatMailProgramsThreadBy) {
  const std::string raise = EmailMessage(News("raised"), Receiver());
  EXPECT_THAT(
      raise,
      HasSubstr("Message-ID: <11111111-2222-5333-8444-555555555555.raised@example.org>\r\n"));
  EXPECT_THAT(raise, Not(HasSubstr("References:")));
  const std::string resolve = EmailMessage(News("resolved"), Receiver());
  EXPECT_THAT(
      resolve,
      HasSubstr("Message-ID: <11111111-2222-5333-8444-555555555555.resolved.42@example.org>\r\n"));
  EXPECT_THAT(
      resolve,
      HasSubstr("References: <11111111-2222-5333-8444-555555555555.raised@example.org>\r\n"));
  EXPECT_THAT(resolve, HasSubstr("Subject: [RESOLVED] check/api on web-1"));
  EXPECT_THAT(raise, HasSubstr("Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"));
  EXPECT_THAT(raise, HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"));
}

TEST(Mail, IsTheSameAtEveryAttempt) {
  Notification again = News("changed");
  again.sent_at += absl::Hours(1);
  EXPECT_EQ(MessageId(News("changed"), Receiver()), MessageId(again, Receiver()));
}

TEST(Mail, LetsNoTextAddAHeaderOrABodyPart) {
  Notification news = News("raised");
  news.alert.set_name("api\r\nBcc: thief@example.org");
  news.alert.set_summary("x\r\n\r\nbody\r\n.\r\nRCPT TO:<thief@example.org>");
  news.alert.set_id("id>\r\nX-Evil: 1");
  v1::EmailReceiver receiver = Receiver();
  receiver.set_from("muster@example.org\r\nX-Evil: 2");
  receiver.add_to("b@example.org>\r\nX-Evil: 3");
  const std::string mail = EmailMessage(news, receiver);
  EXPECT_THAT(Head(mail), Not(HasSubstr("\r\nBcc:")));
  EXPECT_THAT(Head(mail), Not(HasSubstr("\r\nX-Evil")));
  EXPECT_THAT(mail, Not(HasSubstr("\r\n.\r\n")));
  EXPECT_EQ(mail.find("\r\n\r\n"), mail.find("quoted-printable\r\n\r\n") + 16);
}

TEST(Mail, EncodesSubjectsThatAreNotAscii) {
  Notification news = News("raised");
  news.alert.set_summary("Füllstand zu hoch – der Speicher ist voll, und zwar schon seit gestern");
  const std::string mail = EmailMessage(news, Receiver());
  EXPECT_THAT(mail, HasSubstr("Subject: =?UTF-8?B?"));
  for (const char c : mail) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
  size_t start = 0;
  for (size_t end = mail.find("\r\n"); end != std::string::npos; end = mail.find("\r\n", start)) {
    EXPECT_LE(end - start, 90U) << mail.substr(start, end - start);
    start = end + 2;
  }
}

TEST(Mail, KeepsTheDescriptionsLines) {
  Notification news = News("raised");
  news.alert.set_description("first = 1\n.second\nthird ");
  EXPECT_THAT(EmailMessage(news, Receiver()),
              HasSubstr("\r\nfirst =3D 1\r\n=2Esecond\r\nthird=20\r\n"));
}

}  // namespace
}  // namespace muster::control
