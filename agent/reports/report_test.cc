#include "agent/reports/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/reports/output_tail.h"
#include "lib/base/hash.h"
#include "lib/base/random.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

using ::testing::HasSubstr;
using Kind = ReportName::Kind;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

Report Begun(std::string id = RandomUuid()) {
  return {.run_id = std::move(id),
          .job = "nightly-report",
          .what = "/usr/local/bin/report",
          .began = kNow - absl::Minutes(1)};
}

Report Ended(int code = 0) {
  Report report = Begun();
  report.ended.emplace().set_outcome(code == 0 ? v1::RUN_OUTCOME_SUCCEEDED
                                               : v1::RUN_OUTCOME_FAILED);
  report.ended->set_exit_code(code);
  report.ended->set_reason(fmt::format("exit code {}", code));
  report.ended_at = kNow;
  v1::RunOutput& output = report.output.emplace_back();
  output.set_stream(v1::RunOutput::STREAM_STDOUT);
  output.set_first_line(1);
  output.set_text("done\n");
  return report;
}

TEST(Report, NamesItsRunAndItsPart) {
  const std::string id = RandomUuid();
  for (const Kind kind : {Kind::kStart, Kind::kRunning, Kind::kEnd}) {
    const auto name = ParseReportName(FileName({id, kind}));
    ASSERT_TRUE(name.has_value());
    EXPECT_EQ(name->run_id, id);
    EXPECT_EQ(name->kind, kind);
  }
  std::string other_version = id;
  other_version[14] = '5';  // as the control plane makes them of a job and its slot
  for (const std::string& bad : {std::string(), id, id + ".ended", "x" + id + ".end",
                                 std::string("../") + id + ".end", other_version + ".end"}) {
    EXPECT_FALSE(ParseReportName(bad).has_value()) << bad;
  }
}

TEST(Report, ReadsBackAsItWasWritten) {
  const Report begun = Begun();
  const auto start = ReadReport(Pack(begun), {begun.run_id, Kind::kStart}, kNow);
  ASSERT_TRUE(start.ok()) << start.status();
  EXPECT_EQ(start->job, "nightly-report");
  EXPECT_EQ(start->began, begun.began);
  EXPECT_FALSE(start->ended.has_value());
  const Report ended = Ended(3);
  const auto end = ReadReport(Pack(ended), {ended.run_id, Kind::kEnd}, kNow);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->ended->exit_code(), 3);
  EXPECT_EQ(end->output.at(0).text(), "done\n");
  EXPECT_EQ(end->ended_at, kNow);
}

TEST(Report, IsToldWithItsBeginUnlessThatWasTold) {
  const auto all = RecordsOf(Ended(), "deploy", Telling::kAll);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 3U);
  const v1::RunEvent& first = all->at(0).run_event();
  EXPECT_EQ(first.started().reported().user(), "deploy");
  EXPECT_EQ(first.fence(), 1U);
  EXPECT_TRUE(all->at(2).run_event().has_ended());
  EXPECT_EQ(RecordsOf(Ended(), "deploy", Telling::kWithoutStart)->size(), 2U);
}

TEST(Report, NothingHappensAfterNowNorBeforeItsBegin) {
  Report report = Ended();
  report.began = kNow + absl::Hours(1);
  report.ended_at = kNow - absl::Hours(9);
  const auto read = ReadReport(Pack(report), {report.run_id, Kind::kEnd}, kNow);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->began, kNow);
  EXPECT_EQ(read->ended_at, kNow);
}

TEST(Report, ThatSaysSomethingElseIsNone) {
  const Report begun = Begun();
  const Report ended = Ended();
  EXPECT_FALSE(ReadReport(Pack(begun), {RandomUuid(), Kind::kStart}, kNow).ok()) << "another's";
  EXPECT_FALSE(ReadReport(Pack(begun), {begun.run_id, Kind::kEnd}, kNow).ok()) << "no end";
  EXPECT_FALSE(ReadReport(Pack(ended), {ended.run_id, Kind::kStart}, kNow).ok()) << "an end";
  EXPECT_FALSE(ReadReport("", {begun.run_id, Kind::kStart}, kNow).ok());
  EXPECT_FALSE(
      ReadReport(std::string(kMostReportBytes + 1, 'x'), {begun.run_id, Kind::kStart}, kNow).ok());
  for (const char* job : {"", "A", "a b", "a/b", "a\nb"}) {
    Report bad = Begun();
    bad.job = job;
    EXPECT_FALSE(ReadReport(Pack(bad), {bad.run_id, Kind::kStart}, kNow).ok()) << job;
  }
}

