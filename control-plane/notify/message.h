// What receivers read: an alert's event as webhook JSON, as Slack's, and as a mail. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "muster/v1/alert_service.pb.h"
#include "muster/v1/receiver.pb.h"

namespace muster::control {

struct Notification {
  v1::Alert alert;    // as it was at the event
  std::string event;  // "raised", "changed", "resolved"
  uint64_t id = 0;    // of the outbox row: the same at every attempt
  absl::Time at;      // of the decision to tell
  absl::Time sent_at;
};

// Told more than five minutes after it was decided.
bool IsLateNews(const Notification& news);
// "[CRITICAL] check/api on web-1: connection refused", "[RESOLVED] …".
std::string Headline(const Notification& news);

// The documented JSON document; see docs/architecture/alerts.md.
std::string WebhookBody(const Notification& news);
std::string SlackBody(const Notification& news);
// RFC 5322 with CRLF. No text of an alert can add a header or a body part.
std::string EmailMessage(const Notification& news, const v1::EmailReceiver& receiver);
// "<…@host>", the same for each attempt; that of the raise is what later ones refer to.
std::string MessageId(const Notification& news, const v1::EmailReceiver& receiver);

}  // namespace muster::control
