// HTTP and HTTPS through libcurl: one request, to one address, judged by what the spec expects.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>

#include <curl/curl.h>
#include <re2/re2.h>
#include <sys/socket.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "agent/probes/certificate.h"
#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/resolve.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr size_t kBodyBytes = 1 << 20;
constexpr size_t kHeaderBytes = 64 * 1024;

// The thread's own handle, as new but for its memory and its descriptors: to make those for each
// probe costs more than a small page does. Connections and TLS sessions are not kept (see Prepare).
class Curl {
 public:
  Curl() : handle_(OfThread()) {}
  // What the handle points to may go now.
  ~Curl() {
    if (handle_ != nullptr) curl_easy_reset(handle_);
  }
  Curl(const Curl&) = delete;
  Curl& operator=(const Curl&) = delete;
  CURL* get() const { return handle_; }

 private:
  static CURL* OfThread() {
    using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
    thread_local const Handle handle(curl_easy_init(), &curl_easy_cleanup);
    return handle.get();
  }

  CURL* const handle_;
};

struct List {
  curl_slist* head = nullptr;
  List() = default;
  List(const List&) = delete;
  List& operator=(const List&) = delete;
  ~List() { curl_slist_free_all(head); }
  void Add(const std::string& text) { head = curl_slist_append(head, text.c_str()); }
};

// The parts of the URL that matter here.
struct Url {
  bool tls = false;
  std::string host;  // without brackets
  uint16_t port = 0;
  std::string shown;  // without user and password
};

std::string Part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

StatusOr<Url> ParseUrl(const std::string& text) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), &curl_url_cleanup);
  if (curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return InvalidArgument("'{}' is not a URL", OneLine(text));
  }
  Url parsed;
  const std::string scheme = Part(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return InvalidArgument("'{}' is not an http:// or https:// URL", OneLine(text));
  }
  parsed.tls = scheme == "https";
  parsed.host = Part(url.get(), CURLUPART_HOST);
  if (parsed.host.starts_with('[')) parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  parsed.port =
      static_cast<uint16_t>(std::stoi(Part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)));
  curl_url_set(url.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_PASSWORD, nullptr, 0);
  parsed.shown = Part(url.get(), CURLUPART_URL);
  return parsed;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// What libcurl's callbacks fill in during one request.
struct Exchange {
  explicit Exchange(const Policy& p) : policy(p) {}

  const Policy& policy;
  std::string body;
  bool body_cut = false;
  std::string head;                                 // of the last answer
  std::multimap<std::string, std::string> headers;  // names in lower case
  Status refused;
  bool connected = false;  // the socket that was closed last had a peer
};

size_t TakeBody(char* data, size_t, size_t size, void* arg) {
  Exchange& exchange = *static_cast<Exchange*>(arg);
  const size_t kept = std::min(size, kBodyBytes - exchange.body.size());
  exchange.body.append(data, kept);
  exchange.body_cut = exchange.body_cut || kept < size;
  return kept;  // fewer than size ends the transfer
}

size_t TakeHeader(char* data, size_t, size_t size, void* arg) {
  Exchange& exchange = *static_cast<Exchange*>(arg);
  const std::string_view line(data, size);
  if (line.starts_with("HTTP/")) {  // a new answer: those before were redirects
    exchange.head.clear();
    exchange.headers.clear();
    exchange.body.clear();
  }
  if (exchange.head.size() + size > kHeaderBytes) return 0;
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) {
    exchange.head.append(line);
    return size;
  }
  const std::string name = Lower(Trim(line.substr(0, colon)));
  exchange.headers.emplace(name, std::string(Trim(line.substr(colon + 1))));
  exchange.head.append(name == "set-cookie" ? std::string_view("Set-Cookie: …\n") : line);
  return size;
}

