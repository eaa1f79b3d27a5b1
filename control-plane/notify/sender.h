// One attempt to tell one receiver, over libcurl: webhook, Slack, mail. Blocks for at most the
// timeout, and as long again for a mail server's farewell. Never follows redirects, reads secrets
// when it sends, and says none of them in a reason. Any thread may call.
#pragma once

#include <atomic>
#include <string>

#include <absl/time/time.h>

#include "control-plane/notify/message.h"
#include "lib/base/clock.h"

namespace muster::control {

enum class Telling { kDelivered, kRetry, kPermanent };

struct Outcome {
  Telling telling = Telling::kPermanent;
  absl::Duration after =
      absl::ZeroDuration();  // kRetry: the wish of the receiver (Retry-After), or zero
  std::string reason;        // empty when delivered
};

struct SenderOptions {
  absl::Duration timeout = absl::Seconds(10);
};

class Sender {
 public:
  Sender(const Clock& clock, SenderOptions options);
  Outcome Send(const v1::ReceiverSpec& receiver, const Notification& news);
  // Attempts that run, and later ones, end soon as kRetry.
  void Cancel() { cancelled_ = true; }

 private:
  Outcome SendWebhook(const v1::WebhookReceiver& receiver, const Notification& news);
  Outcome SendSlack(const v1::SlackReceiver& receiver, const Notification& news);
  Outcome SendEmail(const v1::EmailReceiver& receiver, const Notification& news);

  const Clock& clock_;
  const SenderOptions options_;
  std::atomic<bool> cancelled_ = false;
};

// "webhook", "slack", "email".
std::string_view ReceiverKind(const v1::ReceiverSpec& receiver);

}  // namespace muster::control
