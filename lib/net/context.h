// What a program needs to reach a control plane: addresses, trust, own certificate. A context file
// is what `muster-control init` writes as DIR/admin.context and what musterctl reads.
//
// YAML: {name, servers: [host:port], ca: PEM, certificate: PEM, key: PEM}. Mode 0600.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/status.h"
#include "lib/net/tls.h"

namespace muster::net {

struct Context {
  std::string name;  // "admin"
  std::vector<std::string> servers;
  ClientIdentity identity;
};

StatusOr<Context> ReadContext(const std::string& path);
StatusOr<Context> ParseContext(std::string_view yaml, std::string_view name);
std::string FormatContext(const Context& context);

// "muster1." and base64url of {pin: 32 bytes, token: 32 bytes, checksum: 4 bytes}.
// pin is the SHA-256 of the authority's SubjectPublicKeyInfo.
struct JoinString {
  std::string pin;
  std::string token;
};
std::string FormatJoinString(const JoinString& join);
// InvalidArgument says whether it was cut short, mistyped or is something else altogether.
StatusOr<JoinString> ParseJoinString(std::string_view text);

}  // namespace muster::net
