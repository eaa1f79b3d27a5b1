// The job that an agent tells of, as it is stored. Within the transaction of its records.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/status.h"
#include "lib/sql/database.h"
#include "muster/v1/job.pb.h"

namespace muster::control {

// NotFound if there is no such job, PermissionDenied if its spec does not ask for this agent.
StatusOr<v1::JobSpec> JobAskedOf(sql::Transaction& transaction, std::string_view job,
                                 std::string_view agent);

}  // namespace muster::control
