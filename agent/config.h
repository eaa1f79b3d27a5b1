// The agent's settings file and what it keeps in its data folder.
//
//   servers: [10.0.0.5:7443]     # instead of those that it learned when it joined
//   policy: /etc/muster/policy.yaml
//   spool: {bound: 256MiB, keep: 24h}
//   probe_threads: 16
//   log_level: info
//
// DIR/identity.pem   private key and certificate chain, replaced as one
// DIR/ca.pem         the cluster's authority
// DIR/agent.yaml     name, and the control plane's addresses
// DIR/plan.pb        the plan in force
// DIR/log.db         the log
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/base/status.h"
#include "lib/net/tls.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

struct Config {
  std::vector<std::string> servers;
  std::string policy;  // empty: the default place, or the built-in policy
  SpoolOptions spool;
  size_t probe_threads = 16;
  std::string log_level;
};

// InvalidArgument names the file, the line and what is wrong; unknown settings are refused.
StatusOr<Config> ReadConfig(const std::string& path);
StatusOr<Config> ParseConfig(std::string_view yaml, std::string_view name);
// "256MiB", "64KiB", "1GiB" or plain bytes.
StatusOr<uint64_t> ParseSize(std::string_view text);

// What joining gave the agent.
struct Membership {
  std::string name;
  std::vector<std::string> servers;
  net::ClientIdentity identity;
};
// NotFound says how to join.
StatusOr<Membership> ReadMembership(const std::string& folder);
// Each file is replaced as a whole; the identity last, so that an agent either has joined or has
// not.
Status WriteMembership(const std::string& folder, const Membership& membership);
bool HasIdentity(const std::string& folder);

// An empty plan if there is none, or none that can be read.
v1::Plan ReadPlan(const std::string& folder);
Status WritePlan(const std::string& folder, const v1::Plan& plan);

}  // namespace muster::agent
