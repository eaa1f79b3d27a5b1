// What becomes of the runs that are open: given to an agent, held, missed, tried again, over. Pure.
//
//   a run that                               becomes
//   waits, and somebody wants it stopped     over: CANCELLED
//   waits, its job deleted                   over: MISSED, or as its last attempt ended
//   waits and may begin (admission.h)        assigned to the first agent by name that its selector
//                                            matches and that is connected; a drill with the backup
//                                            that is the newest then
//   waits, past its start_by                 the same
//   waits for its host to begin it           nothing, until it is begun (store/reported_runs.h)
//   ended an attempt                         waiting for the next (retry.h), or over
//   an agent has, that was revoked           over: UNKNOWN
//   an agent has, that has long told nothing over: UNKNOWN, until the agent tells
//
// A run that its host begins takes no room and claims nothing: nobody asked.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <absl/container/flat_hash_set.h>

#include "control-plane/store/identity_store.h"
#include "control-plane/store/run_store.h"

namespace muster::control {

struct HostView {
  Labels labels;
  bool connected = false;
  bool revoked = false;
};

struct DispatchFacts {
  std::vector<RunRow> open;
  std::map<std::string, HostView> agents;
  absl::flat_hash_set<std::string> jobs;  // those that exist
  // What each drill that waits is to do (backup_run.h), by run. One that is missing here has no
  // backup to prove.
  std::map<std::string, v1::JobSpec> drills;
  uint32_t per_host = 4;
};

struct DispatchPlan {
  std::vector<RunChange> changes;
  // The next moment at which time alone changes this.
  absl::Time next_look = absl::InfiniteFuture();
};

// What an attempt gets beyond its deadline to tell of its end.
inline constexpr absl::Duration kGiveUpAfter = absl::Minutes(10);

DispatchPlan DecideDispatch(const DispatchFacts& facts, absl::Time now);

}  // namespace muster::control
