#include "control-plane/config.h"

#include <unistd.h>

#include <algorithm>

#include "lib/base/text.h"
#include "lib/settings/settings.h"

namespace muster::control {
namespace {

constexpr absl::Duration kTenYears = absl::Hours(24 * 3650);
constexpr size_t kMostConnections = 1'000'000;
// For all but connections of agents and operators.
constexpr size_t kOtherDescriptors = 2000;

Status CheckAddress(const std::string& address) { return CheckAdvertised(address); }

Status CheckRedis(const std::string& url) {
  return redis::Address::Parse(url, redis::UrlFrom::kSettings).status();
}

}  // namespace

Status ReadConfig(std::string_view yaml, std::string_view file, Config& config) {
  using settings::Duration;
  using settings::Text;
  Settings settings;
  settings.Add("store", Text(config.store));
  settings.Add("redis", Text(config.redis, CheckRedis));
  settings.Add("listen", Text(config.listen));
  settings.Add("enrollListen", Text(config.enroll_listen));
  settings.Add("httpListen", Text(config.http_listen));
  settings.Add("advertise", settings::List(config.advertise, CheckAddress));
  settings.Add("logLevel", settings::Level(config.log_level));
  settings.Add("maxConnections", settings::Count(config.max_connections, 10, kMostConnections));
  settings.Add("maxConnectionsPerAddress",
               settings::Count(config.max_connections_per_address, 10, kMostConnections));
  settings.Add("flush", Duration(config.flush, absl::Milliseconds(100), absl::Seconds(60)));
  settings.Add("keepHistory", Duration(config.keep_history, absl::Hours(1), kTenYears));
  settings.Add("keepResolvedAlerts",
               Duration(config.keep_resolved_alerts, absl::Hours(1), kTenYears));
  settings.Add("keepRuns", Duration(config.keep_runs, absl::Hours(1), kTenYears));
  settings.Add("agentCertificate",
               Duration(config.lifetimes.agent, absl::Seconds(10), absl::Hours(24 * 90)));
  settings.Add("operatorCertificate",
               Duration(config.lifetimes.operators, absl::Hours(1), kTenYears));
  settings.Add("controlCertificate",
               Duration(config.lifetimes.control, absl::Seconds(10), absl::Hours(24 * 365)));
  settings.Add("expiredAgentGrace",
               Duration(config.expired_agent_grace, absl::ZeroDuration(), kTenYears));
  return settings.Read(yaml, file);
}

ConnectionLimits LimitsOf(const Config& config, size_t descriptors) {
  ConnectionLimits limits{config.max_connections, config.max_connections_per_address};
  if (limits.all == 0) limits.all = descriptors - std::min(kOtherDescriptors, descriptors / 2);
  if (limits.per_address == 0) limits.per_address = limits.all / 5 * 4;
  return limits;
}

Status CheckAdvertised(std::string_view address) {
  const bool shaped = !address.empty() && address.find_first_of("/@ \t") == std::string_view::npos;
  const bool with_port = ParseHostPort(address).ok() && !ParseHostPort(address)->host.empty();
  const bool host_alone = address.find_first_of(":[]") == std::string_view::npos;
  if (shaped && (with_port || host_alone)) return OkStatus();
  return InvalidArgument(
      "\"{}\" is not HOST or HOST:PORT; write control.example.org or [2001:db8::1]:7443", address);
}

std::vector<std::string> Advertised(const std::vector<std::string>& advertise, uint16_t port) {
  std::vector<std::string> addresses;
  for (const std::string& address : advertise) {
    addresses.push_back(ParseHostPort(address).ok() ? address : FormatHostPort({address, port}));
  }
  if (addresses.empty()) {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    addresses.push_back(FormatHostPort({name, port}));
  }
  return addresses;
}

}  // namespace muster::control
