#include "ctl/render/jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ctl/render/schedule_words.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);  // 2027-01-15T08:00:00Z

v1::Run RunIn(v1::RunState state) {
  v1::Run run;
  run.set_id("0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d");
  run.set_job("orders-vacuum");
  run.set_state(state);
  *run.mutable_slot() = wire::ToProto(kNow - absl::Hours(3));
  run.set_trigger(v1::RUN_TRIGGER_SCHEDULE);
  run.set_attempts(3);
  run.set_exit_code(-1);
  return run;
}

v1::Run Failed() {
  v1::Run run = RunIn(v1::RUN_STATE_FAILED);
  run.set_agent("db-1");
  run.set_reason("exit code 3");
  run.set_attempt(2);
  run.set_exit_code(3);
  *run.mutable_started_at() = wire::ToProto(kNow - absl::Hours(3) + absl::Milliseconds(250));
  *run.mutable_finished_at() = wire::ToProto(kNow - absl::Hours(3) + absl::Seconds(725));
  return run;
}

v1::Run Running() {
  v1::Run run = RunIn(v1::RUN_STATE_RUNNING);
  run.set_id("1b2c3d4e-4e5f-5a6b-8c7d-9e0f1a2b3c4d");
  run.set_agent("db-1");
  run.set_attempt(1);
  *run.mutable_started_at() = wire::ToProto(kNow - absl::Seconds(65));
  run.set_trigger(v1::RUN_TRIGGER_MANUAL);
  run.set_asked_by("operator/anna");
  return run;
}

v1::Run MissedTwelve() {
  v1::Run run = RunIn(v1::RUN_STATE_MISSED);
  run.set_id("2c3d4e5f-4e5f-5a6b-8c7d-9e0f1a2b3c4d");
  run.set_reason("paused by operator/anna");
  run.set_slots(12);
  return run;
}

Json Jsons(const std::vector<v1::Run>& runs) {
  Json items = Json::array();
  for (const v1::Run& run : runs) items.push_back(ToJson(run));
  return items;
}

TEST(RunJson, HasTheKeysThatScriptsRelyOn) {
  const Json json = ToJson(Failed());
  EXPECT_EQ(json["id"], "0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d");
  EXPECT_EQ(json["job"], "orders-vacuum");
  EXPECT_EQ(json["agent"], "db-1");
  EXPECT_EQ(json["slot"], "2027-01-15T05:00:00Z");
  EXPECT_EQ(json["state"], "FAILED");
  EXPECT_EQ(json["reason"], "exit code 3");
  EXPECT_EQ(json["startedAt"], "2027-01-15T05:00:00.25Z");
  EXPECT_EQ(json["finishedAt"], "2027-01-15T05:12:05Z");
}

TEST(RunJson, HasThemBeforeItBegins) {
  const Json json = ToJson(RunIn(v1::RUN_STATE_QUEUED));
  EXPECT_EQ(json["agent"], "");
  EXPECT_TRUE(json["startedAt"].is_null());
  EXPECT_TRUE(json["finishedAt"].is_null());
}

TEST(RunJson, StatesHaveNoPrefix) {
  const std::pair<v1::RunState, const char*> states[] = {
      {v1::RUN_STATE_QUEUED, "QUEUED"},       {v1::RUN_STATE_RUNNING, "RUNNING"},
      {v1::RUN_STATE_SUCCEEDED, "SUCCEEDED"}, {v1::RUN_STATE_FAILED, "FAILED"},
      {v1::RUN_STATE_TIMED_OUT, "TIMED_OUT"}, {v1::RUN_STATE_CANCELLED, "CANCELLED"},
      {v1::RUN_STATE_MISSED, "MISSED"},       {v1::RUN_STATE_UNKNOWN, "UNKNOWN"}};
  for (const auto& [state, name] : states) {
    EXPECT_EQ(ToJson(RunIn(state))["state"], name);
    EXPECT_EQ(StateName(state), name);
    EXPECT_EQ(IsOver(state), state != v1::RUN_STATE_QUEUED && state != v1::RUN_STATE_RUNNING);
  }
}

TEST(SpecJson, OverlapReadsAsInTheSpec) {
  v1::JobSchedule schedule;
  schedule.set_overlap(v1::OVERLAP_POLICY_BUFFER_ONE);
  EXPECT_EQ(ToJson(schedule)["overlap"], "bufferOne");
}

