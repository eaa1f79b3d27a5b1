#include "control-plane/decide/job_plan.h"

#include <algorithm>

#include "control-plane/decide/job_schedule.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

std::vector<Pause> PausesUntil(const std::vector<PauseRow>& rows, absl::Time latest) {
  std::vector<Pause> pauses;
  for (const PauseRow& row : rows) {
    if (row.since < latest) pauses.push_back({row.since, std::min(row.until, latest)});
  }
  return pauses;
}

// Of a job that its host runs. Slots back to here may still be told of, however long nobody
// decided them: the host did not wait for us. So many runs there would be anyway.
constexpr absl::Duration kReachOfReports = absl::Hours(24);
// What agents get to tell after such a time: they must find their way back first.
constexpr absl::Duration kTimeToTell = absl::Minutes(2);

// The schedule says when something is expected, and every slot is expected.
void Expect(Schedule& schedule) {
  schedule.overlap = Overlap::kAllow;
  schedule.catch_up = std::max(schedule.catch_up, kReachOfReports);
}

// A pause or a window was wanted, and a newer slot runs: nobody need be told.
bool IsBad(MissedReason reason) { return reason == MissedReason::kOutage; }

class Planner {
 public:
  // `patience`: how late a slot of a job that its host runs may be told of.
  Planner(const JobFacts& facts, const v1::JobSpec& spec, const Schedule& schedule,
          absl::Duration patience, absl::Time now)
      : facts_(facts), spec_(spec), schedule_(schedule), patience_(patience), now_(now) {
    for (const RunRow* run : facts.open) {
      if (!run->action.empty()) continue;
      const bool began = run->fence > 0 || run->phase != RunPhase::kWaiting;
      (began ? overlap_.running : overlap_.waiting).push_back(run->id);
      if (!began) waiting_.push_back(run);
    }
    overlap_.policy = schedule.overlap;
  }

  void Take(const DuePlan& due, JobDecision& decision) {
    for (const Missed& missed : due.missed) Take(missed, decision);
    for (const DueRun& run : due.runs) Take(run, decision);
  }

 private:
  void Take(const Missed& missed, JobDecision& decision) {
    MissedRow row{.id = RunId(facts_.name, missed.first),
                  .job = facts_.name,
                  .slot = missed.first,
                  .last_slot = missed.last,
                  .slots = static_cast<uint64_t>(missed.count),
                  .reason = static_cast<int64_t>(missed.reason),
                  .why = missed.why,
                  .recorded_at = now_};
    if (facts_.last_missed.has_value() && decision.missed.empty()) Join(missed, row);
    if (IsBad(missed.reason)) {
      decision.health.push_back(
          {row.id, missed.last, v1::RUN_STATE_MISSED, std::string(missed.why), now_});
    }
    decision.missed.push_back(std::move(row));
  }

  // Goes on where the newest record ended: that one grows.
  void Join(const Missed& missed, MissedRow& row) const {
    const MissedRow& last = *facts_.last_missed;
    const Missed before{last.slot, last.last_slot, static_cast<int64_t>(last.slots),
                        static_cast<MissedReason>(last.reason), last.why};
    const std::optional<Missed> joined = Joined(schedule_.times, before, missed);
    if (!joined.has_value()) return;
    row.id = last.id;
    row.slot = joined->first;
    row.slots = static_cast<uint64_t>(joined->count);
  }

  void Take(const DueRun& due, JobDecision& decision) {
    RunRow run{.id = due.id,
               .job = facts_.name,
               .slot = due.slot,
               .trigger = v1::RUN_TRIGGER_SCHEDULE,
               .spec = spec_,
               .due_at = due.start_at,
               .start_by = due.start_by};
    if (spec_.has_reported()) return Expect(std::move(run), decision);
    const OverlapDecision overlap = DecideOverlap(overlap_);
    run.reason = overlap.reason;
    if (overlap.arrival == Arrival::kSkip) {
      run.phase = RunPhase::kOver;
      run.state = v1::RUN_STATE_MISSED;
      run.finished_at = now_;
    } else {
      Replace(overlap, run, decision);
      overlap_.waiting.push_back(run.id);
    }
    decision.runs.push_back(std::move(run));
  }

  void Expect(RunRow run, JobDecision& decision) const {
    run.start_by = run.slot + patience_;
    if (now_ > run.slot + kPromptness) run.start_by = std::max(run.start_by, now_ + kTimeToTell);
    run.reason = fmt::format("waits to be told of by its host, until {}", TimeText(run.start_by));
    decision.runs.push_back(std::move(run));
  }

