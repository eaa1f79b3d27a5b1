// Makes runs of the slots that come due, gives them to agents, judges how they ended. One thread
// calls Tick. No truth is kept here: a new loop over the same store goes on where this one was.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control-plane/decide/dispatch.h"
#include "control-plane/decide/job_plan.h"
#include "control-plane/loops/open_runs.h"
#include "control-plane/store/store.h"

namespace muster::control {

struct JobCounts {
  uint64_t queued = 0;
  uint64_t running = 0;
};

struct JobLoopOptions {
  // How old the view of who is connected may be, while runs depend on it.
  absl::Duration agents_every = absl::Seconds(1);
  // How long only runs that changed are read: a program of an older release, beside this one, does
  // not mark what it changes.
  absl::Duration all_every = absl::Seconds(30);
  // How long no slot is decided after a store lost what had been: agents find their way back, and
  // tell of runs that it does not know.
  absl::Duration recall = absl::Seconds(15);
  uint32_t runs_per_host = 4;
  // Agents are to have other runs on their hands, or a run is over.
  std::function<void()> on_changed = [] {};
  std::function<void(const JobCounts&)> on_counts = [](const JobCounts&) {};
  // A run is over.
  std::function<void(v1::RunState)> on_over = [](v1::RunState) {};
};

class JobLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  JobLoop(Store& store, LeaderEpoch epoch, JobLoopOptions options)
      : store_(store), epoch_(epoch), options_(std::move(options)) {}
  Status Tick(absl::Time now);

 private:
  struct Known {
    SpecRow spec;
    std::optional<JobRow> row;  // as it is stored; nullopt: nothing was decided yet
    std::optional<MissedRow> last_missed;
  };

  // Whether anything changed, so that another look may find more.
  StatusOr<bool> Round(absl::Time now);
  Status ReadSpecs();
  Status ReadRuns(absl::Time now);
  Status ReadJobs();
  StatusOr<bool> PlanJobs(absl::Time now);
  StatusOr<bool> Dispatch(absl::Time now);
  Status ReadAgents(absl::Time now);
  StatusOr<std::map<std::string, v1::JobSpec>> ReadDrills(absl::Time now);
  Status ForgetDeleted(const std::vector<JobRow>& rows);
  StatusOr<std::vector<JobDecision>> DecideDue(absl::Time now);
  StatusOr<JobPlan> Plan(const std::string& name, const Known& job, std::vector<const RunRow*> open,
                         absl::Time now);
  // What was stored is known without reading it again, unless others wrote meanwhile.
  void Keep(const std::vector<JobDecision>& decisions, uint64_t revision);
  void Keep(const std::vector<RunChange>& changes, const RunStore::Changed& changed);
  bool IsNext(uint64_t revision) const { return run_revision_ == revision - 1; }
  void ReadAllAgain();
  bool AllAreDue(absl::Time now) const {
    return now < all_read_ || now >= all_read_ + options_.all_every;
  }

  Store& store_;
  const LeaderEpoch epoch_;
  const JobLoopOptions options_;
  // Caches, each refreshed from the store.
  std::optional<uint64_t> spec_revision_;
  std::optional<uint64_t> run_revision_;
  std::optional<uint64_t> pause_revision_;
  std::map<std::string, Known> jobs_;
  absl::flat_hash_set<std::string> names_;  // of the jobs
  // When each job's schedule is looked at next.
  std::set<std::pair<absl::Time, std::string>> looks_;
  absl::Time lost_until_ = absl::InfinitePast();
  OpenRuns open_;
  absl::Time all_read_ = absl::InfinitePast();  // the open runs
  absl::Time agents_read_ = absl::InfinitePast();
  std::map<std::string, HostView> agents_;
  absl::Time next_look_ = absl::InfinitePast();
};

}  // namespace muster::control
