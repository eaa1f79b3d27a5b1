// The commit of records (promises C1, C2, C5) and the reading of history, states and transitions.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/session_store.h"
#include "lib/sql/database.h"
#include "muster/v1/check.pb.h"
#include "muster/v1/record.pb.h"
#include "muster/v1/stored.pb.h"

namespace muster::control {

struct RefusedReport;  // run_events.h

// What muster believes of a check on an agent, as a row.
struct CheckStateRow {
  std::string agent;
  uint32_t check_id = 0;
  v1::CheckStatus status = v1::CHECK_STATUS_UNSPECIFIED;  // as shown
  bool hard = true;
  uint32_t seen = 0;  // results in a row that say so, while soft
  uint32_t needed = 0;
  v1::CheckStatus hard_status = v1::CHECK_STATUS_UNSPECIFIED;  // the last hard one
  absl::Time since;                                            // of `status`
  absl::Time observed_at;  // of the newest result; in the row, of the last one that changed it
  absl::Duration latency;
  std::string summary;
  absl::Time last_failure_at;  // InfinitePast: never
  v1::StoredStateDetail detail;
  uint64_t revision = 0;  // set by the store; grows with every change of any state
};

struct TransitionRow {
  uint64_t id = 0;  // set by the store; ascending
  std::string agent;
  uint32_t check_id = 0;
  v1::CheckStatus from = v1::CHECK_STATUS_UNSPECIFIED;
  v1::CheckStatus to = v1::CHECK_STATUS_UNSPECIFIED;
  bool hard = false;
  absl::Time at;           // by the observation
  absl::Time recorded_at;  // by the store
  std::string summary;
  std::string reason;
};

// One agent's batch, ready to be stored.
struct BatchCommit {
  std::string agent;
  uint64_t session_epoch = 0;
  std::string log_epoch;
  uint64_t expected_committed = 0;  // the cursor must stand here
  uint64_t states_epoch = 0;        // of the states that it was judged by
  uint64_t first_sequence = 0;
  uint64_t last_sequence = 0;
  // Of its results and gaps; InfiniteFuture if it holds none, and then it is filed by when it came.
  absl::Time first_observed_at;
  // History is read in this order, and then of sequence: not before the newest of its observations,
  // nor before what the log had before.
  absl::Time filed_at;
  uint32_t results = 0;
  std::string payload;                // zstd frame of a RecordBatch, as it came
  std::vector<CheckStateRow> states;  // new values, one a check
  std::vector<TransitionRow> transitions;
  std::vector<v1::Gap> gaps;
  std::vector<v1::RunEvent> run_events;  // with times corrected, as texts are stored
  std::string observations;              // of all the agent's checks (PackObservations)
};

// What a session judges results by.
struct AgentStates {
  uint64_t epoch = 0;  // AgentRow's states_epoch; grows when another hand changes a state
  std::vector<CheckStateRow> rows;
};

struct Segment {
  std::string agent;
  std::string log_epoch;
  uint64_t first_sequence = 0;
  uint64_t last_sequence = 0;
  std::string payload;
};

// How far a reader of an agent's history has come: log by log, each by time.
struct SegmentCursor {
  struct Log {
    int64_t id = 0;
    std::string epoch;
  };
  struct Position {
    int64_t last_at = 0;
    int64_t first_sequence = 0;
  };

  std::string agent;
  // Of the observations.
  absl::Time since;
  absl::Time until;
  // The store's own.
  std::optional<std::vector<Log>> logs;
  size_t log = 0;
  Position after;
};

struct RemovedState {
  std::string agent;
  uint32_t check_id = 0;
  uint64_t revision = 0;
};

struct StateChange {
  CheckStateRow row;     // with its revision
  bool removed = false;  // the row says only whose it was
};

struct StateChanges {
  uint64_t through = 0;  // whatever changed up to here, and still stands so, is in it
  uint64_t newest = 0;   // of all revisions, as it was read
  std::vector<StateChange> changes;
};

struct StateFilter {
  std::optional<uint32_t> check_id;
  std::string agent;  // empty: all
  std::vector<v1::CheckStatus> status;
};

// What a state becomes by another hand than its agent's, and the transition to it.
struct DecidedState {
  CheckStateRow state;
  TransitionRow transition;
};

class HistoryStore {
 public:
  explicit HistoryStore(sql::Database& database) : database_(database) {}

