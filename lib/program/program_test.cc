#include "lib/program/program.h"

#include <gtest/gtest.h>

#include "lib/testing/servers.h"

namespace muster {
namespace {

TEST(ExitCode, IsThatOfTheReference) {
  EXPECT_EQ(ExitCode(OkStatus()), 0);
  EXPECT_EQ(ExitCode(Internal("x")), 1);
  EXPECT_EQ(ExitCode(InvalidArgument("x")), 2);
  EXPECT_EQ(ExitCode(NotFound("x")), 3);
  EXPECT_EQ(ExitCode(PermissionDenied("x")), 4);
  EXPECT_EQ(ExitCode(AlreadyExists("x")), 5);
  EXPECT_EQ(ExitCode(Unavailable("x")), 6);
  EXPECT_EQ(ExitCode(Unknown("it may have happened")), 1);
}

TEST(FolderLock, IsHeldByOneAtATime) {
  testing::TempFolder folder;
  {
    const auto held = FolderLock::Take(folder.path(), "muster-agent");
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(FolderLock::Take(folder.path(), "muster-agent").status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(FolderLock::Take(folder.path(), "muster-agent").ok());
  EXPECT_FALSE(FolderLock::Take(folder.path() + "/missing", "muster-agent").ok());
}

TEST(StopSignals, AreWaitedForAsLongAsIsSaid) {
  const StopSignals signals;
  EXPECT_EQ(signals.WaitFor(absl::ZeroDuration()), std::nullopt);
  kill(getpid(), SIGTERM);
  EXPECT_EQ(signals.WaitFor(absl::Hours(1)), "SIGTERM");
  kill(getpid(), SIGINT);
  EXPECT_EQ(signals.Wait(), "SIGINT");
}

}  // namespace
}  // namespace muster
