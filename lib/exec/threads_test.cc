#include "lib/exec/threads.h"

#include <gtest/gtest.h>

#include <atomic>

#include <absl/synchronization/notification.h>

#include "lib/testing/servers.h"

namespace muster::exec {
namespace {

TEST(Pool, RunsWhatItTook) {
  std::atomic<int> ran = 0;
  {
    Pool pool("test", 3, 1000);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 500);
}

TEST(Pool, RefusesWhatIsOverItsBound) {
  absl::Notification go;
  Pool pool("test", 1, 2);
  ASSERT_TRUE(pool.Submit([&] { go.WaitForNotification(); }));
  ASSERT_TRUE(testing::Eventually([&] { return pool.queued() == 0; }));
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
  go.Notify();
}

TEST(Pool, StopDropsWhatWaits) {
  std::atomic<int> ran = 0;
  absl::Notification go;
  Pool pool("test", 1, 10);
  ASSERT_TRUE(pool.Submit([&] { go.WaitForNotification(); }));
  ASSERT_TRUE(testing::Eventually([&] { return pool.queued() == 0; }));
  ASSERT_TRUE(pool.Submit([&] { ++ran; }));
  Thread stopper("stop", [&] { pool.Stop(); });
  ASSERT_TRUE(testing::Eventually([&] { return pool.queued() == 0; }));
  go.Notify();
  stopper.Join();
  EXPECT_EQ(ran, 0);
  EXPECT_FALSE(pool.Submit([] {}));
}

TEST(PeriodicLoop, TicksByItselfAndWhenWoken) {
  std::atomic<int> ticks = 0;
  PeriodicLoop slow("slow", absl::Hours(1), [&] { ++ticks; });
  slow.Wake();
  EXPECT_TRUE(testing::Eventually([&] { return ticks == 1; }));
  PeriodicLoop quick("quick", absl::Milliseconds(1), [&] { ++ticks; });
  EXPECT_TRUE(testing::Eventually([&] { return ticks > 5; }));
  quick.Stop();
  const int stopped = ticks;
  testing::Pause(absl::Milliseconds(20));
  EXPECT_EQ(ticks, stopped);
}

}  // namespace
}  // namespace muster::exec
