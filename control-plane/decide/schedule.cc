#include "control-plane/decide/schedule.h"

#include <algorithm>

#include "lib/base/hash.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr absl::Duration kInstant = absl::Nanoseconds(1);
constexpr size_t kMostPieces = 256;  // of one plan
constexpr size_t kCheckedSlots = 100;

absl::Duration Patience(const Schedule& schedule) {
  return std::max(schedule.catch_up, kPromptness);
}

// Slots in a row that share their lot: all from `first` to `last`, both included.
struct Piece {
  absl::Time last;
  std::optional<MissedReason> reason;  // none: runs
  std::string why;
};

const Pause* PauseAt(const std::vector<Pause>& pauses, absl::Time at) {
  const Pause* found = nullptr;
  for (const Pause& pause : pauses) {
    if (at < pause.since || at >= pause.until) continue;
    if (found == nullptr || pause.until > found->until) found = &pause;
  }
  return found;
}

absl::Time NextPause(const std::vector<Pause>& pauses, absl::Time after) {
  absl::Time next = absl::InfiniteFuture();
  for (const Pause& pause : pauses) {
    if (pause.since > after) next = std::min(next, pause.since);
  }
  return next;
}

Piece PausedPiece(const Pause& pause, absl::Time now) {
  const std::string end = pause.until == absl::InfiniteFuture()
                              ? "on, until it is resumed"
                              : fmt::format("to {}", TimeText(pause.until));
  return {std::min(now, pause.until - kInstant), MissedReason::kPaused,
          fmt::format("paused from {} {}", TimeText(pause.since), end)};
}

// What becomes of `first`, which lies in no pause, and how far the same holds.
Piece PieceAt(const ScheduleFacts& facts, absl::Time first, absl::Time now) {
  const Schedule& schedule = facts.schedule;
  const absl::Time last = std::min(now, NextPause(facts.pauses, first) - kInstant);
  const absl::Time reached = now - Patience(schedule);
  if (first < reached) {
    return {std::min(last, reached - kInstant), MissedReason::kOutage,
            fmt::format("not scheduled by {}; catch-up reaches back {}", TimeText(now),
                        ShortDuration(Patience(schedule)))};
  }
  if (const auto window = BlackoutAt(schedule.blackouts, first)) {
    return {std::min(last, window->end - kInstant), MissedReason::kBlackout,
            fmt::format("blackout {} until {}", window->name, TimeText(window->end))};
  }
  return {std::min(last, NextBlackout(schedule.blackouts, first) - kInstant), std::nullopt, ""};
}

// The slot's run as of `now`, or nothing if windows keep it from starting in time.
std::optional<DueRun> ToRun(const ScheduleFacts& facts, absl::Time slot, absl::Time now) {
  const Schedule& schedule = facts.schedule;
  const absl::Time start_by = slot + schedule.jitter + Patience(schedule);
  absl::Time start_at = slot + JitterOf(facts.job, slot, schedule);
  // Jitter moves no start into a window.
  if (BlackoutAt(schedule.blackouts, start_at)) start_at = slot;
  if (start_at < now && BlackoutAt(schedule.blackouts, now)) {
    start_at = FirstOpen(schedule.blackouts, now);
  }
  if (start_at > start_by) return std::nullopt;
  return DueRun{RunId(facts.job, slot), slot, start_at, start_by};
}

class Planner {
 public:
  Planner(const ScheduleFacts& facts, absl::Time now)
      : facts_(facts), times_(facts.schedule.times), now_(now) {
    plan_.decided_until = facts.decided_until;
  }

  DuePlan Plan() {
    std::optional<absl::Time> first;
    size_t pieces = 0;
    while ((first = NextSlot(times_, plan_.decided_until)) && *first <= now_) {
      const Pause* pause = PauseAt(facts_.pauses, *first);
      if (pause != nullptr && pause->until > now_) return Finish(pause->until);
      if (++pieces > kMostPieces || plan_.runs.size() >= kMostRuns) return Finish(now_);
      Take(*first, pause != nullptr ? PausedPiece(*pause, now_) : PieceAt(facts_, *first, now_));
    }
    plan_.decided_until = std::max(plan_.decided_until, now_);
    return Finish(first.value_or(absl::InfiniteFuture()));
  }

