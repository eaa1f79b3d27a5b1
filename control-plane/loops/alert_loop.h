// Reads new transitions and who is absent, decides, and stores alerts with their notifications at
// once. One thread calls Tick. No truth is kept here: a new loop over the same store goes on where
// this one was.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control-plane/decide/alert.h"
#include "control-plane/loops/presence.h"
#include "control-plane/store/store.h"

namespace muster::control {

// What a tick found, for metrics.
struct AlertCounts {
  size_t agents_connected = 0;
  size_t alerts_firing = 0;
  AlertStore::OutboxCounts outbox;
};

struct AlertLoopOptions {
  uint32_t batch = 1000;                  // transitions a round
  std::function<void()> on_told = [] {};  // the outbox has new rows
  std::function<void(const AlertCounts&)> on_counts = [](const AlertCounts&) {};
};

class AlertLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  AlertLoop(Store& store, LeaderEpoch epoch, Presence& presence, AlertLoopOptions options);
  // Rounds until the transitions are used up. Aborted rounds (another writer was faster) begin
  // again.
  Status Tick(absl::Time now);

 private:
  // Whether there was a full batch: more may wait.
  StatusOr<bool> Round(absl::Time now);
  // What is new since the cursor; the rest of the facts is kept between rounds.
  Status ReadNews();
  // Agents that news or open alerts are about, and that are not known yet.
  Status ReadStrangers();
  AgentPresence PresenceOf(const AgentSession& agent) const;
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
  Presence& presence_;
  const AlertLoopOptions options_;
  // Each part is refreshed from the store when it has changed there, or is too old.
  AlertFacts facts_;
  uint64_t spec_revision_ = 0;
  bool specs_read_ = false;
  std::optional<uint64_t> run_revision_;
  std::optional<uint64_t> backup_revision_;
  std::shared_ptr<const PresenceView> view_;  // that facts_.agents were made of
  absl::Time now_;                            // of this tick
  uint64_t removed_revision_ = 0;
  AlertCounts counts_;
};

}  // namespace muster::control
