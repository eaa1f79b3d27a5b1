#include <gtest/gtest.h>

#include "ctl/render/run_log.h"
#include "ctl/render/run_meter.h"
#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr size_t kWide = 200;

v1::Run Running(uint64_t done, uint64_t total, const std::string& unit) {
  v1::Run run;
  run.set_state(v1::RUN_STATE_RUNNING);
  run.set_agent("db-1");
  run.set_attempt(1);
  run.set_attempts(3);
  *run.mutable_started_at() = wire::ToProto(kNow - absl::Seconds(72));
  run.mutable_progress()->set_done(done);
  run.mutable_progress()->set_total(total);
  run.mutable_progress()->set_unit(unit);
  return run;
}

TEST(RunMeter, ShowsBarRateAndWhatIsLeft) {
  RunMeter meter;
  meter.Take(Running(100 << 20, 1 << 30, "B"), kNow);
  EXPECT_EQ(meter.Line(kNow, kWide),
            "RUNNING  db-1  1m12s  [#...................]  9%  100.0 MiB of 1.0 GiB");
  v1::Run later = Running(420 << 20, 1 << 30, "B");
  later.mutable_progress()->set_text("dumping public.orders");
  meter.Take(later, kNow + absl::Seconds(10));
  EXPECT_EQ(meter.Line(kNow + absl::Seconds(10), kWide),
            "RUNNING  db-1  1m22s  [########............]  41%  420.0 MiB of 1.0 GiB  32.0 MiB/s  "
            "19s left  dumping public.orders");
}

TEST(RunMeter, WithoutATotalThereIsNoBar) {
  RunMeter meter;
  meter.Take(Running(10, 0, "rows"), kNow);
  meter.Take(Running(30, 0, "rows"), kNow + absl::Seconds(10));
  EXPECT_EQ(meter.Line(kNow + absl::Seconds(10), kWide), "RUNNING  db-1  1m22s  30 rows  2 rows/s");
}

TEST(RunMeter, PercentsStandOnce) {
  RunMeter meter;
  meter.Take(Running(41, 100, "%"), kNow);
  EXPECT_EQ(meter.Line(kNow, kWide), "RUNNING  db-1  1m12s  [########............]  41%");
}

TEST(RunMeter, SaysNoRateOfWhatStandsStill) {
  RunMeter meter;
  meter.Take(Running(10, 100, ""), kNow);
  meter.Take(Running(20, 100, ""), kNow + absl::Seconds(5));
  EXPECT_NE(meter.Line(kNow + absl::Seconds(10), kWide).find("1/s  1m20s left"), std::string::npos)
      << meter.Line(kNow + absl::Seconds(10), kWide);
  EXPECT_EQ(meter.Line(kNow + absl::Seconds(60), kWide),
            "RUNNING  db-1  2m12s  [####................]  20%  20 of 100");
}

TEST(RunMeter, BeginsAnewWithEachAttempt) {
  RunMeter meter;
  meter.Take(Running(10, 100, ""), kNow);
  meter.Take(Running(60, 100, ""), kNow + absl::Seconds(5));
  v1::Run second = Running(1, 100, "");
  second.set_attempt(2);
  meter.Take(second, kNow + absl::Seconds(6));
  EXPECT_EQ(meter.Line(kNow + absl::Seconds(8), kWide),
            "RUNNING  db-1  1m20s  attempt 2 of 3  [....................]  1%  1 of 100");
}

TEST(RunMeter, OfAQueuedRunItSaysWhatItWaitsFor) {
  v1::Run run;
  run.set_state(v1::RUN_STATE_QUEUED);
  run.set_reason("database/orders is held by run 1b2c3d4e");
  *run.mutable_slot() = wire::ToProto(kNow - absl::Seconds(12));
  RunMeter meter;
  meter.Take(run, kNow);
  EXPECT_EQ(meter.Line(kNow, kWide), "QUEUED  12s  database/orders is held by run 1b2c3d4e");
}

