// A new certificate for the agent, before half of the old one's life is over.
#pragma once

#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/net/tls.h"

namespace muster::agent {

struct RenewalTimes {
  absl::Time due;         // half of the leaf's life is over
  absl::Duration again;   // after a failure
  absl::Time expired_at;  // from then on only the grace path is left
};
StatusOr<RenewalTimes> TimesOf(const net::ClientIdentity& identity);

struct Renewed {
  net::ClientIdentity identity;
  std::vector<std::string> servers;  // empty: as before
};

// Whether the leaf is good no longer.
bool Expired(const net::ClientIdentity& identity, absl::Time now);

// Asks for a certificate for a new key, and proves that what comes fits the key and the authority.
// Blocks for at most `within`.
StatusOr<Renewed> Renew(const std::string& server, const net::ClientIdentity& identity,
                        absl::Time now, absl::Duration within);
// The grace path: at the enrolment ports, one after the other. FailedPrecondition without any.
StatusOr<Renewed> RenewExpired(const std::vector<std::string>& enroll,
                               const net::ClientIdentity& identity, const Clock& clock,
                               absl::Duration within);

}  // namespace muster::agent
