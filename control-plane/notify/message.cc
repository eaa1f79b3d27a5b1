#include "control-plane/notify/message.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using nlohmann::ordered_json;

std::string_view SeverityName(v1::Severity severity) {
  switch (severity) {
    case v1::SEVERITY_CRITICAL: return "critical";
    case v1::SEVERITY_WARNING: return "warning";
    case v1::SEVERITY_INFO: return "info";
    default: return "unknown";
  }
}

std::string_view StateName(v1::AlertState state) {
  switch (state) {
    case v1::ALERT_STATE_PENDING: return "PENDING";
    case v1::ALERT_STATE_FIRING: return "FIRING";
    case v1::ALERT_STATE_RESOLVED: return "RESOLVED";
    default: return "UNKNOWN";
  }
}

std::string Upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

ordered_json TimeOrNull(bool there, const google::protobuf::Timestamp& time) {
  if (!there) return nullptr;
  return TimeText(wire::FromProto(time));
}

// Bytes that are not UTF-8 become U+FFFD: a notification never fails for what a probe printed.
std::string Dump(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// Slack's three control characters.
std::string SlackText(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string LateNote(const Notification& news) {
  if (!IsLateNews(news)) return "";
  return fmt::format("Told late: this was decided at {}.", TimeText(news.at));
}

std::vector<std::string> FactLines(const Notification& news) {
  const v1::Alert& alert = news.alert;
  std::vector<std::string> lines;
  const auto add = [&lines](std::string_view name, std::string_view value) {
    if (!value.empty()) lines.push_back(fmt::format("{}: {}", name, OneLine(value)));
  };
  add("Alert", alert.name());
  add("State", StateName(alert.state()));
  add("Severity", SeverityName(alert.severity()));
  add("Agent", alert.agent());
  add("Check", alert.check());
  add("Summary", alert.summary());
  add("Started", TimeText(wire::FromProto(alert.started_at())));
  if (alert.has_resolved_at()) add("Resolved", TimeText(wire::FromProto(alert.resolved_at())));
  add("Runbook", alert.runbook());
  return lines;
}

std::string Base64(std::string_view bytes) {
  std::string out = Base64UrlEncode(bytes);
  for (char& c : out) {
    if (c == '-') c = '+';
    if (c == '_') c = '/';
  }
  while (out.size() % 4 != 0) out += '=';
  return out;
}

// RFC 2047, words of at most 75 characters, cut between characters.
std::string EncodedHeader(std::string_view raw) {
  const std::string text = OneLine(raw);
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  // Text that looks like an encoded word must itself be encoded.
  if (plain && text.size() <= 200 && text.find("=?") == std::string::npos) return text;
  std::string out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view word = Truncate(rest, 42);
    if (word.empty()) break;
    if (!out.empty()) out += "\r\n ";
    out += fmt::format("=?UTF-8?B?{}?=", Base64(word));
    rest.remove_prefix(word.size());
  }
  return out;
}

// An address as a header may hold it; the spec's rule leaves nothing to change.
std::string Address(std::string_view address) {
  std::string out;
  for (const char c : address) {
    if (c > ' ' && c != '\x7f' && c != '<' && c != '>' && c != ',') out += c;
  }
  return out;
}

// RFC 2045 section 6.7. Lines end with CRLF and have at most 76 characters.
std::string QuotedPrintable(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  size_t column = 0;
  const auto put = [&out, &column](std::string_view token) {
    if (column + token.size() > 75) {
      out += "=\r\n";
      column = 0;
    }
    out += token;
    column += token.size();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool ends_line = i + 1 == text.size() || text[i + 1] == '\n';
    if (c == '\n') {
      out += "\r\n";
      column = 0;
    } else if ((c > ' ' && c <= '~' && c != '=' && c != '.') || (c == '.' && column > 0) ||
               (c == ' ' && !ends_line)) {
      put(text.substr(i, 1));
    } else {
      const char escaped[] = {'=', kHex[c >> 4U], kHex[c & 15U]};
      put({escaped, 3});
    }
  }
  return out;
}

std::string EmailBody(const Notification& news) {
  std::string body;
  for (const std::string& line : FactLines(news)) body += line + "\n";
  if (!news.alert.description().empty()) body += "\n" + CleanText(news.alert.description()) + "\n";
  if (const std::string late = LateNote(news); !late.empty()) body += "\n" + late + "\n";
  return body + fmt::format("\nWhy you were told: musterctl alert explain {}\n", news.alert.id());
}

std::string RaiseMessageId(const Notification& news, const v1::EmailReceiver& receiver) {
  Notification raise = news;
  raise.event = "raised";
  return MessageId(raise, receiver);
}

}  // namespace

