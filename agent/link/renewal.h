// A new certificate for the agent, before half of the old one's life is over.
#pragma once

#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/net/tls.h"

namespace muster::agent {

// Half way between the two ends of the leaf's validity.
StatusOr<absl::Time> RenewalTime(const net::ClientIdentity& identity);

struct Renewed {
  net::ClientIdentity identity;
  std::vector<std::string> servers;  // empty: as before
};

// Asks for a certificate for a new key, and proves that what comes fits the key and the authority.
// Blocks for at most `within`.
StatusOr<Renewed> Renew(const std::string& server, const net::ClientIdentity& identity,
                        absl::Time now, absl::Duration within);

}  // namespace muster::agent
