// One function for each kind of task; MakeTask calls the right one.
#pragma once

#include "agent/tasks/task.h"

namespace muster::agent {

TaskOr MakeCommandTask(const v1::CommandTask& spec, const Policy& policy);

}  // namespace muster::agent
