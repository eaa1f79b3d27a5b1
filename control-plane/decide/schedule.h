// Which slots of a job become runs, and which are missed and why. Pure.
//
// Every slot is decided once, in order: it becomes a run that may start in [slot, slot + jitter],
// or part of a record of missed slots with its reason. `decided_until` is the moment up to which
// all were: whoever applies a plan stores its runs, its missed and its decided_until in one
// transaction, from the decided_until that the facts had (microseconds are enough). A run's id
// comes from job and slot, so that a plan applied twice changes nothing.
//
//   a slot that lies                        becomes
//   in a pause                              missed: paused, once the pause is over
//   further back than catch-up reaches      missed: outage
//   in a blackout window                    missed: blackout
//   anywhere else                           a run
//
// Where overlap can use one run alone, the newest slot that was due becomes a run and the others
// are missed: superseded.
//
// The cost of a plan is bounded however long nobody decided: a record holds as many slots as there
// are in a row, counted and not walked; runs and records of one plan are bounded, and the next plan
// goes on from there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/decide/blackout.h"
#include "control-plane/decide/overlap.h"
#include "control-plane/decide/timetable.h"
#include "lib/base/status.h"
#include "lib/wire/run_id.h"

namespace muster::control {

// A job's starts are moved by one draw of the job's, so that their distances stay; or each by its
// own.
enum class JitterPer { kJob, kSlot };

struct Schedule {
  Timetable times;
  absl::Duration jitter = absl::ZeroDuration();
  JitterPer jitter_per = JitterPer::kJob;
  // How late a slot may become a run. Less than kPromptness counts as that.
  absl::Duration catch_up = absl::Hours(1);
  Overlap overlap = Overlap::kSkip;
  std::vector<Blackout> blackouts;
};

// A change of leader takes some seconds, and must cost no slot.
inline constexpr absl::Duration kPromptness = absl::Minutes(1);
inline constexpr size_t kMostRuns = 100;        // of one plan
inline constexpr int64_t kMostBackfill = 1000;  // runs of one backfill
inline constexpr size_t kMostUpcoming = 100;

// Nothing, or what is wrong with the schedule and what to write: a period under a second, a jitter
// that reaches the next slot, windows that never end. `now`: from when on slots are looked at.
Status CheckSchedule(const Schedule& schedule, absl::Time now);

struct Pause {
  absl::Time since;
  absl::Time until = absl::InfiniteFuture();  // exclusive
};

struct DueRun {
  std::string id;
  absl::Time slot;
  absl::Time start_at;
  absl::Time start_by;  // a run that has not begun by then is missed: see admission.h

  friend bool operator==(const DueRun&, const DueRun&) = default;
};

enum class MissedReason { kPaused, kOutage, kBlackout, kSuperseded };
std::string_view MissedText(MissedReason reason);

// So many slots in a row, none of which becomes a run.
struct Missed {
  absl::Time first;
  absl::Time last;
  int64_t count = 0;
  MissedReason reason = MissedReason::kOutage;
  std::string why;  // for the operator

  friend bool operator==(const Missed&, const Missed&) = default;
};

struct ScheduleFacts {
  std::string job;  // its id: see RunId
  Schedule schedule;
  absl::Time decided_until;   // of a new job, or a new schedule: the moment it was applied
  std::vector<Pause> pauses;  // those that end after decided_until, in any order
};

struct DuePlan {
  std::vector<DueRun> runs;    // oldest slot first
  std::vector<Missed> missed;  // oldest first
  absl::Time decided_until;
  absl::Time next_look;  // when time alone makes something due: now, if the plan was cut short
};

DuePlan Due(const ScheduleFacts& facts, absl::Time now);

// Takes out of the plan what is decided already: slots that have runs, ascending. Others are no
// slots, and change nothing.
void LeaveOut(const Timetable& times, const std::vector<absl::Time>& decided, DuePlan& plan);

// The two as one record, if `next` goes on where `before` ended, for the same reason.
std::optional<Missed> Joined(const Timetable& times, const Missed& before, const Missed& next);

using wire::RunId;
// In [0, jitter), always the same for a job, or a job and slot.
absl::Duration JitterOf(std::string_view job, absl::Time slot, const Schedule& schedule);

// What is to come, for people: slots after `after` and whether something is known to be in the way.
struct Upcoming {
  absl::Time slot;
  absl::Time start_at;
  std::optional<MissedReason> missed;
  std::string why;
};
// At most kMostUpcoming. decided_until does not matter.
std::vector<Upcoming> NextRuns(const ScheduleFacts& facts, absl::Time after, size_t count);

// Runs for the slots in [from, until) again, whatever became of them: those that have a run keep
// it, by their id. They start now, and oldest first, as admission lets them. Pauses and catch-up do
// not matter; a blackout window of now does. Refuses slots that are still to come and more than
// kMostBackfill of them.
StatusOr<std::vector<DueRun>> Backfill(const ScheduleFacts& facts, absl::Time from,
                                       absl::Time until, absl::Time now);

}  // namespace muster::control
