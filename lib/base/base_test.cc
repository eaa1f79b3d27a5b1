#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/secret.h"
#include "lib/testing/servers.h"

namespace muster {
namespace {

TEST(Status, AnnotationKeepsTheCodeAndSaysWhat) {
  const Status status = Annotate(NotFound("no file {}", "x"), "read settings");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "read settings: no file x");
  EXPECT_TRUE(Annotate(OkStatus(), "anything").ok());
}

TEST(ManualClock, SettingTheWallClockLeavesUptimeAlone) {
  ManualClock clock;
  const absl::Duration before = clock.Uptime();
  clock.Set(clock.Now() - absl::Hours(5));
  EXPECT_EQ(clock.Uptime(), before);
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Uptime(), before + absl::Seconds(3));
}

TEST(Backoff, GrowsToItsBoundAndNeverPasses) {
  const auto random = SeededRandom(5);
  const Backoff backoff{absl::Seconds(1), absl::Seconds(30)};
  absl::Duration longest = absl::ZeroDuration();
  for (uint32_t failures = 0; failures < 200; ++failures) {
    longest = std::max(longest, FullJitter(backoff, failures, *random));
  }
  EXPECT_LE(longest, absl::Seconds(30));
  EXPECT_GT(longest, absl::Seconds(20));
  EXPECT_LE(FullJitter(backoff, 0, *random), absl::Seconds(1));
}

TEST(Hash, KnownAnswers) {
  EXPECT_EQ(Sha256("abc").substr(0, 4), "\xba\x78\x16\xbf");
  EXPECT_EQ(NameUuid("job/slot"), NameUuid("job/slot"));
  EXPECT_EQ(NameUuid("x")[14], '5');
  EXPECT_EQ(RandomUuid()[14], '4');
  EXPECT_NE(RandomUuid(), RandomUuid());
  EXPECT_TRUE(SameBytes("ab", "ab"));
  EXPECT_FALSE(SameBytes("ab", "abc"));
}

TEST(Secret, IsReadFromItsFile) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("s"), "hunter2\nsecond line\n").ok());
  EXPECT_EQ(ReadSecretReference("file:" + folder.File("s"))->Reveal(), "hunter2");
}

TEST(Secret, OfAFileThatEveryoneReadsIsRefused) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("s"), "hunter2", 0644).ok());
  const Status refused = ReadSecretReference("file:" + folder.File("s")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Message(refused).find("hunter2"), std::string_view::npos);
}

TEST(Secret, ReferencesOfOtherShapesAreRefused) {
  for (const char* text : {"", "hunter2", "file:relative", "vault:x", "env:", "systemd:../x"}) {
    EXPECT_FALSE(ReadSecretReference(text).ok()) << text;
  }
}

TEST(File, IsReplacedWhole) {
  testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("f"), "old", 0600).ok());
  ASSERT_TRUE(WriteFileAtomically(folder.File("f"), "new", 0640).ok());
  EXPECT_EQ(*ReadFile(folder.File("f")), "new");
  EXPECT_EQ(ReadFile(folder.File("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(MakeFolder(folder.File("a/b/c")).ok());
  EXPECT_FALSE(MakeFolder(folder.File("f/b")).ok());
}

}  // namespace
}  // namespace muster
