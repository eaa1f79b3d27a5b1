#include "control-plane/decide/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::Time At(std::string_view text) { return *ParseTime(text); }

CronTimes Times(std::string_view text, std::string_view zone = "UTC") {
  return {*Cron::Parse(text), *LoadZone(zone)};
}

ScheduleFacts Facts(Timetable times, absl::Time decided_until) {
  return {.job = "orders-nightly",
          .schedule = {.times = std::move(times)},
          .decided_until = decided_until};
}

std::vector<absl::Time> SlotsOf(const std::vector<DueRun>& runs) {
  std::vector<absl::Time> out;
  for (const DueRun& run : runs) out.push_back(run.slot);
  return out;
}

const absl::Time kNoon = At("2026-06-01T12:00:00Z");

// --- Timetables ---

TEST(Timetable, OfAPeriodKeepsItsPhaseWhateverIsAsked) {
  const Timetable times = Every{absl::Minutes(7), At("2026-01-01T00:00:03Z")};
  const absl::Time slot = *NextSlot(times, kNoon);
  EXPECT_EQ((slot - At("2026-01-01T00:00:03Z")) % absl::Minutes(7), absl::ZeroDuration());
  EXPECT_EQ(NextSlot(times, slot - absl::Nanoseconds(1)), slot);
  EXPECT_EQ(NextSlot(times, slot), slot + absl::Minutes(7));
  EXPECT_EQ(PreviousSlot(times, slot), slot - absl::Minutes(7));
  EXPECT_EQ(PreviousSlot(times, slot + absl::Nanoseconds(1)), slot);
  EXPECT_EQ(CountSlots(times, slot, slot + absl::Minutes(70)), 10);
  // Its first slot is its anchor.
  EXPECT_EQ(NextSlot(times, absl::InfinitePast()), At("2026-01-01T00:00:03Z"));
  EXPECT_EQ(PreviousSlot(times, At("2026-01-01T00:00:03Z")), std::nullopt);
}

TEST(Timetable, OfAPeriodKnowsNothingOfClocksThatChange) {
  const Timetable times = Every{absl::Hours(6)};
  EXPECT_EQ(CountSlots(times, At("2026-03-28T00:00:00Z"), At("2026-03-30T00:00:00Z")), 8);
}

TEST(Timetable, OfOneMomentComesOnce) {
  const Timetable times = Once{kNoon};
  EXPECT_EQ(NextSlot(times, kNoon - absl::Hours(1)), kNoon);
  EXPECT_EQ(NextSlot(times, kNoon), std::nullopt);
  EXPECT_EQ(PreviousSlot(times, kNoon), std::nullopt);
  EXPECT_EQ(PreviousSlot(times, kNoon + absl::Seconds(1)), kNoon);
  EXPECT_EQ(CountSlots(times, kNoon - absl::Hours(1), kNoon), 1);
}

TEST(Timetable, NeverAnswersWithSomethingInfinite) {
  const Timetable all[] = {Times("@daily"), Every{absl::Hours(1)}, Every{absl::ZeroDuration()},
                           Once{kNoon}, Once{absl::InfiniteFuture()}};
  for (const Timetable& times : all) {
    EXPECT_EQ(NextSlot(times, absl::InfiniteFuture()), std::nullopt) << times.index();
    EXPECT_EQ(PreviousSlot(times, absl::InfinitePast()), std::nullopt) << times.index();
  }
  EXPECT_EQ(NextSlot(Every{absl::ZeroDuration()}, kNoon), std::nullopt);
}

// --- Blackouts ---

TEST(Blackouts, HoldFromTheirBeginningToJustBeforeTheirEnd) {
  const std::vector<Blackout> windows = {
      {"office", Times("0 8 * * MON-FRI", "Europe/Berlin"), absl::Hours(10)},
      {"launch", Once{At("2026-06-01T15:00:00Z")}, absl::Hours(4)}};
  EXPECT_FALSE(BlackoutAt(windows, At("2026-06-01T05:59:59Z")).has_value());
  EXPECT_EQ(BlackoutAt(windows, At("2026-06-01T06:00:00Z"))->name, "office");
  EXPECT_EQ(BlackoutAt(windows, At("2026-06-01T15:30:00Z"))->name, "launch");
  EXPECT_FALSE(BlackoutAt(windows, At("2026-06-01T19:00:00Z")).has_value());
  EXPECT_EQ(FirstOpen(windows, At("2026-06-01T07:00:00Z")), At("2026-06-01T19:00:00Z"));
  EXPECT_EQ(FirstOpen(windows, At("2026-06-01T05:00:00Z")), At("2026-06-01T05:00:00Z"));
  EXPECT_EQ(NextBlackout(windows, At("2026-06-01T06:00:00Z")), At("2026-06-01T15:00:00Z"));
  EXPECT_EQ(FirstOpen({{"always", Times("@daily"), absl::Hours(24)}}, kNoon),
            absl::InfiniteFuture());
}

