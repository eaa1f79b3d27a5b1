#include "lib/exec/lanes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include <absl/synchronization/notification.h>

#include "lib/testing/servers.h"

namespace muster::exec {
namespace {

using ::testing::ElementsAre;

TEST(Lanes, RunEverythingThatTheyTook) {
  std::atomic<int> ran = 0;
  Lanes lanes("test", {.threads = 3, .threads_a_lane = 2});
  for (int i = 0; i < 500; ++i)
    ASSERT_TRUE(lanes.Submit(std::string(1, static_cast<char>('a' + i % 7)), [&] { ++ran; }));
  EXPECT_TRUE(testing::Eventually([&] { return ran == 500; }));
  EXPECT_EQ(lanes.queued(), 0U);
}

TEST(Lanes, OneThatIsSlowLeavesThreadsToOthers) {
  absl::Notification go;
  std::atomic<int> slow = 0;
  Lanes lanes("test", {.threads = 3, .threads_a_lane = 2});
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(lanes.Submit("slow", [&] {
      ++slow;
      go.WaitForNotification();
    }));
  }
  ASSERT_TRUE(testing::Eventually([&] { return slow == 2; }));
  absl::Notification served;
  ASSERT_TRUE(lanes.Submit("quick", [&] { served.Notify(); }));
  EXPECT_TRUE(served.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_EQ(slow, 2);
  go.Notify();
  EXPECT_TRUE(testing::Eventually([&] { return slow == 10; }));
}

TEST(Lanes, TakeTurns) {
  absl::Notification go;
  std::vector<std::string> order;  // of one thread
  Lanes lanes("test", {.threads = 1, .threads_a_lane = 1});
  ASSERT_TRUE(lanes.Submit("first", [&] { go.WaitForNotification(); }));
  ASSERT_TRUE(testing::Eventually([&] { return lanes.queued() == 0; }));
  for (const char* task : {"a1", "a2", "a3", "b1", "b2", "c1"}) {
    ASSERT_TRUE(lanes.Submit(std::string(task, 1), [&order, task] { order.emplace_back(task); }));
  }
  absl::Notification done;
  ASSERT_TRUE(lanes.Submit("a", [&] { done.Notify(); }));
  go.Notify();
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_THAT(order, ElementsAre("a1", "b1", "c1", "a2", "b2", "a3"));
}

TEST(Lanes, RefuseWhatIsOverTheirBound) {
  absl::Notification go;
  Lanes lanes("test", {.threads = 1, .threads_a_lane = 1, .most_queued = 2});
  ASSERT_TRUE(lanes.Submit("a", [&] { go.WaitForNotification(); }));
  ASSERT_TRUE(testing::Eventually([&] { return lanes.queued() == 0; }));
  EXPECT_TRUE(lanes.Submit("a", [] {}));
  EXPECT_TRUE(lanes.Submit("b", [] {}));
  EXPECT_FALSE(lanes.Submit("c", [] {}));
  go.Notify();
}

TEST(Lanes, DropWhatWaitsWhenTheyStop) {
  std::atomic<int> ran = 0;
  absl::Notification go;
  Lanes lanes("test", {.threads = 1, .threads_a_lane = 1});
  ASSERT_TRUE(lanes.Submit("a", [&] { go.WaitForNotification(); }));
  ASSERT_TRUE(testing::Eventually([&] { return lanes.queued() == 0; }));
  ASSERT_TRUE(lanes.Submit("b", [&] { ++ran; }));
  Thread stopper("stop", [&] { lanes.Stop(); });
  ASSERT_TRUE(testing::Eventually([&] { return lanes.queued() == 0; }));
  go.Notify();
  stopper.Join();
  EXPECT_EQ(ran, 0);
  EXPECT_FALSE(lanes.Submit("b", [] {}));
}

}  // namespace
}  // namespace muster::exec