TEST(Report, NothingThatTheControlPlaneRefusesComesIntoTheLog) {
  Report report = Ended();
  report.output[0].set_first_line(0);
  EXPECT_FALSE(RecordsOf(report, "deploy", Telling::kAll).ok());
  report = Ended();
  report.what = std::string(9000, 'x');
  report.ended->set_reason(std::string(9000, 'x'));
  EXPECT_TRUE(RecordsOf(report, std::string(99, 'u'), Telling::kAll).ok()) << "is cut";
}

TEST(Report, OfAnythingIsRefusedOrToldWhole) {
  const uint64_t seed = SystemRandom()->Next();
  SCOPED_TRACE(seed);
  const auto random = SeededRandom(seed);
  const Report report = Ended();
  const std::string good = Pack(report);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good.substr(0, random->Below(good.size() + 1));
    for (uint64_t flips = random->Below(uint64_t{8}); flips > 0 && !bytes.empty(); --flips)
      bytes[random->Below(uint64_t{bytes.size()})] = static_cast<char>(random->Next());
    const auto read = ReadReport(bytes, {report.run_id, Kind::kEnd}, kNow);
    if (!read.ok()) continue;
    EXPECT_EQ(read->run_id, report.run_id);
    EXPECT_TRUE(read->ended.has_value());
    (void)RecordsOf(*read, "deploy", Telling::kAll);
  }
}

uint64_t LinesOf(const std::vector<v1::RunOutput>& output) {
  uint64_t lines = 0;
  for (const v1::RunOutput& one : output)
    lines += static_cast<uint64_t>(std::count(one.text().begin(), one.text().end(), '\n'));
  return lines;
}

TEST(OutputTail, KeepsStreamsApartAndTheirLinesInOrder) {
  OutputTail tail;
  tail.Take(v1::RunOutput::STREAM_STDOUT, "one\ntw");
  tail.Take(v1::RunOutput::STREAM_STDERR, "bad\xff\n");
  tail.Take(v1::RunOutput::STREAM_STDOUT, "o\r\nthree");
  const auto told = tail.Finish();
  ASSERT_EQ(told.size(), 3U);
  EXPECT_EQ(told[0].text(), "one\n");
  EXPECT_EQ(told[1].text(), "bad\xEF\xBF\xBD\n");
  EXPECT_EQ(told[1].first_line(), 2U);
  EXPECT_EQ(told[2].text(), "two\nthree\n");
  EXPECT_EQ(told[2].first_line(), 3U);
  EXPECT_EQ(tail.dropped_lines(), 0U);
}

TEST(OutputTail, OfMuchIsTheLastAndCountsTheRest) {
  OutputTail tail;
  for (int i = 1; i <= 100'000; ++i)
    tail.Take(v1::RunOutput::STREAM_STDOUT, fmt::format("line {}\n", i));
  const auto told = tail.Finish();
  EXPECT_THAT(told.back().text(), HasSubstr("line 100000\n"));
  EXPECT_EQ(LinesOf(told) + tail.dropped_lines(), 100'000U);
  EXPECT_LE(LinesOf(told), OutputTail::kMostLines);
}

TEST(OutputTail, OfBytesWithoutAnEndIsBoundedAndFitsAReport) {
  OutputTail tail;
  for (int i = 0; i < 1000; ++i)
    tail.Take(v1::RunOutput::STREAM_STDERR, std::string(65'536, '\x01'));
  Report report = Ended();
  report.output = tail.Finish();
  EXPECT_GT(tail.dropped_lines(), 0U);
  EXPECT_LT(Pack(report).size(), kMostReportBytes);
  EXPECT_TRUE(RecordsOf(report, "root", Telling::kAll).ok());
}

TEST(OutputTail, OfTwoStreamsInTurnFitsAReport) {
  OutputTail tail;
  for (int i = 0; i < 5000; ++i) {
    tail.Take(v1::RunOutput::STREAM_STDOUT, std::string(40, '\xff') + "\n");
    tail.Take(v1::RunOutput::STREAM_STDERR, std::string(40, '\xfe') + "\n");
  }
  Report report = Ended();
  report.output = tail.Finish();
  report.ended->set_dropped_lines(tail.dropped_lines());
  const std::string bytes = Pack(report);
  EXPECT_LT(bytes.size(), kMostReportBytes);
  EXPECT_TRUE(ReadReport(bytes, {report.run_id, Kind::kEnd}, kNow).ok());
}

}  // namespace
}  // namespace muster::agent
