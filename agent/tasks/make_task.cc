#include "agent/tasks/tasks.h"

namespace muster::agent {

TaskOr MakeTask(const v1::JobSpec& spec, const Policy& policy) {
  switch (spec.task_case()) {
    case v1::JobSpec::kCommand:
      MUSTER_RETURN_IF_ERROR(policy.AllowJob("command"));
      return MakeCommandTask(spec.command(), policy);
    case v1::JobSpec::TASK_NOT_SET: break;
  }
  return InvalidArgument("the job asks for something that this agent ({}) does not know",
                         MUSTER_VERSION);
}

}  // namespace muster::agent
