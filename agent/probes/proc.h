// Files of /proc: they have no size, and must be read to their end.
#pragma once

#include <string>

#include "lib/base/status.h"

namespace muster::agent {

// At most 64 KiB. NotFound if it is not there, or its process has gone.
StatusOr<std::string> ReadProc(const std::string& path);

}  // namespace muster::agent