// --- What is due ---

TEST(Due, ASlotBecomesOneRunWithAnIdOfJobAndSlot) {
  const ScheduleFacts facts =
      Facts(Times("0 2 * * *", "Europe/Berlin"), At("2026-06-01T23:00:00Z"));
  const absl::Time slot = At("2026-06-02T00:00:00Z");
  EXPECT_THAT(Due(facts, slot - absl::Nanoseconds(1)).runs, IsEmpty());
  EXPECT_EQ(Due(facts, slot - absl::Nanoseconds(1)).next_look, slot);
  const DuePlan plan = Due(facts, slot);
  ASSERT_THAT(plan.runs, SizeIs(1));
  EXPECT_EQ(plan.runs[0].id, RunId("orders-nightly", slot));
  EXPECT_EQ(plan.runs[0].start_at, slot);
  EXPECT_EQ(plan.runs[0].start_by, slot + absl::Hours(1));
  EXPECT_THAT(plan.missed, IsEmpty());
  EXPECT_EQ(plan.decided_until, slot);
  EXPECT_EQ(plan.next_look, slot + absl::Hours(24));
}

TEST(Due, IdsAreUuidsOfVersion5AndFixedForEver) {
  const std::string id = RunId("orders-nightly", At("2026-06-02T00:00:00Z"));
  EXPECT_EQ(id, "905acf06-9573-5cf1-b0ef-cbf1cde85f99");
  EXPECT_EQ(id[14], '5');
  EXPECT_NE(id, RunId("orders-nightly", At("2026-06-02T00:00:01Z")));
  EXPECT_NE(id, RunId("orders-weekly", At("2026-06-02T00:00:00Z")));
}

TEST(Due, AClockThatWasSetBackMakesNothingTwice) {
  ScheduleFacts facts = Facts(Every{absl::Minutes(1)}, kNoon);
  facts.decided_until = Due(facts, kNoon + absl::Minutes(5)).decided_until;
  const DuePlan plan = Due(facts, kNoon + absl::Minutes(2));
  EXPECT_THAT(plan.runs, IsEmpty());
  EXPECT_THAT(plan.missed, IsEmpty());
  EXPECT_EQ(plan.decided_until, kNoon + absl::Minutes(5));
}

TEST(Due, AChangeOfLeaderCostsNoSlotEvenWithoutCatchUp) {
  ScheduleFacts facts = Facts(Times("@hourly"), kNoon);
  facts.schedule.catch_up = absl::ZeroDuration();
  EXPECT_THAT(Due(facts, kNoon + absl::Minutes(61)).runs, SizeIs(1));
  const DuePlan late = Due(facts, kNoon + absl::Minutes(61) + absl::Seconds(1));
  EXPECT_THAT(late.runs, IsEmpty());
  ASSERT_THAT(late.missed, SizeIs(1));
  EXPECT_EQ(late.missed[0].reason, MissedReason::kOutage);
}

TEST(Due, CatchUpRunsTheNewestSlotAndSaysWhatItStandsFor) {
  ScheduleFacts facts = Facts(Times("@hourly"), kNoon);
  facts.schedule.catch_up = absl::Hours(6);
  const DuePlan plan = Due(facts, kNoon + absl::Hours(24) + absl::Minutes(30));
  EXPECT_THAT(SlotsOf(plan.runs), ElementsAre(kNoon + absl::Hours(24)));
  ASSERT_THAT(plan.missed, SizeIs(2));
  EXPECT_EQ(plan.missed[0].reason, MissedReason::kOutage);
  EXPECT_EQ(plan.missed[0].first, kNoon + absl::Hours(1));
  EXPECT_EQ(plan.missed[0].last, kNoon + absl::Hours(18));
  EXPECT_EQ(plan.missed[0].count, 18);
  EXPECT_THAT(plan.missed[0].why, HasSubstr("catch-up reaches back 6h"));
  EXPECT_EQ(plan.missed[1].reason, MissedReason::kSuperseded);
  EXPECT_EQ(plan.missed[1].count, 5);
  EXPECT_THAT(plan.missed[1].why, HasSubstr("overlap is skip"));
}

