// What `alert explain` and `describe alert` both do.
#pragma once

#include <string>

#include "ctl/commands/session.h"

namespace muster::ctl {

StatusOr<int> ExplainAlert(Session& session, const std::string& id);

}  // namespace muster::ctl
