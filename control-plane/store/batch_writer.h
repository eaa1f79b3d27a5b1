// Stores many agents' batches within one transaction, each only if its cursor, its session epoch
// and its states' epoch are the expected ones. The statements are as many for one batch as for
// hundreds. Used once, by one thread.
#pragma once

#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "control-plane/store/history_store.h"
#include "control-plane/store/run_events.h"
#include "lib/sql/database.h"

namespace muster::control {

class BatchWriter {
 public:
  // The batches must outlive the writer.
  BatchWriter(sql::Transaction& transaction, const std::vector<BatchCommit>& batches,
              absl::Time now)
      : t_(transaction), batches_(batches), now_(now) {}

  // The outer status is the transaction's; `outcomes` gets one status a batch.
  Status Store(std::vector<Status>& outcomes);
  // After Store: what hosts told of runs of theirs and is not stored.
  const std::vector<RefusedReport>& refused() const { return refused_; }

 private:
  // A log, as it stands in the store and as it will when the batches so far are stored.
  struct Log {
    int64_t agent_id = 0;
    uint64_t session_epoch = 0;
    uint64_t states_epoch = 0;
    int64_t log_id = 0;
    uint64_t stored = 0;
    uint64_t committed = 0;
    const BatchCommit* last = nullptr;
  };
  using LogKey = std::pair<std::string_view, std::string_view>;  // agent, log epoch

  Status ReadLogs();
  Status Expected(const BatchCommit& batch) const;
  void Take(const BatchCommit& batch);
  Status MoveCursors();
  Status PutSegments();
  Status PutStatesAndTransitions();
  Status PutGaps();
  Status PutRunEvents();

  sql::Transaction& t_;
  const std::vector<BatchCommit>& batches_;
  const absl::Time now_;
  std::map<LogKey, Log> logs_;
  std::vector<std::pair<const BatchCommit*, const Log*>> taken_;
  std::vector<RefusedReport> refused_;
};

}  // namespace muster::control