TEST(Due, EachSlotIsCaughtUpWhereOverlapTakesThemAll) {
  for (const Overlap overlap : {Overlap::kAllow, Overlap::kBufferAll}) {
    ScheduleFacts facts = Facts(Every{absl::Minutes(1)}, kNoon);
    facts.schedule.overlap = overlap;
    facts.schedule.catch_up = absl::Hours(6);
    const absl::Time now = kNoon + absl::Minutes(250);
    std::set<absl::Time> slots;
    for (const size_t expected : {100U, 100U, 50U}) {
      const DuePlan plan = Due(facts, now);
      EXPECT_THAT(plan.runs, SizeIs(expected));
      EXPECT_EQ(plan.next_look, expected == 100 ? now : kNoon + absl::Minutes(251));
      for (const DueRun& run : plan.runs) slots.insert(run.slot);
      facts.decided_until = plan.decided_until;
    }
    EXPECT_THAT(slots, SizeIs(250));
  }
}

TEST(Due, ThirtyDaysOfOutageOfAMinutesJobAreOneRecord) {
  const Timetable minutely[] = {Times("* * * * *", "Europe/Berlin"), Every{absl::Minutes(1)}};
  for (const Timetable& times : minutely) {
    const DuePlan plan = Due(Facts(times, kNoon), kNoon + absl::Hours(30 * 24));
    ASSERT_THAT(plan.missed, SizeIs(2));
    EXPECT_EQ(plan.missed[0].count, 30 * 24 * 60 - 61);
    EXPECT_EQ(plan.missed[1].count, 60);
    EXPECT_THAT(plan.runs, SizeIs(1));
    EXPECT_EQ(plan.decided_until, kNoon + absl::Hours(30 * 24));
  }
}

// Walked, these would be 3 · 10^12 slots.
TEST(Due, WhatWasMissedIsCountedAndNotWalked) {
  const Timetable secondly[] = {Times("* * * * * *", "Europe/Berlin"), Every{absl::Seconds(1)}};
  for (int i = 0; i < 1000; ++i) {
    for (const Timetable& times : secondly) {
      const absl::Duration outage = absl::Hours(24 * 365 * 50 + i);
      const DuePlan plan = Due(Facts(times, kNoon - outage), kNoon);
      ASSERT_EQ(plan.missed[0].count, outage / absl::Seconds(1) - 3601);
    }
  }
}

TEST(Due, WhatAPauseCostIsSaidWhenItIsOver) {
  ScheduleFacts facts = Facts(Every{absl::Minutes(1)}, kNoon);
  facts.pauses = {{.since = kNoon + absl::Minutes(10)}};
  DuePlan plan = Due(facts, kNoon + absl::Hours(24 * 30));
  EXPECT_EQ(plan.next_look, absl::InfiniteFuture());
  EXPECT_EQ(plan.decided_until, kNoon + absl::Minutes(10) - absl::Nanoseconds(1));
  facts.decided_until = plan.decided_until;
  facts.pauses[0].until = kNoon + absl::Hours(24 * 30);
  plan = Due(facts, kNoon + absl::Hours(24 * 30));
  ASSERT_THAT(plan.missed, SizeIs(1));
  EXPECT_EQ(plan.missed[0].reason, MissedReason::kPaused);
  EXPECT_EQ(plan.missed[0].count, 30 * 24 * 60 - 10);
  EXPECT_THAT(plan.missed[0].why, HasSubstr("paused from 2026-06-01T12:10:00Z to"));
  EXPECT_THAT(SlotsOf(plan.runs), ElementsAre(kNoon + absl::Hours(24 * 30)));
}

