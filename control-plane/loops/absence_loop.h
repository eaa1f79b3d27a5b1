// Turns silence into NO_DATA: states of agents without a session, and checks whose data is late.
// One thread calls Tick.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "control-plane/decide/absence.h"
#include "control-plane/store/store.h"

namespace muster::control {

struct AbsenceLoopOptions {
  absl::Time serving_since;
  AbsencePolicy policy;
  uint32_t states_per_tick =
      5000;  // looked at for lateness; larger fleets take several ticks for all
  // So many states became NO_DATA.
  std::function<void(uint32_t count)> on_no_data = [](uint32_t) {};
};

class AbsenceLoop {
 public:
  AbsenceLoop(Store& store, AbsenceLoopOptions options);
  Status Tick(absl::Time now);

 private:
  struct Session {
    uint64_t epoch = 0;
    absl::Time connected_since;
  };
  Status ReadAgents(absl::Time now);
  Status ReadChecks();
  Status MarkSilent(absl::Time now);
  Status MarkLate(absl::Time now);
  Status MarkIfLate(const CheckStateRow& state, absl::Time now);
  Status Apply(const NoData& no_data);

  Store& store_;
  const AbsenceLoopOptions options_;
  std::map<std::string, AgentRow> agents_;
  std::map<std::string, Session> sessions_;
  // Silent agents whose states were all marked, with the session epoch that they were marked after.
  std::map<std::string, uint64_t> marked_;
  uint64_t spec_revision_ = 0;
  bool specs_read_ = false;
  std::map<uint32_t, v1::CheckSpec> checks_;
  std::string after_agent_;
  uint32_t after_check_ = 0;
  uint32_t marked_now_ = 0;
};

}  // namespace muster::control
