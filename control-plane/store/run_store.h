// Jobs and their runs (promises C3, C4). A run goes through phases:
//
//   waiting ──leader──► assigned ──agent──► began ──agent──► attempt over ──leader──► over
//      ▲  └─leader: missed, cancelled─────────────────────────────────────────────────► │
//      └──────────────────────────── leader: another attempt ◄──────┘
//
// What its host runs is never assigned: it waits until an agent tells that it began
// (reported_runs.h).
//
// The leader's changes carry its epoch and are made only from the phase and fence that it saw; the
// agent's come with its log's batches (run_events.h). A run's id comes from its job and slot, so
// that what is decided twice is stored once.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control-plane/store/audit.h"
#include "control-plane/store/leader_epoch.h"
#include "lib/sql/database.h"
#include "muster/v1/job.pb.h"
#include "muster/v1/run_service.pb.h"

namespace muster::control {

enum class RunPhase { kWaiting = 1, kAssigned = 2, kBegan = 3, kAttemptOver = 4, kOver = 5 };
enum class RunStop { kNo = 0, kCancel = 1, kTerminate = 2 };

struct RunRow {
  std::string id;
  std::string job;
  absl::Time slot;
  v1::RunTrigger trigger = v1::RUN_TRIGGER_SCHEDULE;
  std::string asked_by;
  v1::JobSpec
      spec;  // as it was when the run was made; a drill's backup is chosen when it is assigned
  // What it does beside the job's own task, as in v1::Run; empty for the job's own.
  std::string action;
  RunPhase phase = RunPhase::kWaiting;
  v1::RunState state = v1::RUN_STATE_QUEUED;
  std::string reason;
  absl::Time due_at;                              // of the next attempt, while it waits
  absl::Time start_by = absl::InfiniteFuture();   // the first attempt begins by then, or never
  std::string agent;                              // empty before the first attempt
  uint64_t fence = 0;                             // attempts that were assigned
  absl::Time assigned_at = absl::InfinitePast();  // the last attempt
  absl::Time started_at = absl::InfinitePast();   // the first attempt
  absl::Time finished_at = absl::InfiniteFuture();
  // How the last attempt ended; unspecified before, and where nobody told.
  v1::RunOutcome outcome = v1::RUN_OUTCOME_UNSPECIFIED;
  int32_t exit_code = -1;
  RunStop stop = RunStop::kNo;
  std::string stop_reason;
  v1::RunProgress progress;
  uint64_t dropped_lines = 0;
  uint64_t output_bytes = 0;
  // Of a run that the host began itself: what its agent calls it. Else empty.
  std::string reported_id;
};

struct TrailRow {
  std::string run;
  absl::Time at;
  std::string what;
  std::string reason;
};

// Slots in a row that became no run.
struct MissedRow {
  std::string id;
  std::string job;
  absl::Time slot;  // the first
  absl::Time last_slot;
  uint64_t slots = 0;
  int64_t reason = 0;  // MissedReason of decide/schedule.h
  std::string why;
  absl::Time recorded_at;
};

struct PauseRow {
  std::string job;
  absl::Time since;
  absl::Time until = absl::InfiniteFuture();
  std::string reason;
  std::string by;
};

// The newest slot of a job that is over.
struct JobHealth {
  std::string run;  // empty: none yet
  absl::Time slot;
  v1::RunState state = v1::RUN_STATE_UNSPECIFIED;
  std::string reason;
  absl::Time at;
};

// How far a job's slots are decided.
struct JobRow {
  std::string name;
  v1::JobSpec spec;  // that its slots are decided by
  uint64_t generation = 0;
  absl::Time decided_until;
  std::vector<PauseRow> pauses;  // oldest first
  JobHealth health;
  // Why backups that its keep does not keep could not be removed; empty if they could.
  std::string keep_problem;
};

// What the leader decides of a run that is open.
struct RunChange {
  // Phase, state, reason, due_at, start_by, agent, fence, assigned_at, finished_at, outcome and
  // exit_code count.
  RunRow row;
  RunPhase expected_phase = RunPhase::kWaiting;
  uint64_t expected_fence = 0;
  bool new_spec = false;   // the row's spec counts, too
  std::string what;        // of the trail; empty: no entry
  bool concludes = false;  // the job's health is this run's
};

// A run that a newer one of its job replaces.
struct StopRow {
  std::string id;
  RunStop stop = RunStop::kCancel;
  std::string reason;
};

// What the leader decides of a job's slots, stored at once.
struct JobDecision {
  JobRow row;                                // name, spec, generation and decided_until count
  std::optional<absl::Time> expected_until;  // nullopt: the job is new
  std::vector<RunRow> runs;                  // new ones; those that are there already stay
  std::vector<MissedRow> missed;             // a row with the same id grows
  std::vector<RunChange> changes;            // of runs that wait, in favour of a new one
  std::vector<StopRow> stops;
  std::vector<JobHealth> health;  // of what was missed
};

struct RunFilter {
  std::string job;    // empty: all
  std::string agent;  // empty: all
  std::vector<v1::RunState> state;
  std::string id_prefix;
  bool own = false;  // without those of an action
};

struct OutputRow {
  uint64_t fence = 0;
  uint64_t first_line = 0;
  absl::Time at;
  v1::RunOutput::Stream stream = v1::RunOutput::STREAM_UNSPECIFIED;
  std::string text;
};

class RunStore {
 public:
  explicit RunStore(sql::Database& database) : database_(database) {}

