#include "lib/base/cron.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/base/zone.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Time At(std::string_view text) { return *ParseTime(text); }

absl::TimeZone Zone(std::string_view name) { return *LoadZone(name); }

Cron Parsed(std::string_view text) {
  StatusOr<Cron> cron = Cron::Parse(text);
  if (!cron.ok()) ADD_FAILURE() << Text(cron.status());
  return *std::move(cron);
}

std::string Refusal(std::string_view text) {
  const StatusOr<Cron> cron = Cron::Parse(text);
  EXPECT_FALSE(cron.ok()) << text;
  return cron.ok() ? "" : std::string(Message(cron.status()));
}

// The next `count` as the zone's clock reads them, with the offset.
std::vector<std::string> Readings(std::string_view text, std::string_view zone,
                                  std::string_view after, size_t count) {
  std::vector<std::string> out;
  for (const absl::Time at :
       Parsed(text).Between(At(after), absl::InfiniteFuture(), count, Zone(zone))) {
    out.push_back(absl::FormatTime("%Y-%m-%d %H:%M:%S %Ez", at, Zone(zone)));
  }
  return out;
}

std::vector<std::string> Days(std::string_view text, std::string_view after, size_t count) {
  std::vector<std::string> out = Readings(text, "UTC", after, count);
  for (std::string& reading : out) reading = reading.substr(0, 10);
  return out;
}

TEST(CronParse, ReadsNamesRangesStepsAndLists) {
  EXPECT_THAT(Readings("*/20 9-10 * * *", "UTC", "2026-01-01T09:30:00Z", 3),
              ElementsAre("2026-01-01 09:40:00 +00:00", "2026-01-01 10:00:00 +00:00",
                          "2026-01-01 10:20:00 +00:00"));
  EXPECT_THAT(Days("0 0 * jan,Dec mon-WED", "2026-01-01T00:00:00Z", 4),
              ElementsAre("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-12"));
  EXPECT_THAT(Readings("15,45 30 4 * * ?", "UTC", "2026-01-01T05:00:00Z", 2),
              ElementsAre("2026-01-02 04:30:15 +00:00", "2026-01-02 04:30:45 +00:00"));
  EXPECT_EQ(Days("0 0 * * 7", "2026-01-01T00:00:00Z", 2),
            Days("0 0 * * SUN", "2026-01-01T00:00:00Z", 2));
  EXPECT_EQ(Days("0 0 * * FRI-SUN", "2026-01-01T00:00:00Z", 9),
            Days("0 0 * * 5,6,0", "2026-01-01T00:00:00Z", 9));
  EXPECT_THAT(Days("0 0 5-20/5 * *", "2026-01-01T00:00:00Z", 5),
              ElementsAre("2026-01-05", "2026-01-10", "2026-01-15", "2026-01-20", "2026-02-05"));
}

