// What agents tell of their runs, as it is stored with the batch that holds it (promise C4).
#pragma once

#include <string>
#include <vector>

#include "control-plane/store/run_store.h"
#include "lib/sql/database.h"
#include "muster/v1/record.pb.h"

namespace muster::control {

// Of one run's output that is kept; further lines are counted as dropped.
inline constexpr uint64_t kMostRunOutput = 4 << 20;

struct AgentRunEvent {
  std::string_view agent;  // by its certificate
  const v1::RunEvent* event = nullptr;
  absl::Time at;  // corrected
};

// A run that a host says it began, and that nobody stores.
struct RefusedReport {
  std::string agent;
  std::string job;
  std::string why;
};

// What an event makes of its run. Nothing comes of one that is not of the run's agent and last
// attempt, nor of one that says what is known: telling it again is harmless.
struct RunStep {
  bool changed = false;
  bool keep_output = false;  // event.output is to be stored
  std::string what;          // of the trail; empty: no entry
};
RunStep ApplyRunEvent(const AgentRunEvent& event, RunRow& run);

// The state that an outcome is, where no further attempt follows.
inline v1::RunState StateOf(v1::RunOutcome outcome) {
  switch (outcome) {
    case v1::RUN_OUTCOME_SUCCEEDED: return v1::RUN_STATE_SUCCEEDED;
    case v1::RUN_OUTCOME_FAILED: return v1::RUN_STATE_FAILED;
    case v1::RUN_OUTCOME_TIMED_OUT: return v1::RUN_STATE_TIMED_OUT;
    case v1::RUN_OUTCOME_CANCELLED: return v1::RUN_STATE_CANCELLED;
    // Asked to run, and could not: nobody waits for anything any more.
    case v1::RUN_OUTCOME_NEVER_BEGAN: return v1::RUN_STATE_FAILED;
    default: return v1::RUN_STATE_UNKNOWN;
  }
}

// In the order given. Within the transaction of the batches. `refused` gets what is not stored of
// runs that hosts began themselves.
Status StoreRunEvents(sql::Transaction& transaction, const std::vector<AgentRunEvent>& events,
                      absl::Time now, std::vector<RefusedReport>* refused = nullptr);

}  // namespace muster::control