TEST(RunTable, ShowsWhatAnOperatorLooksFor) {
  EXPECT_EQ(
      TableOf(*FindKind("runs"),
              Jsons({Running(), Failed(), MissedTwelve(), RunIn(v1::RUN_STATE_QUEUED)}),
              {.now = kNow}),
      "ID        JOB            AGENT  STATE       SLOT                  STARTED  TOOK   "
      "REASON\n"
      "1b2c3d4e  orders-vacuum  db-1   RUNNING     2027-01-15T05:00:00Z  1m5s     1m5s   -\n"
      "0a1b2c3d  orders-vacuum  db-1   FAILED      2027-01-15T05:00:00Z  2h59m    12m4s  exit "
      "code 3\n"
      "2c3d4e5f  orders-vacuum  -      MISSED ×12  2027-01-15T05:00:00Z  -        -      "
      "paused by operator/anna\n"
      "0a1b2c3d  orders-vacuum  -      QUEUED      2027-01-15T05:00:00Z  -        -      "
      "-\n");
}

TEST(RunTable, WideHasTheWholeIdAndWhoAskedForIt) {
  EXPECT_EQ(TableOf(*FindKind("run"), Jsons({Running()}), {.now = kNow, .wide = true}),
            "ID                                    JOB            AGENT  STATE    SLOT             "
            "     STARTED  TOOK  ATTEMPT  TRIGGER  ASKED BY       REASON\n"
            "1b2c3d4e-4e5f-5a6b-8c7d-9e0f1a2b3c4d  orders-vacuum  db-1   RUNNING  "
            "2027-01-15T05:00:00Z  1m5s     1m5s  1/3      MANUAL   operator/anna  -\n");
}

TEST(RunTable, PaintsAStateWithWhatFollowsIt) {
  EXPECT_EQ(Painted("MISSED ×12"), "\x1b[33mMISSED ×12\x1b[0m");
  EXPECT_EQ(Painted("SUCCEEDED"), "\x1b[32mSUCCEEDED\x1b[0m");
  EXPECT_EQ(Painted("QUEUED"), "QUEUED");
}

TEST(RunTable, NameIsTheWholeId) {
  EXPECT_EQ(NameText(*FindKind("runs"), ToJson(Failed())),
            "run/0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d\n");
}

v1::Job Job() {
  v1::Job job;
  job.set_name("orders-vacuum");
  job.set_schedule("0 3 * * SUN Europe/Berlin");
  *job.mutable_last_run() = Failed();
  v1::UpcomingRun& held = *job.add_next();
  *held.mutable_slot() = wire::ToProto(kNow + absl::Hours(42));
  held.set_missed("blackout month end");
  v1::UpcomingRun& next = *job.add_next();
  *next.mutable_slot() = wire::ToProto(kNow + absl::Hours(66));
  *next.mutable_start_at() = wire::ToProto(kNow + absl::Hours(66) + absl::Seconds(252));
  job.set_running(1);
  return job;
}

TEST(JobTable, ShowsTheLastAndTheNextRun) {
  v1::Job paused = Job();
  paused.set_name("paused");
  paused.set_paused(true);
  *paused.mutable_paused_until() = wire::ToProto(kNow + absl::Minutes(90));
  v1::Job by_hand;
  by_hand.set_name("purge-cache");
  Json items = Json::array({ToJson(Job()), ToJson(paused), ToJson(by_hand)});
  EXPECT_EQ(TableOf(*FindKind("jobs"), items, {.now = kNow}),
            "NAME           SCHEDULE                   PAUSED     LAST          NEXT      RUNNING  "
            "QUEUED\n"
            "orders-vacuum  0 3 * * SUN Europe/Berlin  no         FAILED 2h47m  in 2d18h  1        "
            "0\n"
            "paused         0 3 * * SUN Europe/Berlin  for 1h30m  FAILED 2h47m  in 2d18h  1        "
            "0\n"
            "purge-cache    by hand                    no         -             -         0        "
            "0\n");
}

