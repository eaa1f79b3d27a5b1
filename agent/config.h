// The agent's settings file and what it keeps in its data folder.
//
//   servers: [10.0.0.5:7443]     # instead of those that it learned when it joined
//   enroll: [10.0.0.5:7444]      # where an expired certificate is renewed
//   policy: /etc/muster/policy.yaml
//   spool: {bound: 256MiB, keep: 24h}
//   probeThreads: 16
//   jobs: {atOnce: 4}
//   logLevel: info
//
// DIR/identity.pem   private key and certificate chain, replaced as one
// DIR/ca.pem         the cluster's authority
// DIR/agent.yaml     the control plane's addresses
// DIR/joining.key    the key of a join that has not ended yet
// DIR/plan.pb        the plan in force
// DIR/witness.pb     the newest checkpoint of the control plane's audit chain
// DIR/log.db         the log
// DIR/runs.db        what was done of the runs that were assigned
// DIR/exec           what `muster-agent exec` tells of runs that the host begins itself
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "lib/net/tls.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

struct Config {
  std::vector<std::string> servers;
  std::vector<std::string> enroll;
  std::string policy;  // empty: the default place, or the built-in policy
  SpoolOptions spool;
  size_t probe_threads = 16;
  size_t jobs_at_once = 4;
  LogLevel log_level = LogLevel::kInfo;
};

// InvalidArgument names the file, the line and what is wrong; unknown settings are refused.
StatusOr<Config> ReadConfig(const std::string& path);
StatusOr<Config> ParseConfig(std::string_view yaml, std::string_view name);

// What joining gave the agent.
struct Membership {
  std::string name;
  std::vector<std::string> servers;
  std::vector<std::string> enroll;  // where it joined; an expired certificate is renewed there
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
