#include "tests/bench/fleet/replay.h"

#include <gtest/gtest.h>

#include "lib/decide/check_state.h"

namespace muster::bench {
namespace {

constexpr auto kOk = v1::CHECK_STATUS_OK;
constexpr auto kCritical = v1::CHECK_STATUS_CRITICAL;
constexpr auto kNoData = v1::CHECK_STATUS_NO_DATA;

v1::Confirm Confirm(uint32_t failures) {
  v1::Confirm confirm;
  confirm.set_failures(failures);
  confirm.set_successes(1);
  return confirm;
}

std::vector<Journalled> Results(const std::vector<v1::CheckStatus>& statuses) {
  std::vector<Journalled> results;
  for (const v1::CheckStatus status : statuses) {
    const uint64_t sequence = results.size() + 1;
    results.push_back({sequence, 1, status, static_cast<int64_t>(sequence) * 1'000'000});
  }
  return results;
}

control::TransitionRow Row(v1::CheckStatus from, v1::CheckStatus to, bool hard, int64_t at) {
  control::TransitionRow row;
  row.from = from;
  row.to = to;
  row.hard = hard;
  row.at = absl::FromUnixSeconds(at);
  return row;
}

TEST(Replay, AgreesWithWhatWasDecided) {
  const Replay replay =
      ReplayTransitions(Results({kOk, kOk, kCritical, kCritical, kOk}), Confirm(2),
                        {Row(kNoData, kOk, true, 1), Row(kOk, kCritical, false, 3),
                         Row(kCritical, kCritical, true, 4), Row(kCritical, kOk, true, 5)});
  EXPECT_TRUE(replay.matches) << replay.difference;
  EXPECT_EQ(replay.moved, 0u);
}

TEST(Replay, SilenceMayHaveComeBetweenAnyTwoResults) {
  const Replay replay = ReplayTransitions(
      Results({kOk, kOk, kOk, kOk}), Confirm(2),
      {Row(kNoData, kOk, true, 1), Row(kOk, kNoData, true, 20), Row(kNoData, kOk, true, 3)});
  EXPECT_TRUE(replay.matches) << replay.difference;
  EXPECT_EQ(replay.moved, 0u);  // before the third
}

TEST(Replay, SilenceMayBeTheLastThing) {
  EXPECT_TRUE(ReplayTransitions(Results({kOk}), Confirm(1),
                                {Row(kNoData, kOk, true, 1), Row(kOk, kNoData, true, 20)})
                  .matches);
}

TEST(Replay, SilenceIsNotNoticedTwice) {
  EXPECT_FALSE(ReplayTransitions(Results({kOk}), Confirm(1),
                                 {Row(kNoData, kOk, true, 1), Row(kOk, kNoData, true, 20),
                                  Row(kNoData, kNoData, true, 30)})
                   .matches);
}

// After silence a failure has to be confirmed anew: the way back must be there too.
TEST(Replay, MissesTheReturnFromSilence) {
  const Replay replay =
      ReplayTransitions(Results({kOk, kCritical, kCritical}), Confirm(1),
                        {Row(kNoData, kOk, true, 1), Row(kOk, kNoData, true, 20)});
  EXPECT_FALSE(replay.matches);
  EXPECT_NE(replay.difference.find("no transition"), std::string::npos) << replay.difference;
}

TEST(Replay, SaysWhereTheyPart) {
  const Replay replay =
      ReplayTransitions(Results({kOk, kCritical, kCritical}), Confirm(2),
                        {Row(kNoData, kOk, true, 1), Row(kOk, kCritical, true, 2)});
  EXPECT_FALSE(replay.matches);
  EXPECT_NE(replay.difference.find("OK to CHECK_STATUS_CRITICAL (hard)"), std::string::npos)
      << replay.difference;
}

}  // namespace
}  // namespace muster::bench