TEST(DescribeRun, TellsTheRunAndItsTrail) {
  v1::GetRunResponse response;
  *response.mutable_run() = Failed();
  response.mutable_run()->set_dropped_lines(120);
  response.mutable_run()->mutable_progress()->set_done(3 << 20);
  response.mutable_run()->mutable_progress()->set_unit("B");
  response.mutable_run()->mutable_progress()->set_text("dumping public.orders");
  v1::RunTrailEntry& due = *response.add_trail();
  *due.mutable_at() = wire::ToProto(kNow - absl::Hours(3));
  due.set_what("due");
  v1::RunTrailEntry& ended = *response.add_trail();
  *ended.mutable_at() = wire::ToProto(kNow - absl::Hours(3) + absl::Seconds(725));
  ended.set_what("ended");
  ended.set_reason("exit code 3");
  EXPECT_EQ(DescribeRunText(response, {.now = kNow}),
            "Run:       0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d\n"
            "Job:       orders-vacuum\n"
            "State:     FAILED: exit code 3\n"
            "Agent:     db-1\n"
            "Slot:      2027-01-15T05:00:00Z\n"
            "Origin:    schedule\n"
            "Started:   2027-01-15T05:00:00Z, 2h59m ago\n"
            "Finished:  2027-01-15T05:12:05Z, 2h47m ago\n"
            "Took:      12m4s\n"
            "Attempt:   2 of 3\n"
            "Exit code: 3\n"
            "Progress:  3.0 MiB, dumping public.orders\n"
            "Log:       120 lines were not kept\n"
            "\n"
            "AT                    WHAT   REASON\n"
            "2027-01-15T05:00:00Z  due    -\n"
            "2027-01-15T05:12:05Z  ended  exit code 3\n");
}

TEST(DescribeRun, SaysThatItIsAskedToEnd) {
  v1::GetRunResponse response;
  *response.mutable_run() = Running();
  response.mutable_run()->set_stopping(true);
  const std::string text = DescribeRunText(response, {.now = kNow});
  EXPECT_THAT(text, HasSubstr("State:     RUNNING, asked to end\n"));
  EXPECT_THAT(text, HasSubstr("Origin:    by hand, asked for by operator/anna\n"));
}

v1::JobSpec Spec() {
  v1::JobSpec spec;
  (*spec.mutable_agents())["role"] = "db";
  spec.set_description("Without it the orders database grows.");
  v1::JobSchedule& schedule = *spec.mutable_schedule();
  schedule.set_cron("0 3 * * SUN");
  schedule.set_time_zone("Europe/Berlin");
  schedule.set_overlap(v1::OVERLAP_POLICY_SKIP);
  *schedule.mutable_jitter() = wire::ToProto(absl::Minutes(10));
  *schedule.mutable_catch_up() = wire::ToProto(absl::Hours(6));
  v1::BlackoutWindow& window = *schedule.add_blackouts();
  window.set_name("month end");
  window.set_cron("0 0 L * *");
  *window.mutable_lasts() = wire::ToProto(absl::Hours(24));
  *spec.mutable_deadline() = wire::ToProto(absl::Hours(2));
  spec.add_exclusive("database/orders");
  spec.mutable_retry()->set_attempts(3);
  spec.mutable_command()->add_argv("/usr/bin/vacuumdb");
  spec.mutable_command()->add_argv("orders 2");
  return spec;
}

