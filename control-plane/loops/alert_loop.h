// Reads new transitions and who is absent, decides, and stores alerts with their notifications at
// once. One thread calls Tick. No truth is kept here: a new loop over the same store goes on where
// this one was.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control-plane/decide/absence.h"
#include "control-plane/decide/alert.h"
#include "control-plane/store/store.h"

namespace muster::control {

// What a tick found, for metrics.
struct AlertCounts {
  size_t agents_connected = 0;
  size_t alerts_firing = 0;
  AlertStore::OutboxCounts outbox;
};

struct AlertLoopOptions {
  absl::Time serving_since;  // when the cluster began to accept agents
  AbsencePolicy absence;
  uint32_t batch = 1000;  // transitions a round
  // How old the view of who is connected may be.
  absl::Duration agents_every = absl::Seconds(1);
  std::function<void()> on_told = [] {};  // the outbox has new rows
  std::function<void(const AlertCounts&)> on_counts = [](const AlertCounts&) {};
};

class AlertLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  AlertLoop(Store& store, LeaderEpoch epoch, AlertLoopOptions options);
  // Rounds until the transitions are used up. Aborted rounds (another writer was faster) begin
  // again.
  Status Tick(absl::Time now);

 private:
  // Whether there was a full batch: more may wait.
  StatusOr<bool> Round(absl::Time now);
  // What is new since the cursor; the rest of the facts is kept between rounds.
  Status ReadNews();
  Status ReadStrangers();
  // Specs, and what is known of their jobs and backups.
  Status ReadWhatIsWanted();
  Status ReadSpecs();
  Status ReadJobs();
  Status ReadBackups();
  Status ReadAgents(absl::Time now);
  Status ReadReplicas();
  // Fills facts_.removed; returns the newest revision seen.
  StatusOr<uint64_t> ReadRemoved();
  StatusOr<std::set<std::pair<std::string, uint32_t>>> StillGone(
      const std::set<std::pair<std::string, uint32_t>>& gone);
  void CountFiring(const AlertDecision& decision);

  Store& store_;
  const LeaderEpoch epoch_;
  const AlertLoopOptions options_;
  Serving serving_;
  // Each part is refreshed from the store when it has changed there, or is too old.
  AlertFacts facts_;
  uint64_t spec_revision_ = 0;
  bool specs_read_ = false;
  std::optional<uint64_t> run_revision_;
  std::optional<uint64_t> backup_revision_;
  absl::Time agents_read_ = absl::InfinitePast();
  uint64_t removed_revision_ = 0;
  AlertCounts counts_;
};

}  // namespace muster::control
