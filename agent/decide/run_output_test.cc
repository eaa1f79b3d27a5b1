#include "agent/decide/run_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kBegin = absl::Seconds(1000);
constexpr auto kOut = v1::RunOutput::STREAM_STDOUT;
constexpr auto kErr = v1::RunOutput::STREAM_STDERR;

std::string TextOf(const std::vector<v1::RunOutput>& outputs) {
  std::string text;
  for (const v1::RunOutput& output : outputs) text += output.text();
  return text;
}

uint64_t LinesOf(const std::vector<v1::RunOutput>& outputs) {
  const std::string text = TextOf(outputs);
  return static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(RunOutput, GathersLinesForHalfASecond) {
  RunOutputGate gate(kBegin);
  gate.Take(kOut, "one\nhalf of ", kBegin);
  EXPECT_TRUE(gate.Due(kBegin).empty());
  gate.Take(kOut, "two\n", kBegin + absl::Milliseconds(300));
  const auto told = gate.Due(kBegin + absl::Milliseconds(500));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].text(), "one\nhalf of two\n");
  EXPECT_EQ(told[0].first_line(), 1u);
  EXPECT_TRUE(gate.Due(kBegin + absl::Seconds(5)).empty());
}

TEST(RunOutput, AFullRecordDoesNotWait) {
  RunOutputGate gate(kBegin);
  for (int line = 0; line < 2; ++line) {
    gate.Take(kOut, std::string(4000, 'x'), kBegin);
    gate.Take(kOut, "\n", kBegin);
  }
  EXPECT_EQ(gate.Due(kBegin).size(), 2u);
}

TEST(RunOutput, NumbersLinesOverAllStreamsInTheOrderOfTheirEnds) {
  RunOutputGate gate(kBegin);
  gate.Take(kOut, "out ", kBegin);
  gate.Take(kErr, "err\n", kBegin);
  gate.Take(kOut, "1\nout 2\n", kBegin);
  const auto told = gate.Finish(kBegin);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].stream(), kErr);
  EXPECT_EQ(told[0].first_line(), 1u);
  EXPECT_EQ(told[1].stream(), kOut);
  EXPECT_EQ(told[1].first_line(), 2u);
  EXPECT_EQ(told[1].text(), "out 1\nout 2\n");
}

