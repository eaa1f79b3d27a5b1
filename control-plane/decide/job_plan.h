// What the slots of one job become: schedule.h's decisions with overlap.h's, as rows. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/run_store.h"

namespace muster::control {

struct JobFacts {
  std::string name;
  v1::JobSpec spec;
  uint64_t generation = 0;
  absl::Time changed_at;                 // when this generation was applied
  std::optional<JobRow> row;             // nullopt: nothing was decided yet
  std::vector<const RunRow*> open;       // runs of the job that are not over
  std::optional<MissedRow> last_missed;  // the newest that is known
  // Slots after row->decided_until that have runs, ascending: a lost store had decided them.
  std::vector<absl::Time> decided;
};

struct JobPlan {
  std::optional<JobDecision> decision;  // nothing to store if it is not there
  absl::Time next_look;                 // when time alone makes something due
};

// An edit counts from when it was applied: slots before it are those of the schedule before.
StatusOr<JobPlan> PlanJob(const JobFacts& facts, absl::Time now);

}  // namespace muster::control
