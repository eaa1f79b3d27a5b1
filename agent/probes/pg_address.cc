#include "agent/probes/pg_address.h"

#include <array>
#include <charconv>
#include <memory>

#include <libpq-fe.h>

#include "agent/probes/resolve.h"
#include "lib/base/secret.h"

namespace muster::agent {
namespace {

constexpr std::array<const char*, 6> kFiles = {"passfile",    "sslcert", "sslkey",
                                               "sslrootcert", "sslcrl",  "sslcrldir"};

}  // namespace

// libpq's own message may quote the string, and with it the password: it is not passed on.
StatusOr<PgSettings> ParsePgSettings(std::string_view dsn) {
  std::string text(dsn);
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(text.c_str(), &error), &PQconninfoFree);
  WipeText(text);
  if (error != nullptr) PQfreemem(error);
  if (options == nullptr)
    return InvalidArgument("the connection string is not one that libpq reads");
  PgSettings settings;
  for (const PQconninfoOption* at = options.get(); at->keyword != nullptr; ++at) {
    if (at->val != nullptr && *at->val != '\0') settings[at->keyword] = at->val;
  }
  return settings;
}

Status AllowPgFiles(const PgSettings& settings, const Policy& policy) {
  if (settings.contains("service")) {
    return InvalidArgument("a connection string must not name a service: name the host");
  }
  for (const char* keyword : kFiles) {
    const auto found = settings.find(keyword);
    if (found != settings.end()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(found->second));
  }
  return OkStatus();
}

Status PinPgHost(PgSettings& settings, const Policy& policy, const ProbeContext& context,
                 Report& report) {
  if (!settings.contains("host") && !settings.contains("hostaddr"))
    settings["host"] = "/var/run/postgresql";
  const std::string host = settings.contains("hostaddr") ? settings["hostaddr"] : settings["host"];
  if (!settings.contains("port")) settings["port"] = "5432";
  const std::string port_text = settings["port"];
  if (host.find(',') != std::string::npos || settings["host"].find(',') != std::string::npos) {
    return InvalidArgument(
        "a connection string names one host, not {}: write a check or a job for each", host);
  }
  uint16_t port = 0;
  const auto [end, error] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size() || port == 0) {
    return InvalidArgument("'{}' is not a port", port_text);
  }
  if (host.starts_with('@')) return InvalidArgument("abstract sockets are not supported");
  if (host.starts_with('/')) return policy.AllowPath(host);
  MUSTER_ASSIGN_OR_RETURN(const Address address,
                          ResolveAllowed(host, port, policy, context, report));
  settings["hostaddr"] = address.Ip();
  return OkStatus();
}

}  // namespace muster::agent
