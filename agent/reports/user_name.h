// Users of the host by name, as policies have them.
#pragma once

#include <sys/types.h>

#include <string>

namespace muster::agent {

// The number where there is no name. Nobody but user 0 is "root", whatever the host calls others.
std::string UserNameOf(uid_t user);

}  // namespace muster::agent
