#include "lib/wire/backup_ids.h"

#include <gtest/gtest.h>

namespace muster::wire {
namespace {

const std::string kHex(64, 'a');
constexpr char kFull[] = "20261128-020000F";
constexpr char kNext[] = "20261128-020000F_20261128-140000I";

TEST(BackupIds, AreHexDigitsOrLabels) {
  for (const std::string& id : {kHex, std::string(kFull), std::string(kNext),
                                std::string("20261128-020000F_20261128-140000D")}) {
    EXPECT_TRUE(IsSnapshotId(id)) << id;
  }
  for (const char* id : {"", "20261128-020000", "20261128-020000I", "20261128-020000F_",
                         "20261128-020000F_20261128-140000F", "20261128-02000xF", "../../etc"}) {
    EXPECT_FALSE(IsSnapshotId(id)) << id;
  }
}

TEST(BackupIds, ALabelIsCalledByItsServerToo) {
  EXPECT_EQ(BackupKey(kHex, kHex), kHex);
  const std::string key = BackupKey(kNext, "main:7713270384534136766");
  EXPECT_EQ(key, "20261128-020000F_20261128-140000I@main:7713270384534136766");
  EXPECT_TRUE(IsBackupKey(key));
  EXPECT_EQ(SnapshotOf(key), kNext);
  EXPECT_EQ(SnapshotOf(kHex), kHex);
  EXPECT_FALSE(IsBackupKey(kNext));
  EXPECT_FALSE(IsBackupKey(BackupKey(kNext, "a/b:1")));
  EXPECT_FALSE(IsBackupKey(BackupKey(kNext, "main")));
}

}  // namespace
}  // namespace muster::wire