TEST(Due, ASlotInABlackoutIsMissedAndSaysInWhich) {
  ScheduleFacts facts = Facts(Times("0 * * * *"), kNoon);
  facts.schedule.overlap = Overlap::kAllow;
  facts.schedule.catch_up = absl::Hours(24);
  facts.schedule.blackouts = {
      {"launch", Once{kNoon + absl::Minutes(90)}, absl::Minutes(150)}};  // 13:30 to 16:00
  const DuePlan plan = Due(facts, kNoon + absl::Hours(5));
  EXPECT_THAT(SlotsOf(plan.runs),
              ElementsAre(kNoon + absl::Hours(1), kNoon + absl::Hours(4), kNoon + absl::Hours(5)));
  ASSERT_THAT(plan.missed, SizeIs(1));
  EXPECT_EQ(plan.missed[0].count, 2);
  EXPECT_EQ(plan.missed[0].why, "blackout launch until 2026-06-01T16:00:00Z");
}

TEST(Due, CatchingUpWaitsForTheEndOfABlackoutOrMisses) {
  ScheduleFacts facts = Facts(Times("0 12 * * *"), kNoon - absl::Hours(1));
  facts.schedule.blackouts = {{"launch", Once{kNoon + absl::Minutes(5)}, absl::Minutes(30)}};
  DuePlan plan = Due(facts, kNoon + absl::Minutes(10));
  ASSERT_THAT(plan.runs, SizeIs(1));
  EXPECT_EQ(plan.runs[0].start_at, kNoon + absl::Minutes(35));
  facts.schedule.blackouts[0].lasts = absl::Hours(2);
  plan = Due(facts, kNoon + absl::Minutes(10));
  EXPECT_THAT(plan.runs, IsEmpty());
  ASSERT_THAT(plan.missed, SizeIs(1));
  EXPECT_EQ(plan.missed[0].reason, MissedReason::kBlackout);
}

TEST(Due, JitterMovesNoStartIntoABlackout) {
  ScheduleFacts facts = Facts(Times("0 12 * * *"), kNoon - absl::Hours(1));
  facts.schedule.jitter = absl::Hours(3);
  facts.schedule.blackouts = {{"launch", Once{kNoon + absl::Milliseconds(1)}, absl::Hours(4)}};
  EXPECT_EQ(Due(facts, kNoon).runs.at(0).start_at, kNoon);
}

TEST(Jitter, StaysWithinItsBoundAndIsTheSameAgain) {
  Schedule schedule = {.times = Times("@hourly"), .jitter = absl::Minutes(10)};
  std::set<absl::Duration> draws;
  absl::Duration least = absl::Hours(1), most = absl::ZeroDuration();
  for (int i = 0; i < 2000; ++i) {
    const std::string job = fmt::format("job-{}", i);
    const absl::Duration draw = JitterOf(job, kNoon, schedule);
    EXPECT_EQ(draw, JitterOf(job, kNoon + absl::Hours(i), schedule));
    ASSERT_GE(draw, absl::ZeroDuration());
    ASSERT_LT(draw, schedule.jitter);
    draws.insert(draw);
    least = std::min(least, draw);
    most = std::max(most, draw);
  }
  EXPECT_GT(draws.size(), 1900U);
  EXPECT_LT(least, absl::Seconds(5));
  EXPECT_GT(most, absl::Minutes(10) - absl::Seconds(5));
  schedule.jitter_per = JitterPer::kSlot;
  EXPECT_EQ(JitterOf("a", kNoon, schedule), JitterOf("a", kNoon, schedule));
  EXPECT_NE(JitterOf("a", kNoon, schedule), JitterOf("a", kNoon + absl::Hours(1), schedule));
  schedule.jitter = absl::ZeroDuration();
  EXPECT_EQ(JitterOf("a", kNoon, schedule), absl::ZeroDuration());
}

TEST(Missed, RecordsThatGoOnBecomeOne) {
  const Timetable times = Every{absl::Minutes(1)};
  const Missed first = {kNoon, kNoon + absl::Minutes(4), 5, MissedReason::kBlackout, "x"};
  Missed next = {kNoon + absl::Minutes(5), kNoon + absl::Minutes(5), 1, MissedReason::kBlackout,
                 "y"};
  const Missed both = {kNoon, kNoon + absl::Minutes(5), 6, MissedReason::kBlackout, "y"};
  EXPECT_EQ(Joined(times, first, next), both);
  next.reason = MissedReason::kOutage;
  EXPECT_EQ(Joined(times, first, next), std::nullopt);
  next.reason = MissedReason::kBlackout;
  next.first += absl::Minutes(1);
  EXPECT_EQ(Joined(times, first, next), std::nullopt);
}