  // Stores all batches in one transaction. The answer has one status a batch, in order: OK, or
  // Aborted where the cursor, the session epoch or the states' epoch was not the expected one (such
  // a batch leaves nothing; the others stand). The outer status is the transaction's. Several
  // batches of one agent must be in sequence order. `refused` gets what hosts told of runs of
  // theirs and is not stored.
  StatusOr<std::vector<Status>> Commit(const std::vector<BatchCommit>& batches, absl::Time now,
                                       std::vector<RefusedReport>* refused = nullptr);

  // The current states of an agent's checks, each as of its last observation.
  StatusOr<std::vector<CheckStateRow>> StatesOf(std::string_view agent);
  // The same, and their epoch: what evaluation starts from.
  StatusOr<AgentStates> SessionStates(std::string_view agent);
  // By (agent, check_id), after the position.
  StatusOr<std::vector<CheckStateRow>> ListStates(const StateFilter& filter,
                                                  std::string_view after_agent,
                                                  uint32_t after_check, uint32_t limit);
  // How watchers follow: what changed after that revision, ascending, at most `limit` of what is
  // there and of what left. States are observed as of their last change.
  StatusOr<StateChanges> ChangesAfter(uint64_t after, uint32_t limit);
  // States that left since (deleted checks, revoked agents or selectors that no longer match).
  StatusOr<std::vector<RemovedState>> RemovedStates(uint64_t after, uint32_t limit);
  // The newest revision of all, states and removals.
  StatusOr<uint64_t> StateRevision();
  // What the plan no longer holds for the agent goes: states, with removal rows. Returns how many.
  StatusOr<uint32_t> KeepOnly(std::string_view agent, const std::vector<uint32_t>& check_ids,
                              absl::Time now);
  // The leader's own transitions (NO_DATA), all at once. Left out are those of a state whose
  // revision is not `state.revision`, or that was observed since; the answer is the places in
  // `changes` of the others. Batches that were judged before are refused.
  StatusOr<std::vector<size_t>> ApplyTransitions(LeaderEpoch epoch,
                                                 const std::vector<DecidedState>& changes);

  // Transitions with id > after, ascending. hard_only: alerts read these.
  StatusOr<std::vector<TransitionRow>> TransitionsAfter(uint64_t after, uint32_t limit);
  // Newest first, at >= since.
  StatusOr<std::vector<TransitionRow>> ListTransitions(const StateFilter& filter, absl::Time since,
                                                       uint32_t limit);

  // The next segments, oldest first, that may hold results observed in the cursor's time; none at
  // the end. Between two calls nothing stays open, however long the reader takes.
  StatusOr<std::vector<Segment>> NextSegments(SegmentCursor& cursor);
  // All of them, until `take` returns false.
  Status ReadSegments(std::string_view agent, absl::Time since, absl::Time until,
                      const std::function<bool(const Segment&)>& take);
  // Where the database keeps history by the day: makes those days. Returns how many segments lie
  // outside of every day, as results of wrong clocks do, and counts no further than a thousand.
  StatusOr<int64_t> MakeDays(absl::Time from, absl::Time until);
  // The leader's. Drops segments whose newest result is older, whole days of them where history is
  // kept so. Returns how many went one by one, at most `limit`.
  StatusOr<uint64_t> DropSegmentsBefore(LeaderEpoch epoch, absl::Time cutoff, uint32_t limit);
  // Rows and payload bytes, for metrics and the bench.
  struct Size {
    uint64_t segments = 0;
    uint64_t results = 0;
    uint64_t payload_bytes = 0;
  };
  StatusOr<Size> HistorySize();

 private:
  sql::Database& database_;
};

}  // namespace muster::control