  // Every job whose slots were decided once, by name.
  StatusOr<std::vector<JobRow>> Jobs();
  // Runs that are not over, oldest due first.
  StatusOr<std::vector<RunRow>> Open();
  // Runs that changed after Revision() was that, those that are over now, too. A change that the
  // leader need not act on may be among them.
  StatusOr<std::vector<RunRow>> ChangedSince(uint64_t revision);
  // Runs that agents are to have on their hands: none that their hosts began themselves.
  StatusOr<std::vector<RunRow>> OnHands();
  // Grows with every change of what agents are to have on their hands.
  StatusOr<uint64_t> AssignmentRevision();
  // Grows with every change that the leader may have to act on.
  StatusOr<uint64_t> Revision();
  // What was decided before that moment may be missing here; InfinitePast: nothing is.
  StatusOr<absl::Time> LostUntil();
  // Slots of the job after that moment that have runs, ascending.
  StatusOr<std::vector<absl::Time>> SlotsAfter(std::string_view job, absl::Time after);
  // Grows with every change of a pause.
  StatusOr<uint64_t> PauseRevision();

  // The leader's. Aborted if a job's decided_until is not the expected one. The revision after it:
  // the next one to the caller's, if nobody else has changed anything since.
  StatusOr<uint64_t> Decide(LeaderEpoch epoch, const std::vector<JobDecision>& decisions,
                            absl::Time now);
  // The leader's. Each only from the phase and fence that were seen; how many were made, and the
  // revision after it, as from Decide.
  struct Changed {
    uint64_t made = 0;
    uint64_t revision = 0;
  };
  StatusOr<Changed> Change(LeaderEpoch epoch, const std::vector<RunChange>& changes,
                           absl::Time now);
  // The leader's. Jobs that are deleted, and pauses that are behind what is decided.
  Status Forget(LeaderEpoch epoch, const std::vector<std::string>& jobs);
  // The leader's. Runs that finished before, with their trail and output; at most `limit`.
  StatusOr<uint64_t> DropBefore(LeaderEpoch epoch, absl::Time cutoff, uint32_t limit);

  // The operator's. A run that is there already is returned as it is; slots that lie on another
  // run's are moved by a microsecond.
  StatusOr<RunRow> Start(RunRow run, const AuditNote& note);
  // The operator's. NotFound; FailedPrecondition if it is over, or its host runs it.
  StatusOr<RunRow> Stop(std::string_view id, RunStop stop, std::string_view reason,
                        const AuditNote& note);
  // The operator's. New runs, and missed ones that wait again; which.
  StatusOr<std::vector<RunRow>> Backfill(const std::vector<RunRow>& runs, const AuditNote& note);
  // The operator's. FailedPrecondition if it is paused already, or not paused.
  Status Pause(const PauseRow& pause, const AuditNote& note);
  Status Resume(std::string_view job, const AuditNote& note);

  StatusOr<std::optional<RunRow>> Find(std::string_view id);
  StatusOr<std::optional<MissedRow>> FindMissed(std::string_view id);
  // Newest slot first, after the position; missed slots are not in it.
  StatusOr<std::vector<RunRow>> List(const RunFilter& filter, absl::Time before,
                                     std::string_view before_id, uint32_t limit);
  StatusOr<std::vector<MissedRow>> ListMissed(const RunFilter& filter, absl::Time before,
                                              std::string_view before_id, uint32_t limit);
  // Oldest first.
  StatusOr<std::vector<TrailRow>> Trail(std::string_view run);
  // In order of attempt, line and stream, after the position.
  StatusOr<std::vector<OutputRow>> Output(std::string_view run, const OutputRow& after,
                                          uint32_t limit);

 private:
  StatusOr<uint64_t> ReadLast(std::string_view counter);
  sql::Database& database_;
};

}  // namespace muster::control