TEST(RunMeter, KeepsToTheTerminal) {
  v1::Run run = Running(2000, 1000, "");  // more than there is: the bar is full
  run.mutable_progress()->set_text("\x1b[2Jüber allem");
  run.set_stopping(true);
  RunMeter meter;
  meter.Take(run, kNow - absl::Hours(1));  // clocks that differ
  EXPECT_EQ(meter.Line(kNow - absl::Hours(1), kWide),
            "RUNNING  db-1  0s  [####################]  100%  2000 of 1000   [2Jüber allem  asked "
            "to end");
  EXPECT_EQ(meter.Line(kNow, 20), "RUNNING  db-1  1m12…");
  EXPECT_EQ(meter.Line(kNow, 1), "…");
  EXPECT_EQ(meter.Line(kNow, 0), "");
}

v1::RunLogEntry Entry(uint64_t first_line, const std::string& text,
                      v1::RunOutput::Stream stream = v1::RunOutput::STREAM_STDOUT,
                      uint32_t attempt = 1) {
  v1::RunLogEntry entry;
  entry.set_attempt(attempt);
  *entry.mutable_at() = wire::ToProto(kNow + absl::Milliseconds(5));
  entry.mutable_output()->set_stream(stream);
  entry.mutable_output()->set_text(text);
  entry.mutable_output()->set_first_line(first_line);
  return entry;
}

TEST(RunLog, TellsStreamsApart) {
  RunLogText log({});
  EXPECT_EQ(log.Take(Entry(1, "starts /bin/x\n", v1::RunOutput::STREAM_NOTE)), "# starts /bin/x\n");
  EXPECT_EQ(log.Take(Entry(2, "one\n\ntwo\n")), "one\n\ntwo\n");
  EXPECT_EQ(log.Take(Entry(5, "oh\n", v1::RunOutput::STREAM_STDERR)), "! oh\n");
  EXPECT_EQ(log.Take(Entry(6, "cut off")), "cut off\n");
}

TEST(RunLog, NotesAreDimOnATerminal) {
  RunLogText log({.colour = true});
  EXPECT_EQ(log.Take(Entry(1, "a\n", v1::RunOutput::STREAM_NOTE)), "\x1b[2m# a\x1b[0m\n");
  EXPECT_EQ(log.Take(Entry(2, "b\n", v1::RunOutput::STREAM_STDERR)), "\x1b[31m! b\x1b[0m\n");
  EXPECT_EQ(log.Take(Entry(3, "c\n")), "c\n");
}

TEST(RunLog, CountsWhatWasNotKept) {
  RunLogText log({});
  EXPECT_EQ(log.Take(Entry(3, "c\nd\n")), "… 2 lines were not kept\nc\nd\n");
  EXPECT_EQ(log.Take(Entry(6, "f\n")), "… 1 line was not kept\nf\n");
  EXPECT_EQ(log.Rest(1, 123), "… 120 lines were not kept\n");
  EXPECT_EQ(log.Rest(1, 123), "");
}

TEST(RunLog, OfARunWhoseLinesWereAllDroppedItSaysSo) {
  EXPECT_EQ(RunLogText({}).Rest(1, 4), "… 4 lines were not kept\n");
  EXPECT_EQ(RunLogText({}).Rest(1, 0), "");
}

TEST(RunLog, PartsAttemptsWithALine) {
  RunLogText log({});
  EXPECT_EQ(log.Take(Entry(1, "a\n")), "a\n");
  EXPECT_EQ(log.Take(Entry(1, "b\n", v1::RunOutput::STREAM_STDOUT, 2)), "# attempt 2\nb\n");
  EXPECT_EQ(log.Rest(1, 9), "");  // of an attempt that is gone by
}

TEST(RunLog, TimestampsStandBeforeEachLine) {
  RunLogText log({.timestamps = true});
  EXPECT_EQ(log.Take(Entry(1, "a\nb\n", v1::RunOutput::STREAM_STDERR)),
            "2027-01-15T08:00:00.005Z ! a\n2027-01-15T08:00:00.005Z ! b\n");
}

TEST(RunLog, ControlCharactersNeverReachTheTerminal) {
  EXPECT_EQ(RunLogText({}).Take(Entry(1, "\x1b[2Jgone\ttab\r\n")), " [2Jgone\ttab \n");
}

}  // namespace
}  // namespace muster::ctl
