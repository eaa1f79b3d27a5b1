// Turns silence into NO_DATA: states of agents without a session, and checks whose data is late.
// One thread calls Tick.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control-plane/decide/absence.h"
#include "control-plane/loops/presence.h"
#include "control-plane/store/store.h"

namespace muster::control {

// What one tick marked. Live sessions of these agents hold states that are no longer the store's.
struct NoDataMarks {
  std::set<std::string> agents;
  uint32_t states = 0;
};

struct AbsenceLoopOptions {
  uint32_t states_per_tick =
      5000;  // looked at for lateness; larger fleets take several ticks for all
  // After a tick in which states became NO_DATA.
  std::function<void(const NoDataMarks&)> on_no_data = [](const NoDataMarks&) {};
};

class AbsenceLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  AbsenceLoop(Store& store, LeaderEpoch epoch, Presence& presence, AbsenceLoopOptions options);
  Status Tick(absl::Time now);

 private:
  Status ReadChecks();
  Status MarkSilent(absl::Time now);
  Status MarkLate(absl::Time now);
  // Of those states the ones that are late.
  StatusOr<std::vector<NoData>> LateOf(const std::vector<CheckStateRow>& states, absl::Time now);
  // Applies the changes, and then counts the agents as marked. Both are empty afterwards.
  Status Mark(std::vector<NoData>& changes, std::map<std::string, uint64_t>& judged);
  Status Apply(const std::vector<NoData>& changes);

  Store& store_;
  const LeaderEpoch epoch_;
  Presence& presence_;
  const AbsenceLoopOptions options_;
  std::shared_ptr<const PresenceView> view_;  // of this tick
  // Silent agents whose states were all marked, with the session epoch that they were marked after.
  std::map<std::string, uint64_t> marked_;
  uint64_t spec_revision_ = 0;
  bool specs_read_ = false;
  std::map<uint32_t, v1::CheckSpec> checks_;
  std::string after_agent_;
  uint32_t after_check_ = 0;
  NoDataMarks marks_;
};

}  // namespace muster::control
