#include "agent/reports/user_name.h"

#include <pwd.h>

#include <array>
#include <string_view>

#include "lib/base/status.h"

namespace muster::agent {

std::string UserNameOf(uid_t user) {
  if (user == 0) return "root";
  std::array<char, 4096> room{};
  passwd entry{};
  passwd* found = nullptr;
  const bool known = getpwuid_r(user, &entry, room.data(), room.size(), &found) == 0 &&
                     found != nullptr && std::string_view(entry.pw_name) != "root";
  return known ? entry.pw_name : fmt::format("{}", user);
}

}  // namespace muster::agent
