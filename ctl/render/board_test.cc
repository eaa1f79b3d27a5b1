#include "ctl/render/board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lib/wire/time.h"

namespace muster::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::WatchEvent Event(const std::string& check, v1::CheckStatus status) {
  v1::WatchEvent event;
  v1::State& state = *event.mutable_state();
  state.set_check(check);
  state.set_agent("web-1");
  state.set_state(status);
  *state.mutable_since() = *state.mutable_observed_at() = wire::ToProto(kNow - absl::Minutes(2));
  return event;
}

TEST(Board, ShowsTheWorstFirstAndCountsTheRest) {
  Board board;
  for (int i = 0; i < 20; ++i) board.Take(Event("a-" + std::to_string(i), v1::CHECK_STATUS_OK));
  board.Take(Event("disk", v1::CHECK_STATUS_WARNING));
  board.Take(Event("zz-api", v1::CHECK_STATUS_CRITICAL));
  const std::string text = board.Text({.now = kNow}, 10);
  EXPECT_THAT(text, HasSubstr("1 CRITICAL  1 WARNING  20 OK   2027-01-15T08:00:00Z\n\nCHECK"));
  EXPECT_LT(text.find("zz-api"), text.find("disk"));
  EXPECT_LT(text.find("disk"), text.find("a-0"));
  EXPECT_THAT(text, HasSubstr("… and 16 more, none worse than OK\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10);
}

TEST(Board, ForgetsWhatIsRemovedAndSeesWhatIsRefreshed) {
  Board board;
  EXPECT_THAT(board.Text({.now = kNow}, 24), HasSubstr("no check has reported yet"));
  board.Take(Event("api", v1::CHECK_STATUS_OK));
  v1::State later = Event("api", v1::CHECK_STATUS_CRITICAL).state();
  *later.mutable_observed_at() = wire::ToProto(kNow - absl::Seconds(3));
  board.Refresh(later);
  const std::string text = board.Text({.now = kNow}, 24);
  EXPECT_THAT(text, HasSubstr(" 3s "));
  EXPECT_THAT(text, Not(HasSubstr("CRITICAL")));  // that is for an event to say
  v1::WatchEvent gone;
  gone.mutable_removed()->set_check("api");
  gone.mutable_removed()->set_agent("web-1");
  board.Take(gone);
  EXPECT_TRUE(board.empty());
}

}  // namespace
}  // namespace muster::ctl
