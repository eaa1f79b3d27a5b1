// Texts of specs, checked before a probe is made of them.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::agent {

// \r \n \t \0 \xNN and \\; InvalidArgument for any other escape.
StatusOr<std::string> Unescape(std::string_view text);
// InvalidArgument if RE2 does not take it.
Status CheckPattern(std::string_view pattern);
// host:port, both there.
StatusOr<HostPort> ParseTarget(std::string_view address);

}  // namespace muster::agent