curl_socket_t OpenSocket(void* arg, curlsocktype, curl_sockaddr* address) {
  Exchange& exchange = *static_cast<Exchange*>(arg);
  if (const Status status = exchange.policy.AllowAddress(address->addr); !status.ok()) {
    exchange.refused = status;
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// libcurl itself tells a connection from none only after the TLS handshake.
int CloseSocket(void* arg, curl_socket_t fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  static_cast<Exchange*>(arg)->connected =
      getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  return close(fd);
}

struct Pattern {
  std::string name;
  std::unique_ptr<RE2> pattern;
};

class HttpProbe final : public Probe {
 public:
  HttpProbe(v1::HttpProbe spec, Url url, Policy policy)
      : spec_(std::move(spec)),
        url_(std::move(url)),
        policy_(std::move(policy)),
        body_(spec_.expect().body(), RE2::Quiet),
        body_not_(spec_.expect().body_not(), RE2::Quiet) {
    for (const auto& [name, pattern] : spec_.expect().headers()) {
      headers_.push_back({name, std::make_unique<RE2>(pattern, RE2::Quiet)});
    }
  }

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    StatusOr<Address> address = FindAddress(context, report);
    if (!address.ok()) return report.Failed(address.status());
    Exchange exchange(policy_);  // with the lists, outlives libcurl's calls back
    List headers;
    List connect_to;
    std::array<char, CURL_ERROR_SIZE> error{};
    const Curl curl;
    if (curl.get() == nullptr) return report.Unknown("libcurl cannot start");
    curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, error.data());
    if (const Status status = Prepare(curl.get(), *address, exchange, headers, connect_to, context);
        !status.ok()) {
      return report.Failed(status);
    }
    report.End();
    const CURLcode code = curl_easy_perform(curl.get());
    Describe(curl.get(), exchange, report);
    if (!exchange.refused.ok()) return report.Failed(exchange.refused);
    const bool whole = code == CURLE_OK || (code == CURLE_WRITE_ERROR && exchange.body_cut);
    if (!whole) return Broken(curl.get(), code, error.data(), exchange, *address, report);
    return Judge(curl.get(), exchange, context, report);
  }

 private:
  StatusOr<Address> FindAddress(const ProbeContext& context, Report& report) {
    if (spec_.connect_to().empty()) {
      return ResolveAllowed(url_.host, url_.port, policy_, context, report);
    }
    HostPort target{.host = spec_.connect_to(), .port = url_.port};
    if (!ParseIp(target.host, 0).ok()) {
      MUSTER_ASSIGN_OR_RETURN(target, ParseTarget(spec_.connect_to()));
    }
    return ResolveAllowed(target.host, target.port, policy_, context, report);
  }

  Status Prepare(CURL* curl, const Address& address, Exchange& exchange, List& headers,
                 List& connect_to, const ProbeContext& context) {
    const long left = LeftMilliseconds(context);
    if (left == 0) return DeadlineExceeded("nothing is left of the deadline");
    curl_easy_setopt(curl, CURLOPT_URL, spec_.url().c_str());
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    // Each probe looks at all of the way anew, the certificate included.
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, left);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");  // none, whatever the environment says
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "muster/" MUSTER_VERSION);
    curl_easy_setopt(curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &TakeBody);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &TakeHeader);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &OpenSocket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_CLOSESOCKETFUNCTION, &CloseSocket);
    curl_easy_setopt(curl, CURLOPT_CLOSESOCKETDATA, &exchange);
    const bool v6 = url_.host.find(':') != std::string::npos;
    const std::string host = v6 ? "[" + url_.host + "]" : url_.host;
    connect_to.Add(fmt::format("{}:{}:{}", host, url_.port, address.Text()));
    curl_easy_setopt(curl, CURLOPT_CONNECT_TO, connect_to.head);
    if (spec_.follow_redirects() > 0) {
      curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
      curl_easy_setopt(curl, CURLOPT_MAXREDIRS, static_cast<long>(spec_.follow_redirects()));
    }
    if (!spec_.ca_file().empty()) {
      curl_easy_setopt(curl, CURLOPT_CAINFO, spec_.ca_file().c_str());
      curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);
    }
    SetRequest(curl, headers);
    return SetSecrets(curl);
  }

  void SetRequest(CURL* curl, List& headers) {
    const std::string method = spec_.method().empty() ? "GET" : spec_.method();
    if (!spec_.body().empty()) {
      curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(spec_.body().size()));
      curl_easy_setopt(curl, CURLOPT_POSTFIELDS, spec_.body().data());
      headers.Add("Expect:");  // no waiting for 100 Continue
    }
    if (method == "HEAD") {
      curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else {
      curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
    }
    for (const auto& [name, value] : spec_.headers()) {
      headers.Add(value.empty() ? name + ";" : name + ": " + value);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.head);
  }

  // Secrets are read at each run, so that one may be changed in its place.
  Status SetSecrets(CURL* curl) {
    if (spec_.has_basic_auth()) {
      MUSTER_ASSIGN_OR_RETURN(const Secret secret, policy_.ReadSecret(spec_.basic_auth().secret()));
      std::string pair(secret.Reveal());
      curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
      curl_easy_setopt(curl, CURLOPT_USERPWD, pair.c_str());
      WipeText(pair);
    }
    if (spec_.has_bearer()) {
      MUSTER_ASSIGN_OR_RETURN(const Secret secret, policy_.ReadSecret(spec_.bearer().secret()));
      std::string token(secret.Reveal());
      curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
      curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token.c_str());
      WipeText(token);
    }
    return OkStatus();
  }

  static absl::Duration TimeOf(CURL* curl, CURLINFO info) {
    curl_off_t microseconds = 0;
    curl_easy_getinfo(curl, info, &microseconds);
    return absl::Microseconds(microseconds);
  }

  // Phases of the last request and the transcript. Headers of the spec may be secret: names only.
  void Describe(CURL* curl, const Exchange& exchange, Report& report) const {
    const absl::Duration connect = TimeOf(curl, CURLINFO_CONNECT_TIME_T);
    const absl::Duration tls = TimeOf(curl, CURLINFO_APPCONNECT_TIME_T);
    const absl::Duration ready = TimeOf(curl, CURLINFO_PRETRANSFER_TIME_T);
    const absl::Duration first = TimeOf(curl, CURLINFO_STARTTRANSFER_TIME_T);
    const absl::Duration total = TimeOf(curl, CURLINFO_TOTAL_TIME_T);
    if (connect > absl::ZeroDuration()) {
      report.AddPhase("connect", connect - TimeOf(curl, CURLINFO_NAMELOOKUP_TIME_T));
    }
    if (tls > connect) report.AddPhase("tls", tls - connect);
    if (first > absl::ZeroDuration()) {
      report.AddPhase("first_byte", first - ready);
      report.AddPhase("body", total - first);
    }
    report.Sent(fmt::format("{} {}", spec_.method().empty() ? "GET" : spec_.method(), url_.shown));
    for (const auto& [name, value] : spec_.headers()) report.Sent(name + ": …");
    if (!spec_.body().empty())
      report.Note(fmt::format("{} bytes of body sent", spec_.body().size()));
    if (!exchange.head.empty()) report.Received(exchange.head);
    if (!exchange.body.empty()) report.Received(exchange.body.substr(0, kTranscriptBytes));
    if (!exchange.head.empty()) {
      report.AddMetric("body_bytes", static_cast<double>(exchange.body.size()), "B");
    }
  }

  ProbeResult Broken(CURL* curl, CURLcode code, std::string_view error, const Exchange& exchange,
                     const Address& address, Report& report) const {
    if (code == CURLE_OPERATION_TIMEDOUT) {
      if (!exchange.connected) {
        report.Doing("connecting to " + address.Text());
      } else if (url_.tls && TimeOf(curl, CURLINFO_APPCONNECT_TIME_T) == absl::ZeroDuration()) {
        report.Doing(fmt::format("shaking hands with {} (TLS)", address.Text()));
      } else if (TimeOf(curl, CURLINFO_STARTTRANSFER_TIME_T) == absl::ZeroDuration()) {
        report.Doing("waiting for the first byte of the answer of " + address.Text());
      } else {
        report.Doing("reading the body from " + address.Text());
      }
      return report.TimedOut();
    }
    if (code == CURLE_COULDNT_CONNECT) {
      long number = 0;
      curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
      if (number == ECONNREFUSED) return report.Critical("connection refused by " + address.Text());
    }
    if (code == CURLE_SSL_CACERT_BADFILE) {
      return report.Unknown(fmt::format("cannot read authorities from {}", spec_.ca_file()));
    }
    return report.Critical(error.empty() ? curl_easy_strerror(code) : std::string(error));
  }

  // The first complaint, in the order an operator would look.
  std::optional<std::string> Complaint(long status, const Exchange& exchange) {
    const v1::HttpExpect& expect = spec_.expect();
    const auto& accepted = expect.status();
    if (accepted.empty() ? (status < 200 || status > 299)
                         : std::find(accepted.begin(), accepted.end(),
                                     static_cast<uint32_t>(status)) == accepted.end()) {
      return fmt::format(
          "status {}, expected {}", status,
          accepted.empty() ? "200 to 299" : fmt::format("{}", fmt::join(accepted, " or ")));
    }
    for (const Pattern& header : headers_) {
      const auto [from, to] = exchange.headers.equal_range(Lower(header.name));
      if (from == to) return fmt::format("the answer has no header {}", header.name);
      if (std::none_of(from, to, [&](const auto& h) {
            return RE2::PartialMatch(h.second, *header.pattern);
          })) {
        return fmt::format("header {} is '{}', expected '{}'", header.name, from->second,
                           header.pattern->pattern());
      }
    }
    if (!expect.body().empty() && !RE2::PartialMatch(exchange.body, body_)) {
      return fmt::format("the body does not match '{}'", expect.body());
    }
    if (!expect.body_not().empty() && RE2::PartialMatch(exchange.body, body_not_)) {
      return fmt::format("the body matches '{}', and must not", expect.body_not());
    }
    return expect.json().empty() ? std::nullopt : JsonComplaint(exchange.body);
  }

  std::optional<std::string> JsonComplaint(const std::string& body) const {
    const nlohmann::json json = nlohmann::json::parse(body, nullptr, false);
    if (json.is_discarded()) return "the body is not JSON";
    const std::map<std::string, std::string> expected(spec_.expect().json().begin(),
                                                      spec_.expect().json().end());
    for (const auto& [path, text] : expected) {
      const nlohmann::json::json_pointer pointer(path);  // checked when the probe was made
      if (!Holds(json, pointer)) return fmt::format("the body has nothing at {}", path);
      const nlohmann::json& value = json.at(pointer);
      const std::string found =
          value.is_string() ? value.get<std::string>()
                            : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      if (found != text)
        return fmt::format("{} is '{}', expected '{}'", path, Truncate(found, 100), text);
    }
    return std::nullopt;
  }

  // json::contains throws where an array is asked for a name.
  static bool Holds(const nlohmann::json& json, const nlohmann::json::json_pointer& pointer) try {
    return json.contains(pointer);
  } catch (const nlohmann::json::exception&) {
    return false;
  }

  ProbeResult Judge(CURL* curl, const Exchange& exchange, const ProbeContext& context,
                    Report& report) {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    report.AddMetric("http_status", static_cast<double>(status), "");
    if (const std::optional<std::string> complaint = Complaint(status, exchange)) {
      return report.Critical(*complaint);
    }
    if (const std::optional<ChainEnd> end = CertificateEnd(curl)) {
      const absl::Duration left = end->not_after - context.clock.Now();
      report.AddMetric("certificate_days_left", absl::ToDoubleHours(left) / 24, "");
      const uint32_t days = spec_.expect().certificate_days_left();
      if (left < absl::Hours(24) * days) {
        return report.Warning(fmt::format("the certificate {} ends in {}, less than {} days",
                                          end->subject, ShortDuration(left), days));
      }
    }
    return report.OkWithin(wire::FromProto(spec_.expect().latency_below()),
                           fmt::format("HTTP {}", status));
  }

  static std::optional<ChainEnd> CertificateEnd(CURL* curl) {
    std::optional<ChainEnd> end;
    curl_certinfo* chain = nullptr;
    if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &chain) != CURLE_OK || chain == nullptr)
      return end;
    for (int i = 0; i < chain->num_of_certs; ++i) {
      for (const curl_slist* line = chain->certinfo[i]; line != nullptr; line = line->next) {
        const std::string_view text = line->data;
        if (text.starts_with("Cert:")) AddPem(text.substr(5), end);
      }
    }
    return end;
  }

  const v1::HttpProbe spec_;
  const Url url_;
  const Policy policy_;
  const RE2 body_;
  const RE2 body_not_;
  std::vector<Pattern> headers_;
};