TEST(CronParse, MacrosStandForWhatTheySay) {
  const std::map<std::string, std::string> macros = {
      {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
      {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
      {"@hourly", "0 * * * *"}};
  for (const auto& [macro, text] : macros) {
    EXPECT_EQ(Readings(macro, "Europe/Berlin", "2026-01-01T00:00:00Z", 50),
              Readings(text, "Europe/Berlin", "2026-01-01T00:00:00Z", 50))
        << macro;
  }
}

TEST(CronParse, EitherFieldOfDaysIsEnoughWhereBothAreRestricted) {
  EXPECT_THAT(Days("0 0 13 * FRI", "2026-02-01T00:00:00Z", 5),
              ElementsAre("2026-02-06", "2026-02-13", "2026-02-20", "2026-02-27", "2026-03-06"));
  EXPECT_THAT(Days("0 0 13 * *", "2026-02-01T00:00:00Z", 2),
              ElementsAre("2026-02-13", "2026-03-13"));
}

TEST(CronParse, KnowsLastDaysWorkingDaysAndTheNthWeekday) {
  const char* from = "2026-01-01T00:00:00Z";
  EXPECT_THAT(Days("0 0 L * *", from, 3), ElementsAre("2026-01-31", "2026-02-28", "2026-03-31"));
  EXPECT_THAT(Days("0 0 L-2 2 *", from, 3), ElementsAre("2026-02-26", "2027-02-26", "2028-02-27"));
  // 31 January 2026 is a Saturday, 31 May a Sunday.
  EXPECT_THAT(Days("0 0 LW 1,5 *", from, 2), ElementsAre("2026-01-30", "2026-05-29"));
  // 15 February 2026 is a Sunday, 15 August a Saturday, 1 August too, 31 May a Sunday.
  EXPECT_THAT(Days("0 0 15W 2,8 *", from, 2), ElementsAre("2026-02-16", "2026-08-14"));
  EXPECT_THAT(Days("0 0 1W 8 *", from, 1), ElementsAre("2026-08-03"));
  EXPECT_THAT(Days("0 0 31W * *", from, 3), ElementsAre("2026-01-30", "2026-03-31", "2026-05-29"));
  EXPECT_THAT(Days("0 0 * * FRIL", from, 2), ElementsAre("2026-01-30", "2026-02-27"));
  EXPECT_THAT(Days("0 0 * * 2#2", from, 2), ElementsAre("2026-01-13", "2026-02-10"));
  EXPECT_THAT(Days("0 0 L * mon#1", from, 3),
              ElementsAre("2026-01-05", "2026-01-31", "2026-02-02"));
}

// Each error names field, text, column and what to write.
TEST(CronParse, RefusesWithFieldColumnAndRemedy) {
  struct Case {
    const char* text;
    const char* says;
  };
  const Case cases[] = {
      {"0 25 * * *", "hour \"25\" at column 3: write 0 to 23"},
      {"60 * * * *", "minute \"60\" at column 1: write 0 to 59"},
      {"0 0 0 * *", "day of month \"0\" at column 5: write 1 to 31"},
      {"0 0 1,x * *", "day of month \"x\" at column 7: write 1 to 31"},
      {"0  0 * FOO *", "month \"FOO\" at column 8: write 1 to 12, or JAN to DEC"},
      {"0 0 * * MONDAY", "day of week \"MONDAY\" at column 9: write 0 to 7 (0 and 7 are Sunday)"},
      {"0 22-2 * * *", "the range runs backwards; write 22-23,0-2"},
      {"0 0 * * 5-1", "the range runs backwards; write 5-6,0-1"},
      {"5/15 * * * *", "a step needs a range: write 5-59/15"},
      {"*/0 * * * *", "the step is no number from 1 on"},
      {"*/-5 * * * *", "the step is no number from 1 on"},
      {"*/90 * * * *", "longer than the field; for a distance write every:"},
      {"0,,5 * * * *", "at column 3: nothing stands beside a comma"},
      {"H * * * *", "H is not known; write a number, and jitter:"},
      {"? * * * *", "? stands for a day alone; write *"},
      {"0 0 * * L", "SATL for the last Saturday"},
      {"0 0 L-31 * *", "write L-1 to L-30"},
      {"0 0 32W * *", "write 1W to 31W"},
      {"0 0 * * MON#6", "write #1 to #5"},
      {"0 0 */2 * MON", "crons differ in what */ means; write 1-31/N"},
      {"0 0 1 * */2", "crons differ in what */ means; write 0-6/N"},
      {"0 0 30 2 *", "it never comes; write L for the last day"},
      {"0 0 31 4,6,9,11 *", "it never comes"},
      {"0 0 L-29 2 *", "it never comes"},
      {"* * * *", "4 fields where five are wanted"},
      {"", "0 fields"},
      {"0 0 0 1 1 * 2027", "a year cannot be said"},
      {"CRON_TZ=UTC 0 0 * * *", "write the zone as timeZone:"},
      {"@reboot", "no boot to wait for"},
      {"@every 5m", "write every: 5m"},
      {"@fortnightly", "no such macro; there are @yearly"},
      {"0 0 \n * *", "day of month \" \" at column 5"},
  };
  for (const Case& c : cases) EXPECT_THAT(Refusal(c.text), HasSubstr(c.says)) << c.text;
  EXPECT_THAT(Refusal(std::string(300, '*')), HasSubstr("longer than 256 bytes"));
}

TEST(CronParse, TakesDaysThatAreRareButCome) {
  EXPECT_THAT(Days("0 0 29 2 *", "2096-03-01T00:00:00Z", 1), ElementsAre("2104-02-29"));
  EXPECT_THAT(Days("0 0 * 2 MON#5", "2072-03-01T00:00:00Z", 1), ElementsAre("2112-02-29"));
}

TEST(CronClocks, NamedTimesInAGapComeOnceRightAfterIt) {
  // Berlin skips 02:00 to 03:00 on 29 March 2026.
  EXPECT_THAT(Readings("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
              ElementsAre("2026-03-28 02:30:00 +01:00", "2026-03-29 03:00:00 +02:00",
                          "2026-03-30 02:30:00 +02:00"));
  EXPECT_THAT(Readings("*/20 2 29 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
              ElementsAre("2026-03-29 03:00:00 +02:00", "2027-03-29 02:00:00 +02:00"));
  EXPECT_THAT(Readings("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
              ElementsAre("2026-03-29 03:00:00 +02:00", "2026-03-30 02:00:00 +02:00"));
  // Beirut skips midnight.
  EXPECT_THAT(Readings("0 */12 * * *", "Asia/Beirut", "2026-03-28T11:00:00Z", 2),
              ElementsAre("2026-03-29 01:00:00 +03:00", "2026-03-29 12:00:00 +03:00"));
  // Samoa skipped a whole day.
  EXPECT_THAT(Readings("0 2 * * *", "Pacific/Apia", "2011-12-29T13:00:00Z", 3),
              ElementsAre("2011-12-31 00:00:00 +14:00", "2011-12-31 02:00:00 +14:00",
                          "2012-01-01 02:00:00 +14:00"));
}

TEST(CronClocks, NamedTimesThatAreReadTwiceComeOnceAtTheFirst) {
  // Berlin reads 02:00 to 03:00 twice on 25 October 2026.
  EXPECT_THAT(Readings("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"));
  EXPECT_THAT(Readings("0 2,3 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 2),
              ElementsAre("2026-10-25 03:00:00 +01:00", "2026-10-26 02:00:00 +01:00"));
}

TEST(CronClocks, EveryHourFollowsTheClock) {
  EXPECT_THAT(Readings("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
              ElementsAre("2026-03-29 01:30:00 +01:00", "2026-03-29 03:30:00 +02:00"));
  EXPECT_THAT(Readings("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
              ElementsAre("2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00",
                          "2026-10-25 03:30:00 +01:00"));
  EXPECT_TRUE(Parsed("0 0-23 * * *").FollowsClock());
  EXPECT_FALSE(Parsed("* */2 * * *").FollowsClock());
  // Lord Howe's half hour.
  EXPECT_THAT(Readings("0 * * * *", "Australia/Lord_Howe", "2026-10-03T14:30:00Z", 2),
              ElementsAre("2026-10-04 03:00:00 +11:00", "2026-10-04 04:00:00 +11:00"));
}

// Beirut reads 23:00 to 24:00 twice on 24 October 2026: the next reading that is not one again is a
// year away.
TEST(CronClocks, WhatIsReadAgainIsNotPassedOver) {
  EXPECT_THAT(Readings("30 * 24 10 *", "Asia/Beirut", "2026-10-24T20:00:00Z", 3),
              ElementsAre("2026-10-24 23:30:00 +03:00", "2026-10-24 23:30:00 +02:00",
                          "2027-10-24 00:30:00 +03:00"));
  const absl::TimeZone beirut = Zone("Asia/Beirut");
  EXPECT_EQ(Parsed("30 * 25 10 *").Previous(At("2026-10-24T22:30:00Z"), beirut),
            At("2025-10-25T21:30:00Z"));
  EXPECT_EQ(Parsed("30 0-22 24 10 *").Next(At("2026-10-24T20:00:00Z"), beirut),
            At("2027-10-23T21:30:00Z"));
}

TEST(CronClocks, NextIsStrictlyAfterAndPreviousStrictlyBefore) {
  const Cron cron = Parsed("0 12 * * *");
  const absl::TimeZone utc = Zone("UTC");
  const absl::Time noon = At("2026-05-05T12:00:00Z");
  EXPECT_EQ(cron.Next(noon, utc), noon + absl::Hours(24));
  EXPECT_EQ(cron.Next(noon - absl::Nanoseconds(1), utc), noon);
  EXPECT_EQ(cron.Previous(noon, utc), noon - absl::Hours(24));
  EXPECT_EQ(cron.Previous(noon + absl::Nanoseconds(1), utc), noon);
  EXPECT_EQ(cron.Count(noon, noon + absl::Hours(24), utc), 1);
  EXPECT_EQ(cron.Count(noon, noon, utc), 0);
}

TEST(CronClocks, EndWithTheYear9999) {
  const Cron cron = Parsed("@yearly");
  const absl::TimeZone utc = Zone("UTC");
  EXPECT_EQ(cron.Next(At("9999-06-01T00:00:00Z"), utc), std::nullopt);
  EXPECT_EQ(cron.Next(absl::InfiniteFuture(), utc), std::nullopt);
  EXPECT_EQ(cron.Previous(absl::InfinitePast(), utc), std::nullopt);
  EXPECT_EQ(cron.Previous(absl::InfiniteFuture(), utc), At("9999-01-01T00:00:00Z"));
  EXPECT_EQ(cron.Count(absl::InfinitePast(), absl::InfiniteFuture(), utc), 9999);
}

// --- Laws ---

constexpr uint64_t kSeed = 20261128;
const char* const kZones[] = {"UTC",           "Europe/Berlin",       "America/New_York",
                              "Asia/Beirut",   "Australia/Lord_Howe", "America/Havana",
                              "Asia/Kolkata",  "Africa/Casablanca",   "Antarctica/Troll",
                              "Pacific/Apia",  "America/Sao_Paulo",   "America/St_Johns",
                              "Asia/Pyongyang"};
const char* const kTexts[] = {"30 2 * * *",     "*/15 * * * *",   "0 */2 * * *",
                              "7,37 1-3 * * *", "0 0 L * *",      "15 10 13 * FRI",
                              "0 0 29 2 *",     "*/40 0 * * *",   "*/7 30 0-23 * * *",
                              "0 0 1W * *",     "59 59 23 * * *", "0 0 * * 5#5"};

class CronLaws : public ::testing::Test {
 protected:
  std::string Pick(const auto& from) { return from[random_->Below(std::size(from))]; }
  // Between 2006 and 2036, near a change of some clock every other time.
  absl::Time SomeTime(absl::TimeZone zone) {
    const absl::Time time = At("2006-01-01T00:00:00Z") + random_->Below(absl::Hours(30 * 8766));
    absl::TimeZone::CivilTransition change;
    if (random_->Below(uint64_t{2}) == 0 || !zone.NextTransition(time, &change)) return time;
    return zone.At(change.to).trans - absl::Hours(3) + random_->Below(absl::Hours(6));
  }

  std::unique_ptr<Random> random_ = SeededRandom(kSeed);
};

TEST_F(CronLaws, NothingComesBetweenAnOccurrenceAndTheNext) {
  for (int i = 0; i < 3000; ++i) {
    const std::string text = Pick(kTexts), name = Pick(kZones);
    const Cron cron = Parsed(text);
    const absl::TimeZone zone = Zone(name);
    const absl::Time time = SomeTime(zone);
    const std::string where = text + " in " + name + " at " + TimeText(time);
    const auto next = cron.Next(time, zone);
    ASSERT_TRUE(next.has_value() && *next > time) << where;
    const auto last = cron.Previous(*next, zone);
    ASSERT_TRUE(last.has_value() && *last <= time) << where;
    ASSERT_EQ(cron.Next(*last, zone), next) << where;
    ASSERT_EQ(cron.Previous(*next + absl::Seconds(1), zone), next) << where;
    ASSERT_EQ(cron.Count(*last, *next, zone), 1) << where;
    // Monotone: from any moment before, the next one is no later.
    const absl::Time earlier = time - random_->Below(absl::Hours(48));
    ASSERT_LE(*cron.Next(earlier, zone), *next) << where;
  }
}

TEST_F(CronLaws, CountingIsWalking) {
  for (int i = 0; i < 500; ++i) {
    const std::string text = Pick(kTexts), name = Pick(kZones);
    const Cron cron = Parsed(text);
    const absl::TimeZone zone = Zone(name);
    const absl::Time from = SomeTime(zone), until = from + random_->Below(absl::Hours(100));
    const std::vector<absl::Time> all = cron.Between(from, until, 1'000'000, zone);
    const std::string where = text + " in " + name + " at " + TimeText(from);
    ASSERT_EQ(static_cast<int64_t>(all.size()), cron.Count(from, until, zone)) << where;
    absl::Time walked = from;
    for (const absl::Time at : all) ASSERT_EQ(at, walked = *cron.Next(walked, zone)) << where;
    const absl::Time middle = from + (until - from) * 0.5;
    ASSERT_EQ(cron.Count(from, middle, zone) + cron.Count(middle, until, zone),
              cron.Count(from, until, zone))
        << where;
  }
}

// A list of hours comes when one of its hours does.
TEST_F(CronLaws, AListIsTheUnionOfItsParts) {
  for (int i = 0; i < 300; ++i) {
    const std::string name = Pick(kZones);
    const absl::TimeZone zone = Zone(name);
    const uint64_t a = random_->Below(uint64_t{24}), b = random_->Below(uint64_t{24});
    const absl::Time from = SomeTime(zone), until = from + absl::Hours(72);
    const auto of = [&](const std::string& hours) {
      const auto all = Parsed("*/30 " + hours + " * * *").Between(from, until, 1000, zone);
      return std::set<absl::Time>(all.begin(), all.end());
    };
    std::set<absl::Time> either = of(std::to_string(a));
    either.merge(of(std::to_string(b)));
    ASSERT_EQ(of(fmt::format("{},{}", a, b)), either) << name << " " << TimeText(from);
  }
}

TEST(Zone, IsOneOfTzdataOrRefused) {
  EXPECT_EQ(LoadZone("Europe/Berlin")->name(), "Europe/Berlin");
  EXPECT_TRUE(LoadZone("UTC").ok());
  EXPECT_TRUE(LoadZone("Etc/GMT+5").ok());
  for (const char* name : {"", "Europe/Atlantis", "localtime", "/etc/localtime", "../etc/passwd",
                           "Fixed/UTC+05:00:00", "right/UTC", "CESTX", "file:x", "Factory"}) {
    EXPECT_THAT(std::string(Message(LoadZone(name).status())), HasSubstr("Europe/Berlin or UTC"))
        << name;
  }
}

TEST(Zone, StretchesJoinWithoutAHole) {
  for (const char* name : kZones) {
    const absl::TimeZone zone = Zone(name);
    Stretch stretch = StretchAt(zone, absl::ToUnixSeconds(At("2005-01-01T00:00:00Z")));
    for (int i = 0; i < 40 && stretch.end < kLatestSecond; ++i) {
      const Stretch next = StretchAt(zone, stretch.end);
      ASSERT_EQ(next.begin, stretch.end) << name;
      ASSERT_EQ(next.wall_before, stretch.end + stretch.offset) << name;
      stretch = next;
    }
  }
}

}  // namespace
}  // namespace muster
