#include "lib/net/silence.h"

#include <gtest/gtest.h>

namespace muster::net {
namespace {

using absl::Seconds;

class SilenceTest : public ::testing::Test {
 protected:
  // A round each second until then.
  void Until(int second) {
    while (second_ < second) watch_.Begin(Seconds(++second_));
  }

  SilenceWatch watch_{Seconds(13), Seconds(1)};
  SilenceWatch::Peer peer_;
  int second_ = 0;
};

TEST_F(SilenceTest, EndsWithTheFirstWord) {
  Until(100);
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(13), false));
  EXPECT_TRUE(watch_.IsStuck(peer_, Seconds(14), false));
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(0), false));
}

TEST_F(SilenceTest, DoesNotCountWhileWeSlept) {
  Until(100);
  second_ += 60;
  Until(173);
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(73), false)) << "it waited for our answer";
  Until(175);
  EXPECT_TRUE(watch_.IsStuck(peer_, Seconds(75), false));
}

TEST_F(SilenceTest, DoesNotCountBeforeTheFirstRound) {
  Until(10);
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(50), false));
}

TEST_F(SilenceTest, DoesNotCountWhileWhatCameIsUnread) {
  Until(100);
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(20), true)) << "we are late, and not the peer";
  Until(113);
  EXPECT_FALSE(watch_.IsStuck(peer_, Seconds(33), false)) << "it was answered late";
  SilenceWatch::Peer other;
  EXPECT_TRUE(watch_.IsStuck(other, Seconds(33), false));
  Until(114);
  EXPECT_TRUE(watch_.IsStuck(peer_, Seconds(34), false));
}

}  // namespace
}  // namespace muster::net
