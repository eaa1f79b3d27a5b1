#include "control-plane/notify/sender.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <vector>

#include "lib/base/secret.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr size_t kBodyKept = 1024;

void InitialiseCurlOnce() {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)initialised;  // a handle cannot be made if this failed, which Request says
}

Outcome Retry(std::string reason, absl::Duration after = absl::ZeroDuration()) {
  return {.telling = Telling::kRetry, .after = after, .reason = std::move(reason)};
}
Outcome Permanent(std::string reason) {
  return {.telling = Telling::kPermanent, .reason = std::move(reason)};
}

// Replaces each occurrence of what must not be said. Short ones are no secrets worth the name.
std::string Scrub(std::string reason, std::string_view secret) {
  if (secret.size() < 4) return reason;
  for (size_t at = reason.find(secret); at != std::string::npos; at = reason.find(secret)) {
    reason.replace(at, secret.size(), "***");
  }
  return reason;
}

// One libcurl handle and what belongs to it.
class Request {
 public:
  Request(const SenderOptions& options, const std::atomic<bool>& cancelled)
      : handle_(curl_easy_init()) {
    if (handle_ == nullptr) return;
    Set(CURLOPT_ERRORBUFFER, error_);
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_FOLLOWLOCATION, 0L);
    Set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(options.timeout)));
    Set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(options.timeout)));
    // Else a connection outlives its attempt in a cache, and the handle's end says QUIT to a mail
    // server that hangs, for two minutes.
    Set(CURLOPT_FORBID_REUSE, 1L);
    Set(CURLOPT_SERVER_RESPONSE_TIMEOUT,
        std::max(1L, static_cast<long>(absl::ToInt64Seconds(options.timeout))));
    Set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    Set(CURLOPT_USERAGENT, "muster/" MUSTER_VERSION);
    Set(CURLOPT_WRITEFUNCTION, &Request::TakeBody);
    Set(CURLOPT_WRITEDATA, &body_);
    Set(CURLOPT_NOPROGRESS, 0L);
    Set(CURLOPT_XFERINFOFUNCTION, &Request::Proceed);
    Set(CURLOPT_XFERINFODATA, &cancelled);
  }
  ~Request() {
    curl_slist_free_all(list_);
    curl_easy_cleanup(handle_);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  template <typename Value>
  void Set(CURLoption option, Value value) {
    if (handle_ == nullptr) return;
    if (const CURLcode code = curl_easy_setopt(handle_, option, value); code != CURLE_OK)
      bad_ = code;
  }
  void AddLine(const std::string& line) { list_ = curl_slist_append(list_, line.c_str()); }
  curl_slist* lines() const { return list_; }

  // Not sent at all if a setting was refused.
  CURLcode Perform() {
    if (handle_ == nullptr) return CURLE_OUT_OF_MEMORY;
    return bad_ != CURLE_OK ? bad_ : curl_easy_perform(handle_);
  }
  long Code() const {
    long code = 0;
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }
  std::string Header(const char* name) const {
    curl_header* header = nullptr;
    const auto found = curl_easy_header(handle_, name, 0, CURLH_HEADER, -1, &header);
    return found == CURLHE_OK ? header->value : "";
  }
  const std::string& body() const { return body_; }
  // For mail: the last answer that refused something. Call before Perform.
  void KeepRefusal() {
    Set(CURLOPT_HEADERFUNCTION, &Request::TakeLine);
    Set(CURLOPT_HEADERDATA, &refusal_);
  }
  const std::string& refusal() const { return refusal_; }
  // libcurl's own words, which may repeat parts of the URL.
  std::string Detail(CURLcode code) const {
    return OneLine(error_[0] != '\0' ? error_ : curl_easy_strerror(code));
  }

 private:
  static size_t TakeBody(char* bytes, size_t size, size_t count, void* into) {
    auto& body = *static_cast<std::string*>(into);
    body.append(bytes, std::min(size * count, kBodyKept - std::min(kBodyKept, body.size())));
    return size * count;
  }
  static size_t TakeLine(char* bytes, size_t size, size_t count, void* into) {
    const std::string_view line(bytes, size * count);
    const bool refuses = line.starts_with('4') || line.starts_with('5');
    if (refuses) *static_cast<std::string*>(into) = Truncate(Trim(line), 200);
    return line.size();
  }
  static int Proceed(void* cancelled, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return *static_cast<const std::atomic<bool>*>(cancelled) ? 1 : 0;
  }

  CURL* handle_;
  curl_slist* list_ = nullptr;
  CURLcode bad_ = CURLE_OK;
  char error_[CURL_ERROR_SIZE] = {};
  std::string body_;
  std::string refusal_;
};