  void Replace(const OverlapDecision& overlap, const RunRow& by, JobDecision& decision) {
    const std::string reason = fmt::format("run {} takes its place: {}", by.id, overlap.reason);
    for (const std::string& id : overlap.cancel) {
      decision.stops.push_back({id, RunStop::kCancel, reason});
    }
    for (const std::string& id : overlap.terminate) {
      decision.stops.push_back({id, RunStop::kTerminate, reason});
    }
    for (const std::string& id : overlap.drop) Drop(id, reason, decision);
  }

  void Drop(const std::string& id, const std::string& reason, JobDecision& decision) {
    std::erase(overlap_.waiting, id);
    for (RunRow& run : decision.runs) {
      if (run.id == id) return Miss(run, reason);
    }
    for (const RunRow* run : waiting_) {
      if (run->id != id) continue;
      RunRow missed = *run;
      Miss(missed, reason);
      decision.changes.push_back({.row = std::move(missed),
                                  .expected_phase = run->phase,
                                  .expected_fence = run->fence,
                                  .what = "missed"});
    }
  }

  void Miss(RunRow& run, const std::string& reason) const {
    run.phase = RunPhase::kOver;
    run.state = v1::RUN_STATE_MISSED;
    run.reason = reason;
    run.finished_at = now_;
  }

  const JobFacts& facts_;
  const v1::JobSpec& spec_;
  const Schedule& schedule_;
  const absl::Duration patience_;
  const absl::Time now_;
  OverlapFacts overlap_;
  std::vector<const RunRow*> waiting_;
};

struct Decided {
  absl::Time until;
  absl::Time next_look;
};

// The slots of `spec` up to `until`.
StatusOr<Decided> DecideSlots(const JobFacts& facts, const v1::JobSpec& spec, absl::Time from,
                              absl::Time until, std::vector<Pause> pauses, JobDecision& decision) {
  MUSTER_ASSIGN_OR_RETURN(std::optional<Schedule> schedule, ScheduleOf(spec));
  if (!schedule.has_value()) return Decided{until, absl::InfiniteFuture()};
  const absl::Duration patience = std::max(schedule->catch_up, kPromptness);
  if (spec.has_reported()) Expect(*schedule);
  const ScheduleFacts slots{.job = facts.name,
                            .schedule = *std::move(schedule),
                            .decided_until = from,
                            .pauses = std::move(pauses)};
  DuePlan due = Due(slots, until);
  LeaveOut(slots.schedule.times, facts.decided, due);
  Planner(facts, spec, slots.schedule, patience, until).Take(due, decision);
  return Decided{due.decided_until, due.next_look};
}

}  // namespace

StatusOr<JobPlan> PlanJob(const JobFacts& facts, absl::Time now) {
  JobDecision decision;
  const bool known = facts.row.has_value();
  const absl::Time changed_at = std::min(facts.changed_at, now);
  decision.row = known ? *facts.row : JobRow{.name = facts.name, .decided_until = changed_at};
  if (known) decision.expected_until = facts.row->decided_until;
  absl::Time next_look = now;
  if (known && facts.row->generation != facts.generation) {
    const absl::Time edited = std::max(changed_at, facts.row->decided_until);
    MUSTER_ASSIGN_OR_RETURN(const Decided before,
                            DecideSlots(facts, facts.row->spec, facts.row->decided_until, edited,
                                        PausesUntil(facts.row->pauses, edited), decision));
    const bool all = before.next_look > edited || before.until >= edited;
    decision.row.decided_until = all ? edited : before.until;
    if (all) {
      decision.row.spec = facts.spec;
      decision.row.generation = facts.generation;
    }
    return JobPlan{std::move(decision), now};
  }
  decision.row.spec = facts.spec;
  decision.row.generation = facts.generation;
  MUSTER_ASSIGN_OR_RETURN(
      const Decided decided,
      DecideSlots(facts, facts.spec, decision.row.decided_until, now,
                  PausesUntil(decision.row.pauses, absl::InfiniteFuture()), decision));
  next_look = decided.next_look;
  decision.row.decided_until = decided.until;
  const bool nothing = known && decision.runs.empty() && decision.missed.empty() &&
                       facts.row->spec.has_schedule() == facts.spec.has_schedule();
  if (nothing) return JobPlan{std::nullopt, next_look};
  return JobPlan{std::move(decision), next_look};
}

}  // namespace muster::control