TEST(NextRuns, TellTheNextFiveAndWhatIsInTheWay) {
  ScheduleFacts facts = Facts(Times("0 2 * * *", "Europe/Berlin"), kNoon);
  facts.pauses = {{At("2026-06-03T00:00:00Z"), At("2026-06-03T12:00:00Z")}};
  facts.schedule.blackouts = {{"launch", Once{At("2026-06-03T22:00:00Z")}, absl::Hours(8)}};
  const auto next = NextRuns(facts, kNoon, 5);
  ASSERT_THAT(next, SizeIs(5));
  EXPECT_EQ(next[0].slot, At("2026-06-02T00:00:00Z"));
  EXPECT_EQ(next[0].missed, std::nullopt);
  EXPECT_EQ(next[1].missed, MissedReason::kPaused);
  EXPECT_EQ(next[2].missed, MissedReason::kBlackout);
  EXPECT_THAT(next[2].why, HasSubstr("launch"));
  EXPECT_EQ(next[4].slot, At("2026-06-06T00:00:00Z"));
  EXPECT_THAT(NextRuns(facts, kNoon, 1'000'000), SizeIs(kMostUpcoming));
}

TEST(Backfill, GivesTheSlotsOfASpanTheIdsThatTheyHaveAnyway) {
  ScheduleFacts facts = Facts(Times("@hourly"), kNoon);
  const auto runs = Backfill(facts, kNoon - absl::Hours(3), kNoon, kNoon);
  ASSERT_TRUE(runs.ok());
  EXPECT_THAT(SlotsOf(*runs),
              ElementsAre(kNoon - absl::Hours(3), kNoon - absl::Hours(2), kNoon - absl::Hours(1)));
  EXPECT_EQ(runs->front().id, RunId(facts.job, kNoon - absl::Hours(3)));
  EXPECT_EQ(runs->front().start_at, kNoon);
}

TEST(Backfill, RefusesTheFutureAndMoreThanItMay) {
  ScheduleFacts facts = Facts(Times("* * * * *"), kNoon);
  const auto future = Backfill(facts, kNoon, kNoon + absl::Minutes(1), kNoon);
  EXPECT_THAT(std::string(Message(future.status())), HasSubstr("is still to come"));
  const auto much = Backfill(facts, kNoon - absl::Hours(24 * 365), kNoon, kNoon);
  EXPECT_EQ(much.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(much.status())), HasSubstr("525600 slots, of which 1000 may"));
}

TEST(CheckSchedule, NamesWhatIsWrongAndWhatToWrite) {
  const auto says = [](Schedule schedule) {
    return std::string(Message(CheckSchedule(schedule, kNoon)));
  };
  EXPECT_EQ(says({.times = Times("@daily"), .jitter = absl::Hours(24)}), "");
  EXPECT_THAT(says({.times = Every{absl::Milliseconds(10)}}), HasSubstr("write 1s or more"));
  EXPECT_THAT(says({.times = Times("*/5 * * * *"), .jitter = absl::Minutes(10)}),
              HasSubstr("jitter: 10m reaches past the next slot"));
  EXPECT_THAT(says({.times = Times("@daily"), .jitter = -absl::Hours(1)}), HasSubstr("jitter"));
  EXPECT_THAT(says({.times = Times("@daily"), .catch_up = -absl::Hours(1)}), HasSubstr("catchUp"));
  EXPECT_THAT(says({.times = Times("@daily"),
                    .blackouts = {{"freeze", Once{kNoon}, absl::ZeroDuration()}}}),
              HasSubstr("blackout freeze: lasts no time"));
  EXPECT_THAT(
      says({.times = Times("@daily"), .blackouts = {{"always", Times("@daily"), absl::Hours(25)}}}),
      HasSubstr("without a break"));
}

// --- Laws ---

class ScheduleLaws : public ::testing::Test {
 protected:
  uint64_t Below(uint64_t bound) { return random_->Below(bound); }
  absl::Duration Upto(absl::Duration bound) { return random_->Below(bound); }

