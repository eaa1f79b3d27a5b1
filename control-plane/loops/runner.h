// Runs the tick of a loop for ever: a tick that fails is logged once for each change of its error,
// and the next one comes all the same.
#pragma once

#include <functional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/exec/threads.h"

namespace muster::control {

// `clock` must outlive the runner, and so must all that `tick` uses.
class Runner {
 public:
  using TickFunction = std::function<Status(absl::Time now)>;
  Runner(std::string name, absl::Duration period, const Clock& clock, TickFunction tick);
  // As soon as possible. Any thread may call.
  void Wake() { loop_.Wake(); }
  // Waits for a running tick. Safe to repeat.
  void Stop() { loop_.Stop(); }

 private:
  void Tick();
  const std::string name_;
  const Clock& clock_;
  const TickFunction tick_;
  std::string last_problem_;  // owned by the loop's thread
  exec::PeriodicLoop loop_;   // last: its thread uses all the others
};

}  // namespace muster::control
