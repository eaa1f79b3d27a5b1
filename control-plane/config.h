// How a control plane is told what to do: flags first, then the file, then what init wrote, then
// defaults.
#pragma once

#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/pki/authority.h"
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "lib/redis/address.h"

namespace muster::control {

// The file is YAML; unknown keys are errors. Every key has a flag of the same name, or is a
// duration:
//
//   store: sqlite:/var/lib/muster/muster.db
//   redis: rediss://muster@redis.example.org?password_file=/etc/muster/redis.password
//   listen: 0.0.0.0:7443
//   enrollListen: 0.0.0.0:7444        # "off" switches enrolment off
//   httpListen: 127.0.0.1:7480        # "off" switches it off
//   advertise: [control.example.org]
//   logLevel: info
//   maxConnections: 18000             # default: by the descriptors that the process may open
//   maxConnectionsPerAddress: 14400   # behind a load balancer all agents have its address
//   flush: 5s                         # agents gather steady results for so long
//   keepHistory: 14d
//   keepResolvedAlerts: 365d
//   keepRuns: 90d
//   agentCertificate: 7d              # how long an agent's lasts; renewed at half of that
//   operatorCertificate: 365d
//   controlCertificate: 90d           # the control plane's own; renewed while it serves
//   expiredAgentGrace: 30d            # how long an expired agent may still renew; 0s: not at all
struct Config {
  std::string data;
  std::string store;  // empty: sqlite in `data`
  std::string redis;  // a URL; empty: none
  redis::UrlFrom redis_from = redis::UrlFrom::kSettings;
  std::string listen = "0.0.0.0:7443";
  std::string enroll_listen = "0.0.0.0:7444";
  std::string http_listen = "127.0.0.1:7480";
  std::vector<std::string> advertise;  // HOST or HOST:PORT
  LogLevel log_level = LogLevel::kInfo;
  size_t max_connections = 0;              // 0: see LimitsOf
  size_t max_connections_per_address = 0;  // 0: see LimitsOf
  absl::Duration flush = absl::Seconds(5);
  absl::Duration keep_history = absl::Hours(14 * 24);
  absl::Duration keep_resolved_alerts = absl::Hours(365 * 24);
  absl::Duration keep_runs = absl::Hours(90 * 24);
  Lifetimes lifetimes;
  absl::Duration expired_agent_grace = absl::Hours(30 * 24);

  // Where a port is named, it is not opened.
  static constexpr char kOff[] = "off";

  std::string KeyPath() const { return data + "/cluster.key"; }
  std::string ContextPath() const { return data + "/admin.context"; }
  bool IsPostgres() const { return store.starts_with("postgres"); }
  std::string StoreUrl() const { return store.empty() ? "sqlite:" + data + "/muster.db" : store; }
};

// Reads the keys that the YAML sets into `config`. Errors name file, line, column and the remedy.
Status ReadConfig(std::string_view yaml, std::string_view file, Config& config);

// How many connections a control plane takes that may open so many descriptors: what is configured,
// else what leaves enough for the database, Redis and files, of one address four fifths of it.
struct ConnectionLimits {
  size_t all = 0;
  size_t per_address = 0;
};
ConnectionLimits LimitsOf(const Config& config, size_t descriptors);

// HOST or HOST:PORT, without scheme or path.
Status CheckAdvertised(std::string_view address);
// Each advertised host, with `port` where it names none; this host's name where there is none.
std::vector<std::string> Advertised(const std::vector<std::string>& advertise, uint16_t port);

}  // namespace muster::control