TEST(RunOutput, CutsALongLineBetweenCharacters) {
  RunOutputGate gate(kBegin);
  std::string line;
  while (line.size() < 10'000) line += "\u20ac";  // three bytes each
  gate.Take(kOut, line + "\nnext\n", kBegin);
  const auto told = gate.Finish(kBegin);
  std::string text = TextOf(told);
  EXPECT_EQ(LinesOf(told), 4u);
  for (const v1::RunOutput& output : told) EXPECT_LE(output.text().size(), 4096u);
  std::erase(text, '\n');
  EXPECT_EQ(text, line + "next");
}

TEST(RunOutput, ReplacesWhatIsNoTextWithoutLosingLines) {
  RunOutputGate gate(kBegin);
  gate.Take(kOut, std::string(5000, '\xff'), kBegin);
  gate.Take(kOut, "\nend\n", kBegin);
  const auto told = gate.Finish(kBegin);
  std::string text = TextOf(told);
  for (const v1::RunOutput& output : told) EXPECT_LE(output.text().size(), 4096u);
  std::erase(text, '\n');
  EXPECT_EQ(text.size(), 5000u * 3 + 3);
  EXPECT_EQ(gate.dropped_lines(), 0u);
}

TEST(RunOutput, EndsALastLineAndDropsACarriageReturn) {
  RunOutputGate gate(kBegin);
  gate.Take(kOut, "windows\r\n\nlast", kBegin);
  EXPECT_EQ(TextOf(gate.Finish(kBegin)), "windows\n\nlast\n");
}

std::string Numbered(int from, int to) {
  std::string text;
  for (int i = from; i < to; ++i) text += fmt::format("line {:06}\n", i);
  return text;
}

TEST(RunOutput, ABurstPassesAndWhatIsOverTheRateKeepsItsNewestPart) {
  RunOutputGate gate(kBegin);
  for (int i = 0; i < 20; ++i) {
    gate.Take(kOut, Numbered(i * 1000, (i + 1) * 1000), kBegin);  // 240,000 bytes in all
    EXPECT_EQ(LinesOf(gate.Due(kBegin)), 1000u);
  }
  EXPECT_EQ(gate.dropped_lines(), 0u);
  gate.Take(kOut, Numbered(20'000, 40'000), kBegin);
  const auto told = gate.Due(kBegin + absl::Milliseconds(500));
  EXPECT_GT(gate.dropped_lines(), 15'000u);
  EXPECT_THAT(TextOf(told), ::testing::EndsWith("line 039999\n"));
}

TEST(RunOutput, AfterAMebibyteOnlyTheEndIsKept) {
  RunOutputGate gate(kBegin);
  absl::Duration now = kBegin;
  std::vector<v1::RunOutput> told;
  const auto take = [&](std::vector<v1::RunOutput> outputs) {
    told.insert(told.end(), outputs.begin(), outputs.end());
  };
  for (int i = 0; i < 200; ++i) {
    gate.Take(kOut, Numbered(i * 1000, (i + 1) * 1000), now);  // 12,000 bytes each second
    take(gate.Due(now += absl::Seconds(1)));
  }
  const uint64_t before = LinesOf(told);
  EXPECT_LT(before, 90'000u);
  take(gate.Finish(now));
  const std::string text = TextOf(told);
  EXPECT_LE(text.size(), 1u << 20);
  EXPECT_GT(text.size(), (1u << 20) - 1000);
  EXPECT_THAT(text, ::testing::StartsWith("line 000000\n"));
  EXPECT_THAT(text, ::testing::EndsWith("line 199999\n"));
  EXPECT_EQ(LinesOf(told) + gate.dropped_lines(), 200'000u);
  EXPECT_EQ(LinesOf(told) - before, (16u << 10) / 12);
}

// Whatever comes in whatever pieces: numbers ascend, bounds hold, and every line is told or
// counted.
TEST(RunOutput, TellsOrCountsEveryLine) {
  const uint64_t seed = 4;
  std::mt19937_64 random(seed);
  for (int round = 0; round < 30; ++round) {
    SCOPED_TRACE(fmt::format("seed {} round {}", seed, round));
    RunOutputGate gate(kBegin);
    absl::Duration now = kBegin;
    std::vector<v1::RunOutput> told;
    for (int i = 0; i < 200; ++i) {
      std::string bytes(random() % 20'000, '\0');
      const bool text = random() % 2 == 0;
      for (char& byte : bytes) {
        byte = static_cast<char>(text ? 'a' + random() % 26 : random() % 256);
        if (random() % 50 == 0) byte = '\n';
      }
      gate.Take(random() % 3 == 0 ? kErr : kOut, bytes, now);
      now += absl::Milliseconds(static_cast<int64_t>(random() % 400));
      for (auto& output : gate.Due(now)) told.push_back(std::move(output));
    }
    for (auto& output : gate.Finish(now)) told.push_back(std::move(output));
    uint64_t next = 1;
    uint64_t lines = 0;
    size_t bytes = 0;
    for (const v1::RunOutput& output : told) {
      ASSERT_GE(output.first_line(), next);
      ASSERT_LE(output.text().size(), 4096u);
      ASSERT_TRUE(output.text().ends_with('\n'));
      ASSERT_EQ(CleanText(output.text()), output.text());
      const uint64_t count = LinesOf({output});
      next = output.first_line() + count;
      lines += count;
      bytes += output.text().size();
    }
    ASSERT_LE(bytes, 1u << 20);
    ASSERT_EQ(lines + gate.dropped_lines(), next - 1) << "the last line is told";
  }
}

v1::RunProgress Done(uint64_t done) {
  v1::RunProgress progress;
  progress.set_done(done);
  return progress;
}

TEST(Progress, IsToldOnceASecondIfItIsNews) {
  ProgressGate gate;
  EXPECT_TRUE(gate.Due(kBegin).empty()) << "nothing is known";
  gate.Take(Done(1));
  EXPECT_EQ(gate.Due(kBegin).size(), 1u);
  gate.Take(Done(2));
  gate.Take(Done(3));
  EXPECT_TRUE(gate.Due(kBegin + absl::Milliseconds(900)).empty());
  const auto told = gate.Due(kBegin + absl::Seconds(1));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].done(), 3u);
  gate.Take(Done(3));
  EXPECT_TRUE(gate.Due(kBegin + absl::Seconds(9)).empty()) << "it is the same";
  gate.Take(Done(4));
  EXPECT_EQ(gate.Finish().size(), 1u) << "the last word does not wait";
  EXPECT_TRUE(gate.Finish().empty());
}

}  // namespace
}  // namespace muster::agent
