#include "lib/net/identity.h"

#include <array>

namespace muster::net {
namespace {

constexpr std::string_view kDomain = "spiffe://muster/";
constexpr size_t kLongestName = 63;

struct RoleEntry {
  v1::Role role;
  std::string_view name;
};
constexpr std::array<RoleEntry, 5> kRoles = {{{v1::ROLE_AGENT, "agent"},
                                              {v1::ROLE_VIEWER, "viewer"},
                                              {v1::ROLE_OPERATOR, "operator"},
                                              {v1::ROLE_ADMIN, "admin"},
                                              {v1::ROLE_STRANGER, "stranger"}}};

bool IsAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

std::string_view RoleName(v1::Role role) {
  for (const RoleEntry& entry : kRoles) {
    if (entry.role == role) return entry.name;
  }
  return "control";
}

std::string Text(const Identity& identity) {
  if (identity.role == v1::ROLE_STRANGER) return "stranger";
  return fmt::format("{}/{}", RoleName(identity.role), identity.name);
}

std::string SpiffeUri(v1::Role role, std::string_view name) {
  return fmt::format("{}{}/{}", kDomain, RoleName(role), name);
}

bool IsIdentityName(std::string_view name) {
  if (name.empty() || name.size() > kLongestName) return false;
  if (!IsAlnum(name.front()) || !IsAlnum(name.back())) return false;
  for (const char c : name) {
    if (!IsAlnum(c) && c != '-' && c != '.') return false;
  }
  return true;
}

StatusOr<Identity> ParseSpiffeUri(std::string_view uri) {
  const Status refused =
      Unauthenticated("the certificate's identity \"{}\" is not one of muster's", uri);
  if (!uri.starts_with(kDomain)) return refused;
  const std::string_view path = uri.substr(kDomain.size());
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos || !IsIdentityName(path.substr(slash + 1))) return refused;
  for (const RoleEntry& entry : kRoles) {
    if (entry.role == v1::ROLE_STRANGER || entry.name != path.substr(0, slash)) continue;
    return Identity{entry.role, std::string(path.substr(slash + 1)), ""};
  }
  return refused;
}

}  // namespace muster::net
