// Who a peer is (promise C10): a role and a name from the one SPIFFE URI of its certificate.
//
//   spiffe://muster/agent/db-1      an agent
//   spiffe://muster/viewer/anna     an operator with the role viewer; also operator and admin
//   spiffe://muster/control/r1      a replica of the control plane
#pragma once

#include <string>
#include <string_view>

#include "lib/base/status.h"
#include "muster/v1/options.pb.h"

namespace muster::net {

struct Identity {
  v1::Role role = v1::ROLE_UNSPECIFIED;
  std::string name;
  // SHA-256 of the leaf certificate, hex.
  std::string fingerprint;
  bool operator==(const Identity&) const = default;
};

// "agent/db-1", "admin/root", "stranger".
std::string Text(const Identity& identity);
std::string_view RoleName(v1::Role role);
std::string SpiffeUri(v1::Role role, std::string_view name);
// Unauthenticated for anything but the shapes above.
StatusOr<Identity> ParseSpiffeUri(std::string_view uri);
// [a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?
bool IsIdentityName(std::string_view name);

}  // namespace muster::net