  Timetable SomeTimes() {
    const char* texts[] = {"*/7 * * * *", "30 2 * * *", "0 */3 * * *", "*/20 1-3 * * SUN"};
    const char* zones[] = {"UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe"};
    switch (Below(4)) {
      case 0: return Every{absl::Minutes(1 + static_cast<int64_t>(Below(90))), start_};
      case 1: return Once{start_ + Upto(absl::Hours(72))};
      default: return Times(texts[Below(4)], zones[Below(4)]);
    }
  }

  ScheduleFacts SomeFacts() {
    start_ = At("2026-10-22T00:00:00Z") + Upto(absl::Hours(12 * 24));
    ScheduleFacts facts = Facts(SomeTimes(), start_);
    facts.schedule.overlap = static_cast<Overlap>(Below(6));
    facts.schedule.catch_up = Upto(absl::Hours(12));
    facts.schedule.jitter = Upto(absl::Minutes(5));
    facts.schedule.jitter_per = Below(2) == 0 ? JitterPer::kJob : JitterPer::kSlot;
    for (uint64_t i = Below(3); i > 0; --i) {
      const absl::Time begin = start_ + Upto(absl::Hours(120));
      facts.pauses.push_back({begin, begin + Upto(absl::Hours(20))});
    }
    if (Below(2) == 0) {
      facts.schedule.blackouts.push_back({"nightly", Times("0 1 * * *"), Upto(absl::Hours(3))});
    }
    if (Below(2) == 0) {
      facts.schedule.blackouts.push_back(
          {"launch", Once{start_ + Upto(absl::Hours(100))}, Upto(absl::Hours(30))});
    }
    return facts;
  }

  bool Paused(const ScheduleFacts& facts, absl::Time at) {
    return std::any_of(facts.pauses.begin(), facts.pauses.end(),
                       [&](const Pause& p) { return at >= p.since && at < p.until; });
  }

  void CheckRun(const ScheduleFacts& facts, const DueRun& run, absl::Time now) {
    ASSERT_EQ(run.id, RunId(facts.job, run.slot));
    ASSERT_LE(run.slot, now);
    ASSERT_LE(now - run.slot, std::max(facts.schedule.catch_up, kPromptness));
    ASSERT_FALSE(Paused(facts, run.slot));
    ASSERT_FALSE(BlackoutAt(facts.schedule.blackouts, run.slot).has_value());
    const absl::Time begins = std::max(run.start_at, now);
    ASSERT_FALSE(run.start_at >= now && BlackoutAt(facts.schedule.blackouts, begins).has_value());
    ASSERT_GE(run.start_at, run.slot);
    ASSERT_LE(run.start_at, run.start_by);
    const bool held_back = run.start_at >= run.slot + std::max(facts.schedule.jitter, kPromptness);
    ASSERT_TRUE(!held_back || BlackoutAt(facts.schedule.blackouts, now).has_value());
  }

  std::unique_ptr<Random> random_ = SeededRandom(kSeed);
  absl::Time start_;
  static constexpr uint64_t kSeed = 20261128;
};

// However often anybody looks, and however long nobody does: each slot is a run or missed, once.
TEST_F(ScheduleLaws, EverySlotIsDecidedOnceWithAReason) {
  std::map<std::string_view, int64_t> lots;  // so that none of them is missing from what was tried
  for (int round = 0; round < 400; ++round) {
    ScheduleFacts facts = SomeFacts();
    std::map<absl::Time, int> decided;
    absl::Time now = start_;
    const absl::Time end = start_ + absl::Hours(150);
    while (facts.decided_until < end) {
      const DuePlan plan = Due(facts, now);
      SCOPED_TRACE(fmt::format("seed {} round {} at {}", kSeed, round, TimeText(now)));
      ASSERT_GE(plan.decided_until, facts.decided_until);
      for (const DueRun& run : plan.runs) {
        CheckRun(facts, run, now);
        if (HasFatalFailure()) return;
        ++decided[run.slot];
        ++lots["run"];
      }
      for (const Missed& missed : plan.missed) {
        const auto slots = SlotsBetween(facts.schedule.times, missed.first - absl::Nanoseconds(1),
                                        missed.last, 1'000'000);
        ASSERT_EQ(static_cast<int64_t>(slots.size()), missed.count);
        ASSERT_EQ(slots.front(), missed.first);
        ASSERT_EQ(slots.back(), missed.last);
        ASSERT_FALSE(missed.why.empty());
        lots[MissedText(missed.reason)] += missed.count;
        for (const absl::Time slot : slots) ++decided[slot];
      }
      facts.decided_until = plan.decided_until;
      if (plan.next_look > now) {
        const absl::Duration step = Below(4) == 0 ? absl::Hours(40) : absl::Minutes(20);
        now = std::min(end, now + Upto(step) + absl::Seconds(1));
      }
      if (now == end && plan.next_look > now && plan.decided_until < end)
        break;  // paused for longer
    }
    std::map<absl::Time, int> expected;
    for (const absl::Time slot :
         SlotsBetween(facts.schedule.times, start_, facts.decided_until, 1'000'000)) {
      expected[slot] = 1;
    }
    ASSERT_EQ(decided, expected) << "seed " << kSeed << " round " << round;
  }
  for (const char* lot : {"run", "paused", "outage", "blackout", "superseded"}) {
    EXPECT_GT(lots[lot], 1000) << lot;
  }
}

