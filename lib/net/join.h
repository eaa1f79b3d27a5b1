// How a host becomes an agent: from a join string to a key and a certificate.
#pragma once

#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/secret.h"
#include "lib/base/status.h"
#include "lib/net/context.h"
#include "lib/net/tls.h"

namespace muster::net {

struct Joined {
  std::string agent_name;
  std::vector<std::string> servers;  // of the control plane, host:port
  ClientIdentity identity;           // roots, own chain, key
};

// Looks at the server's certificates and compares the authority's pin *before* the
// token is sent, then trades the token for a certificate. Blocks for up to `within`. Unavailable:
// no answer. Unauthenticated: the server is not the join string's. PermissionDenied: the token is
// unknown, expired or used.
//
// The same key with the same token gets the same certificate: keep the key until Join has returned,
// and a join that was interrupted can be done again.
StatusOr<Joined> Join(const std::string& server, const JoinString& join, const Secret& key,
                      const Clock& clock, absl::Duration within = absl::Seconds(20));

// A new certificate for an agent whose own has expired: shows the old one, and proves possession of
// its key. PermissionDenied: revoked, or expired for longer than the control plane's grace.
StatusOr<Joined> Rejoin(const std::string& server, const ClientIdentity& expired,
                        const Clock& clock, absl::Duration within = absl::Seconds(20));

// What the old key signs: see JoinRequest.proof.
std::string ReadmissionText(std::string_view csr_der);

}  // namespace muster::net