TEST(DescribeJob, TellsTheScheduleInWordsAndItsSlotsInItsZone) {
  v1::Job job = Job();
  job.clear_next();
  // Sundays at 03:00 in Berlin, over the change of clocks.
  for (const int64_t slot : {1'805'594'400, 1'806'195'600, 1'806'800'400}) {
    v1::UpcomingRun& next = *job.add_next();
    *next.mutable_slot() = wire::ToProto(absl::FromUnixSeconds(slot));
    *next.mutable_start_at() = wire::ToProto(absl::FromUnixSeconds(slot + 252));
  }
  job.mutable_next(1)->set_missed("blackout month end");
  EXPECT_EQ(DescribeJobText(Spec(), job, {Failed()}, {.now = kNow}),
            "Name:      orders-vacuum\n"
            "About:     Without it the orders database grows.\n"
            "Schedule:  on Sundays at 03:00, Europe/Berlin (0 3 * * SUN)\n"
            "Rules:     jitter 10m, catch-up 6h, overlap skip\n"
            "Blackouts: month end (1d from 0 0 L * *)\n"
            "Agent:     role=db: the first by name that is connected\n"
            "Command:   /usr/bin/vacuumdb \"orders 2\"\n"
            "Limits:    2h an attempt, 3 attempts\n"
            "Exclusive: database/orders\n"
            "Paused:    no\n"
            "Runs:      1 running, 0 queued\n"
            "\n"
            "NEXT SLOTS                      ZONE           IN\n"
            "Sun 2027-03-21 03:00:00 +01:00  Europe/Berlin  64d18h  starts 03:04:12\n"
            "Sun 2027-03-28 03:00:00 +02:00  Europe/Berlin  71d17h  will be missed: blackout month "
            "end\n"
            "Sun 2027-04-04 03:00:00 +02:00  Europe/Berlin  78d17h  starts 03:04:12\n"
            "\n"
            "ID        JOB            AGENT  STATE   SLOT                  STARTED  TOOK   REASON\n"
            "0a1b2c3d  orders-vacuum  db-1   FAILED  2027-01-15T05:00:00Z  2h59m    12m4s  exit "
            "code 3\n");
}

struct WordsCase {
  const char* cron;
  const char* words;
};

TEST(CronWords, SayWhatPeopleSay) {
  const WordsCase cases[] = {
      {"0 2 * * *", "every day at 02:00"},
      {"@daily", "every day at 00:00"},
      {"0 0 2 * * *", "every day at 02:00"},
      {"30 2,14 * * *", "every day at 02:30 and 14:30"},
      {"0 9 * * MON-FRI", "on Mondays to Fridays at 09:00"},
      {"0 9 * * 1-5", "on Mondays to Fridays at 09:00"},
      {"0 3 * * sun", "on Sundays at 03:00"},
      {"0 3 * * 7", "on Sundays at 03:00"},
      {"0 3 * * MON,WED,FRI", "on Mondays, Wednesdays and Fridays at 03:00"},
      {"0 3 1 * *", "on day 1 of every month at 03:00"},
      {"@monthly", "on day 1 of every month at 00:00"},
      {"0 3 L * *", "on the last day of every month at 03:00"},
      {"@yearly", "every year on 1 January at 00:00"},
      {"0 3 * 6-8 *", "every day in June to August at 03:00"},
      {"0 3 * JUN SAT", "on Saturdays in June at 03:00"},
      {"* * * * *", "every minute"},
      {"*/5 * * * *", "every 5 minutes"},
      {"*/5 * * * SAT", "every 5 minutes, on Saturdays"},
      {"@hourly", "every hour, on the hour"},
      {"30 * * * *", "every hour at minute 30"},
      {"15 */6 * * *", "every 6 hours from 00:15 on"},
      // Without short words, or with some that would be wrong.
      {"*/7 * * * *", ""},
      {"0 */5 * * *", ""},
      {"0 0 13 * FRI", ""},
      {"0 9 LW * *", ""},
      {"0 3 * * SUN#1", ""},
      {"0 3 * * FRIL", ""},
      {"*/10 * * * * *", ""},
      {"0 9-17 * * *", ""},
      {"0 3 1,15 * *", ""},
      {"nonsense", ""},
      {"", ""},
  };
  for (const WordsCase& one : cases) EXPECT_EQ(CronWords(one.cron), one.words) << one.cron;
}

TEST(ScheduleWords, NameTheZone) {
  v1::JobSchedule schedule;
  EXPECT_EQ(ScheduleWords(schedule), "when somebody asks for it");
  schedule.set_time_zone("Europe/Berlin");
  schedule.set_cron("0 2 * * *");
  EXPECT_EQ(ScheduleWords(schedule), "every day at 02:00, Europe/Berlin (0 2 * * *)");
  schedule.set_cron("0 9 LW * *");
  EXPECT_EQ(ScheduleWords(schedule), "as cron says: 0 9 LW * *, Europe/Berlin");
  *schedule.mutable_every() = wire::ToProto(absl::Minutes(15));
  EXPECT_EQ(ScheduleWords(schedule), "every 15m");
  schedule.set_at("2026-12-24T02:00:00Z");
  EXPECT_EQ(ScheduleWords(schedule), "once, at 2026-12-24T02:00:00Z");
}

TEST(AmountText, GivesTheUnitOnce) {
  const auto text = [](uint64_t done, uint64_t total, const std::string& unit) {
    v1::RunProgress progress;
    progress.set_done(done);
    progress.set_total(total);
    progress.set_unit(unit);
    return AmountText(progress);
  };
  EXPECT_EQ(text(0, 0, "B"), "");
  EXPECT_EQ(text(1536, 0, "B"), "1.5 KiB");
  EXPECT_EQ(text(512, 0, "B"), "512 B");
  EXPECT_EQ(text(1536, 2048, "B"), "1.5 of 2.0 KiB");
  EXPECT_EQ(text(1536, 5 << 20, "B"), "1.5 KiB of 5.0 MiB");
  EXPECT_EQ(text(1204, 5000, "rows"), "1204 of 5000 rows");
  EXPECT_EQ(text(3, 7, ""), "3 of 7");
  EXPECT_EQ(text(41, 100, "%"), "41%");
}

}  // namespace
}  // namespace muster::ctl
