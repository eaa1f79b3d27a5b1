// Removes what no rule keeps, once a job's newest backup went well; and says what the catalogue
// holds. One thread calls Tick. No truth is kept here: a new loop over the same store goes on where
// this one was.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "control-plane/decide/backup_health.h"
#include "control-plane/store/store.h"

namespace muster::control {

struct BackupLoopOptions {
  std::function<void()> on_changed = [] {};  // there is a new run
  // Of every job that there is and that makes backups.
  std::function<void(const std::map<std::string, BackupSummary>&)> on_summaries = [](const auto&) {
  };
};

class BackupLoop {
 public:
  // Its writes carry the epoch: a loop is one leader's, for one term.
  BackupLoop(Store& store, LeaderEpoch epoch, BackupLoopOptions options)
      : store_(store), epoch_(epoch), options_(std::move(options)) {}
  Status Tick(absl::Time now);

 private:
  Status ReadSpecs();
  Status Follow(const JobRow& job, absl::Time now);

  Store& store_;
  const LeaderEpoch epoch_;
  const BackupLoopOptions options_;
  // Caches, each refreshed from the store.
  std::optional<uint64_t> spec_revision_, run_revision_, backup_revision_;
  std::map<std::string, v1::JobSpec> jobs_;      // those that make backups
  std::map<std::string, std::string> followed_;  // the run that was followed last, by job
};

}  // namespace muster::control