// Seconds or an HTTP date (RFC 9110, section 10.2.3); zero if it says nothing of use. At most a
// day.
absl::Duration RetryAfter(const std::string& value, absl::Time now) {
  if (value.empty()) return absl::ZeroDuration();
  int64_t seconds = 0;
  const char* end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, seconds);
  absl::Duration wait = absl::Seconds(seconds);
  if (read.ec != std::errc() || read.ptr != end) {
    const time_t at = curl_getdate(value.c_str(), nullptr);
    if (at < 0) return absl::ZeroDuration();
    wait = absl::FromTimeT(at) - now;
  }
  return std::clamp(wait, absl::ZeroDuration(), absl::Hours(24));
}

bool IsTransient(long code) { return code == 408 || code == 429 || code >= 500; }

Outcome Refused(const Request& request, absl::Time now, std::string_view secret) {
  const long code = request.Code();
  std::string reason = fmt::format("HTTP {}", code);
  if (code >= 300 && code < 400) {
    return Permanent(reason + ": redirects are not followed; write the address that it leads to");
  }
  if (const std::string said = OneLine(request.body()); !said.empty()) {
    reason += fmt::format(": {}", Truncate(said, 200));
  }
  reason = Scrub(std::move(reason), secret);
  if (IsTransient(code)) return Retry(reason, RetryAfter(request.Header("Retry-After"), now));
  return Permanent(reason);
}

// The URL itself or the secret one.
StatusOr<Secret> UrlOf(const std::string& url, const v1::SecretReference& from, bool has_from) {
  if (has_from) return ReadSecretReference(from.secret());
  if (url.empty())
    return InvalidArgument("the receiver has neither url nor urlFrom: set one of them");
  return Secret(url);
}

bool IsHeaderText(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
}

struct Post {
  Secret url;
  bool url_is_secret = false;
  std::string body;
  std::string ca_file;
};

// What went wrong before there was an answer.
Outcome NotSent(const Request& request, CURLcode code, const Post& post) {
  return Retry(post.url_is_secret ? curl_easy_strerror(code)
                                  : Scrub(request.Detail(code), post.url.Reveal()));
}

CURLcode PostJson(Request& request, const Post& post) {
  request.AddLine("Content-Type: application/json");
  request.AddLine("Expect:");
  request.Set(CURLOPT_PROTOCOLS_STR, "http,https");
  request.Set(CURLOPT_URL, std::string(post.url.Reveal()).c_str());
  request.Set(CURLOPT_POSTFIELDS, post.body.c_str());
  request.Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(post.body.size()));
  request.Set(CURLOPT_HTTPHEADER, request.lines());
  if (!post.ca_file.empty()) request.Set(CURLOPT_CAINFO, post.ca_file.c_str());
  return request.Perform();
}

StatusOr<Secret> OptionalSecret(const v1::SecretReference& reference, bool there) {
  if (!there) return Secret();
  return ReadSecretReference(reference.secret());
}

struct Upload {
  std::string_view rest;
};

size_t GiveBytes(char* into, size_t size, size_t count, void* from) {
  auto& upload = *static_cast<Upload*>(from);
  const size_t bytes = std::min(size * count, upload.rest.size());
  std::memcpy(into, upload.rest.data(), bytes);
  upload.rest.remove_prefix(bytes);
  return bytes;
}

Outcome MailOutcome(const Request& request, CURLcode code, std::string_view password) {
  if (code == CURLE_OK) return {.telling = Telling::kDelivered};
  if (code == CURLE_USE_SSL_FAILED) {
    return Retry("the server offers no STARTTLS: mail is not sent in clear");
  }
  const long said = request.Code();
  std::string reason = request.Detail(code);
  if (said >= 400) reason = fmt::format("the mail server said: {}", OneLine(request.refusal()));
  reason = Scrub(std::move(reason), password);
  const bool refused = code != CURLE_OPERATION_TIMEDOUT && said >= 500 && said < 600;
  return refused ? Permanent(reason) : Retry(reason);
}

}  // namespace

Sender::Sender(const Clock& clock, SenderOptions options) : clock_(clock), options_(options) {
  InitialiseCurlOnce();
}

Outcome Sender::Send(const v1::ReceiverSpec& receiver, const Notification& news) {
  switch (receiver.kind_case()) {
    case v1::ReceiverSpec::kWebhook: return SendWebhook(receiver.webhook(), news);
    case v1::ReceiverSpec::kSlack: return SendSlack(receiver.slack(), news);
    case v1::ReceiverSpec::kEmail: return SendEmail(receiver.email(), news);
    case v1::ReceiverSpec::KIND_NOT_SET: break;
  }
  return Permanent("the receiver says neither webhook, slack nor email");
}