 private:
  // Slots of which one at most becomes a run: the newest, if nothing newer is due either.
  struct Open {
    absl::Time first;
    absl::Time newest;
  };

  void Take(absl::Time first, const Piece& piece) {
    const absl::Time after = plan_.decided_until;
    plan_.decided_until = piece.last;
    const auto last = PreviousSlot(times_, piece.last + kInstant);
    if (piece.reason) {
      Miss(first, *last, *piece.reason, piece.why);
    } else if (KeepsNewest(facts_.schedule.overlap)) {
      if (open_) Supersede(open_->first, open_->newest);
      open_ = Open{first, *last};
    } else {
      const auto slots = SlotsBetween(times_, after, piece.last, kMostRuns - plan_.runs.size());
      for (const absl::Time slot : slots) Run(slot);
      plan_.decided_until = slots.back() == *last ? piece.last : slots.back();
    }
  }

  DuePlan Finish(absl::Time next_look) {
    if (open_) {
      if (open_->first < open_->newest) {
        Supersede(open_->first, *PreviousSlot(times_, open_->newest));
      }
      Run(open_->newest);
    }
    std::sort(plan_.missed.begin(), plan_.missed.end(),
              [](const Missed& a, const Missed& b) { return a.first < b.first; });
    plan_.next_look = next_look;
    return std::move(plan_);
  }

  void Run(absl::Time slot) {
    if (auto run = ToRun(facts_, slot, now_)) {
      plan_.runs.push_back(*std::move(run));
    } else {
      Miss(slot, slot, MissedReason::kBlackout,
           fmt::format("blackout windows at {} last longer than it may wait", TimeText(now_)));
    }
  }

  void Supersede(absl::Time first, absl::Time last) {
    Miss(first, last, MissedReason::kSuperseded,
         fmt::format("a newer slot was due too, and overlap is {}",
                     OverlapText(facts_.schedule.overlap)));
  }

  void Miss(absl::Time first, absl::Time last, MissedReason reason, std::string why) {
    const int64_t count = CountSlots(times_, first - kInstant, last);
    Missed missed = {first, last, count, reason, std::move(why)};
    if (!plan_.missed.empty()) {
      if (auto joined = Joined(times_, plan_.missed.back(), missed)) {
        plan_.missed.back() = *std::move(joined);
        return;
      }
    }
    plan_.missed.push_back(std::move(missed));
  }

  const ScheduleFacts& facts_;
  const Timetable& times_;
  const absl::Time now_;
  DuePlan plan_;
  std::optional<Open> open_;
};

Status CheckJitter(const Schedule& schedule, absl::Time now) {
  if (schedule.jitter < absl::ZeroDuration()) {
    return InvalidArgument("jitter: less than nothing; write 0s or more");
  }
  const auto slots = SlotsBetween(schedule.times, now, absl::InfiniteFuture(), kCheckedSlots);
  for (size_t i = 1; i < slots.size(); ++i) {
    const absl::Duration distance = slots[i] - slots[i - 1];
    if (schedule.jitter <= distance) continue;
    return InvalidArgument(
        "jitter: {} reaches past the next slot, {} after that of {}; write {} or less",
        ShortDuration(schedule.jitter), ShortDuration(distance), TimeText(slots[i - 1]),
        ShortDuration(distance));
  }
  return OkStatus();
}

}  // namespace

Status CheckSchedule(const Schedule& schedule, absl::Time now) {
  const auto* every = std::get_if<Every>(&schedule.times);
  if (every != nullptr && every->period < absl::Seconds(1)) {
    return InvalidArgument("every: {} is too short; write 1s or more",
                           ShortDuration(every->period));
  }
  MUSTER_RETURN_IF_ERROR(CheckJitter(schedule, now));
  if (schedule.catch_up < absl::ZeroDuration()) {
    return InvalidArgument("catchUp: less than nothing; write 0s or more");
  }
  for (const Blackout& blackout : schedule.blackouts) {
    if (blackout.lasts > absl::ZeroDuration()) continue;
    return InvalidArgument("blackout {}: lasts no time; write how long", blackout.name);
  }
  if (FirstOpen(schedule.blackouts, now) == absl::InfiniteFuture()) {
    return InvalidArgument("blackouts: one follows the other without a break; nothing would start");
  }
  return OkStatus();
}