bool IsLateNews(const Notification& news) { return news.sent_at - news.at > absl::Minutes(5); }

std::string Headline(const Notification& news) {
  const std::string word =
      news.event == "resolved" ? "RESOLVED" : Upper(SeverityName(news.alert.severity()));
  std::string line = fmt::format("[{}] {}", word, news.alert.name());
  if (!news.alert.summary().empty()) line += fmt::format(": {}", news.alert.summary());
  return std::string(Truncate(OneLine(line), 300));
}

std::string WebhookBody(const Notification& news) {
  const v1::Alert& alert = news.alert;
  return Dump(ordered_json{
      {"version", "1"},
      {"event", news.event},
      {"alert",
       {{"id", alert.id()},
        {"name", alert.name()},
        {"severity", SeverityName(alert.severity())},
        {"state", StateName(alert.state())},
        {"check", alert.check()},
        {"agent", alert.agent()},
        {"summary", alert.summary()},
        {"description", alert.description()},
        {"runbook", alert.runbook()},
        {"startedAt", TimeText(wire::FromProto(alert.started_at()))},
        {"resolvedAt", TimeOrNull(alert.has_resolved_at(), alert.resolved_at())}}},
      {"dedupKey", alert.id()},
      {"sentAt", TimeText(news.sent_at)},
      {"late", IsLateNews(news)},
  });
}

std::string SlackBody(const Notification& news) {
  const std::string headline = SlackText(Headline(news));
  std::string facts;
  for (const std::string& line : FactLines(news)) facts += SlackText(line) + "\n";
  if (!news.alert.description().empty()) {
    facts += SlackText(Truncate(CleanText(news.alert.description()), 1000)) + "\n";
  }
  facts += LateNote(news);
  const auto section = [](std::string_view type, std::string_view text) {
    // Slack refuses sections of more than 3,000 characters.
    return ordered_json{{"type", "section"},
                        {"text", {{"type", type}, {"text", Truncate(text, 2900)}}}};
  };
  return Dump(ordered_json{
      {"text", headline},
      {"blocks", {section("mrkdwn", fmt::format("*{}*", headline)), section("plain_text", facts)}},
  });
}

std::string MessageId(const Notification& news, const v1::EmailReceiver& receiver) {
  const std::string from = Address(receiver.from());
  const std::string host = from.substr(std::min(from.find('@'), from.size() - 1) + 1);
  // The raise happens once an alert, so that the others can name it; they carry their row's number.
  if (news.event == "raised") return fmt::format("<{}.raised@{}>", Address(news.alert.id()), host);
  return fmt::format("<{}.{}.{}@{}>", Address(news.alert.id()), Address(news.event), news.id, host);
}

std::string EmailMessage(const Notification& news, const v1::EmailReceiver& receiver) {
  std::string to;
  for (const std::string& address : receiver.to())
    to += (to.empty() ? "" : ",\r\n ") + Address(address);
  std::string out;
  const auto header = [&out](std::string_view name, std::string_view value) {
    out += fmt::format("{}: {}\r\n", name, value);
  };
  header("Date",
         absl::FormatTime("%a, %d %b %Y %H:%M:%S +0000", news.sent_at, absl::UTCTimeZone()));
  header("From", fmt::format("muster <{}>", Address(receiver.from())));
  header("To", to);
  header("Subject", EncodedHeader(Headline(news)));
  header("Message-ID", MessageId(news, receiver));
  if (news.event != "raised") {
    header("In-Reply-To", RaiseMessageId(news, receiver));
    header("References", RaiseMessageId(news, receiver));
  }
  header("Auto-Submitted", "auto-generated");
  header("MIME-Version", "1.0");
  header("Content-Type", "text/plain; charset=utf-8");
  header("Content-Transfer-Encoding", "quoted-printable");
  return out + "\r\n" + QuotedPrintable(EmailBody(news));
}

}  // namespace muster::control
