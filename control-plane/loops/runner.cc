#include "control-plane/loops/runner.h"

#include <utility>

#include "lib/base/log.h"

namespace muster::control {

Runner::Runner(std::string name, absl::Duration period, const Clock& clock, TickFunction tick)
    : name_(std::move(name)),
      clock_(clock),
      tick_(std::move(tick)),
      loop_(name_, period, [this] { Tick(); }) {}

void Runner::Tick() {
  const Status status = tick_(clock_.Now());
  const std::string problem = status.ok() ? "" : Text(status);
  if (problem == last_problem_) return;
  if (status.ok()) {
    LogInfo("loop works again", {{"loop", name_}});
  } else {
    LogError("loop failed", {{"loop", name_}, {"error", status}});
  }
  last_problem_ = problem;
}

}  // namespace muster::control