Outcome Sender::SendWebhook(const v1::WebhookReceiver& receiver, const Notification& news) {
  auto url = UrlOf(receiver.url(), receiver.url_from(), receiver.has_url_from());
  if (!url.ok()) return Retry(std::string(Message(url.status())));
  const auto bearer = OptionalSecret(receiver.bearer(), receiver.has_bearer());
  if (!bearer.ok()) return Retry(std::string(Message(bearer.status())));

  Request request(options_, cancelled_);
  for (const auto& [name, value] : receiver.headers()) {
    if (!IsHeaderText(name) || !IsHeaderText(value))
      return Permanent("a header holds a control character");
    request.AddLine(fmt::format("{}: {}", name, value));
  }
  if (!bearer->empty()) {
    if (!IsHeaderText(bearer->Reveal())) return Retry("the bearer token holds a control character");
    request.AddLine(fmt::format("Authorization: Bearer {}", bearer->Reveal()));
  }
  request.AddLine(fmt::format("Idempotency-Key: {}/{}/{}", news.alert.id(), news.event, news.id));
  const Post post{.url = std::move(*url),
                  .url_is_secret = receiver.has_url_from(),
                  .body = WebhookBody(news),
                  .ca_file = receiver.ca_file()};
  if (const CURLcode code = PostJson(request, post); code != CURLE_OK) {
    return NotSent(request, code, post);
  }
  if (request.Code() >= 200 && request.Code() < 300) return {.telling = Telling::kDelivered};
  return Refused(request, clock_.Now(), bearer->Reveal());
}

Outcome Sender::SendSlack(const v1::SlackReceiver& receiver, const Notification& news) {
  auto url = UrlOf(receiver.url(), receiver.url_from(), receiver.has_url_from());
  if (!url.ok()) return Retry(std::string(Message(url.status())));
  Request request(options_, cancelled_);
  const Post post{.url = std::move(*url),
                  .url_is_secret = receiver.has_url_from(),
                  .body = SlackBody(news),
                  .ca_file = receiver.ca_file()};
  if (const CURLcode code = PostJson(request, post); code != CURLE_OK) {
    return NotSent(request, code, post);
  }
  // Slack says "ok" and nothing else when it took the message; any other body is for ever.
  if (request.Code() == 200 && request.body() == "ok") return {.telling = Telling::kDelivered};
  return Refused(request, clock_.Now(), post.url.Reveal());
}

Outcome Sender::SendEmail(const v1::EmailReceiver& receiver, const Notification& news) {
  const auto password = OptionalSecret(receiver.password(), receiver.has_password());
  if (!password.ok()) return Retry(std::string(Message(password.status())));
  const auto server = ParseHostPort(receiver.server());
  if (!server.ok()) return Permanent(std::string(Message(server.status())));

  Request request(options_, cancelled_);
  request.KeepRefusal();
  request.Set(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
  const std::string_view scheme =
      server->port == 465 ? "smtps" : "smtp";  // 465: TLS from the first byte
  request.Set(CURLOPT_URL, fmt::format("{}://{}", scheme, FormatHostPort(*server)).c_str());
  // A password demands TLS whatever else is allowed.
  const bool in_clear = receiver.allow_plaintext() && receiver.username().empty();
  request.Set(CURLOPT_USE_SSL, static_cast<long>(in_clear ? CURLUSESSL_NONE : CURLUSESSL_ALL));
  if (!receiver.ca_file().empty()) request.Set(CURLOPT_CAINFO, receiver.ca_file().c_str());
  if (!receiver.username().empty()) {
    request.Set(CURLOPT_USERNAME, receiver.username().c_str());
    request.Set(CURLOPT_PASSWORD, std::string(password->Reveal()).c_str());
  }
  request.Set(CURLOPT_MAIL_FROM, fmt::format("<{}>", receiver.from()).c_str());
  for (const std::string& to : receiver.to()) request.AddLine(fmt::format("<{}>", to));
  request.Set(CURLOPT_MAIL_RCPT, request.lines());
  const std::string message = EmailMessage(news, receiver);
  Upload upload{message};
  request.Set(CURLOPT_READFUNCTION, &GiveBytes);
  request.Set(CURLOPT_READDATA, &upload);
  request.Set(CURLOPT_UPLOAD, 1L);
  const CURLcode code = request.Perform();
  return MailOutcome(request, code, password->Reveal());
}

std::string_view ReceiverKind(const v1::ReceiverSpec& receiver) {
  switch (receiver.kind_case()) {
    case v1::ReceiverSpec::kWebhook: return "webhook";
    case v1::ReceiverSpec::kSlack: return "slack";
    case v1::ReceiverSpec::kEmail: return "email";
    case v1::ReceiverSpec::KIND_NOT_SET: break;
  }
  return "other";
}

}  // namespace muster::control