std::string_view MissedText(MissedReason reason) {
  switch (reason) {
    case MissedReason::kPaused: return "paused";
    case MissedReason::kOutage: return "outage";
    case MissedReason::kBlackout: return "blackout";
    case MissedReason::kSuperseded: return "superseded";
  }
  return "";
}

DuePlan Due(const ScheduleFacts& facts, absl::Time now) { return Planner(facts, now).Plan(); }

void LeaveOut(const Timetable& times, const std::vector<absl::Time>& decided, DuePlan& plan) {
  if (decided.empty()) return;
  const auto known = [&](absl::Time slot) {
    return std::binary_search(decided.begin(), decided.end(), slot);
  };
  std::erase_if(plan.runs, [&](const DueRun& run) { return known(run.slot); });
  std::vector<Missed> missed;
  for (Missed rest : plan.missed) {
    for (auto slot = std::lower_bound(decided.begin(), decided.end(), rest.first);
         slot != decided.end() && *slot <= rest.last; ++slot) {
      if (NextSlot(times, *slot - absl::Microseconds(1)) != *slot) continue;
      Missed before = rest;
      before.count =
          CountSlots(times, rest.first - absl::Microseconds(1), *slot - absl::Microseconds(1));
      if (before.count > 0) {
        before.last = *PreviousSlot(times, *slot);
        missed.push_back(before);
      }
      rest.count -= before.count + 1;
      if (rest.count <= 0) break;
      rest.first = *NextSlot(times, *slot);
    }
    if (rest.count > 0) missed.push_back(std::move(rest));
  }
  plan.missed = std::move(missed);
}

std::optional<Missed> Joined(const Timetable& times, const Missed& before, const Missed& next) {
  if (before.reason != next.reason) return std::nullopt;
  if (NextSlot(times, before.last) != next.first) return std::nullopt;
  return Missed{before.first, next.last, before.count + next.count, before.reason, next.why};
}

absl::Duration JitterOf(std::string_view job, absl::Time slot, const Schedule& schedule) {
  const std::string name = schedule.jitter_per == JitterPer::kJob
                               ? fmt::format("jitter/{}", job)
                               : fmt::format("jitter/{}@{}", job, absl::ToUnixMicros(slot));
  return NameDraw(name, schedule.jitter);
}

std::vector<Upcoming> NextRuns(const ScheduleFacts& facts, absl::Time after, size_t count) {
  std::vector<Upcoming> out;
  const auto slots = SlotsBetween(facts.schedule.times, after, absl::InfiniteFuture(),
                                  std::min(count, kMostUpcoming));
  for (const absl::Time slot : slots) {
    Upcoming one = {.slot = slot, .start_at = slot};
    const Pause* pause = PauseAt(facts.pauses, slot);
    const Piece piece = pause != nullptr ? PausedPiece(*pause, slot) : PieceAt(facts, slot, slot);
    one.missed = piece.reason;
    one.why = piece.why;
    if (const auto run = ToRun(facts, slot, slot); run && !one.missed) one.start_at = run->start_at;
    out.push_back(std::move(one));
  }
  return out;
}

StatusOr<std::vector<DueRun>> Backfill(const ScheduleFacts& facts, absl::Time from,
                                       absl::Time until, absl::Time now) {
  if (until > now) {
    return InvalidArgument("backfill of {}: {} is still to come; end at {} or earlier", facts.job,
                           TimeText(until), TimeText(now));
  }
  const Timetable& times = facts.schedule.times;
  const int64_t count = CountSlots(times, from - kInstant, until - kInstant);
  if (count > kMostBackfill) {
    return ResourceExhausted(
        "backfill of {}: {} slots, of which {} may be run at once; give a "
        "shorter span",
        facts.job, count, kMostBackfill);
  }
  const absl::Time start_at = FirstOpen(facts.schedule.blackouts, now);
  if (start_at == absl::InfiniteFuture()) {
    return FailedPrecondition("backfill of {}: blackouts follow one another without a break",
                              facts.job);
  }
  std::vector<DueRun> out;
  for (const absl::Time slot :
       SlotsBetween(times, from - kInstant, until - kInstant, static_cast<size_t>(kMostBackfill))) {
    out.push_back({RunId(facts.job, slot), slot, start_at, absl::InfiniteFuture()});
  }
  return out;
}

}  // namespace muster::control