// Of slots that have runs already nothing is decided; of all others, what was.
TEST_F(ScheduleLaws, WhatIsLeftOutIsNotDecidedAndTheRestIs) {
  const auto walk = [](const Timetable& times, const DuePlan& plan, auto&& take) {
    for (const DueRun& run : plan.runs) take(run.slot, std::string("run"));
    for (const Missed& missed : plan.missed) {
      const auto slots =
          SlotsBetween(times, missed.first - absl::Microseconds(1), missed.last, 1'000'000);
      ASSERT_EQ(slots.size(), missed.count);
      ASSERT_EQ(slots.front(), missed.first);
      ASSERT_EQ(slots.back(), missed.last);
      for (const absl::Time slot : slots) take(slot, missed.why);
    }
  };
  int left_out = 0;
  for (int round = 0; round < 400; ++round) {
    const ScheduleFacts facts = SomeFacts();
    DuePlan plan = Due(facts, start_ + Upto(absl::Hours(30)));
    std::map<absl::Time, std::string> expected;
    walk(facts.schedule.times, plan,
         [&](absl::Time slot, std::string why) { expected[slot] = std::move(why); });
    std::vector<absl::Time> decided;
    for (auto slot = expected.begin(); slot != expected.end();) {
      if (Below(8) == 0) decided.push_back(slot->first + absl::Microseconds(1));  // no slot
      if (Below(3) != 0) {
        ++slot;
        continue;
      }
      decided.push_back(slot->first);
      slot = expected.erase(slot);
      ++left_out;
    }
    std::sort(decided.begin(), decided.end());
    LeaveOut(facts.schedule.times, decided, plan);
    std::map<absl::Time, std::string> found;
    walk(facts.schedule.times, plan, [&](absl::Time slot, std::string why) {
      ASSERT_TRUE(found.emplace(slot, std::move(why)).second);
    });
    ASSERT_EQ(found, expected) << "seed " << kSeed << " round " << round;
  }
  EXPECT_GT(left_out, 1000);
}

// Nothing comes due before next_look says so.
TEST_F(ScheduleLaws, NothingIsDueBeforeTheNextLook) {
  for (int round = 0; round < 400; ++round) {
    ScheduleFacts facts = SomeFacts();
    const absl::Time now = start_ + Upto(absl::Hours(100));
    DuePlan plan = Due(facts, now);
    while (plan.next_look <= now) {
      facts.decided_until = plan.decided_until;
      plan = Due(facts, now);
    }
    facts.decided_until = plan.decided_until;
    if (plan.next_look == absl::InfiniteFuture()) continue;
    const DuePlan before = Due(facts, plan.next_look - absl::Nanoseconds(1));
    ASSERT_TRUE(before.runs.empty() && before.missed.empty()) << "seed " << kSeed << " " << round;
    facts.pauses.clear();
    facts.schedule.catch_up = absl::Hours(1000);
    const DuePlan at = Due(facts, plan.next_look);
    ASSERT_FALSE(at.runs.empty() && at.missed.empty() && at.decided_until < plan.next_look);
  }
}

}  // namespace
}  // namespace muster::control