Status CheckPointer(const std::string& text) try {
  const nlohmann::json::json_pointer pointer(text);
  return OkStatus();
} catch (const nlohmann::json::exception&) {
  return InvalidArgument("'{}' is not a JSON pointer, like /status", text);
}

Status CheckExpect(const v1::HttpExpect& expect) {
  MUSTER_RETURN_IF_ERROR(CheckPattern(expect.body()));
  MUSTER_RETURN_IF_ERROR(CheckPattern(expect.body_not()));
  for (const auto& [name, pattern] : expect.headers())
    MUSTER_RETURN_IF_ERROR(CheckPattern(pattern));
  for (const auto& [pointer, text] : expect.json()) MUSTER_RETURN_IF_ERROR(CheckPointer(pointer));
  return OkStatus();
}

Status CheckHeaders(const v1::HttpProbe& spec) {
  for (const auto& [name, value] : spec.headers()) {
    if (!name.empty() &&
        (name + value).find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos)
      continue;
    return InvalidArgument("header '{}' must be one line", OneLine(name));
  }
  return OkStatus();
}

}  // namespace

ProbeOr MakeHttpProbe(const v1::HttpProbe& spec, const Policy& policy) {
  static const CURLcode library = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (library != CURLE_OK) return Internal("libcurl cannot start: {}", curl_easy_strerror(library));
  MUSTER_ASSIGN_OR_RETURN(Url url, ParseUrl(spec.url()));
  MUSTER_RETURN_IF_ERROR(CheckExpect(spec.expect()));
  MUSTER_RETURN_IF_ERROR(CheckHeaders(spec));
  if (!spec.ca_file().empty()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.ca_file()));
  if (spec.has_basic_auth()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.basic_auth().secret()));
  if (spec.has_bearer()) MUSTER_RETURN_IF_ERROR(policy.AllowSecret(spec.bearer().secret()));
  return std::make_unique<HttpProbe>(spec, std::move(url), policy);
}

}  // namespace muster::agent
