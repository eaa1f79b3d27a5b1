#include "agent/tasks/backup/repository_files.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/testing/servers.h"

namespace muster::agent::backup {
namespace {

using ::testing::HasSubstr;

class RepositoryFiles : public ::testing::Test {
 protected:
  RepositoryFiles() {
    Write("config", "sealed");
    key_ = Add("keys", "a key");
    snapshot_ = Add("snapshots", "a snapshot");
    Add("index", "an index");
    Write("data/ab/pack", "which nobody compares");
  }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_.File(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void Remove(const std::string& path) { std::filesystem::remove_all(folder_.File(path)); }
  std::string Add(const std::string& kind, const std::string& text) {
    std::string path = kind + "/" + HexEncode(Sha256(text));
    Write(path, text);
    return path;
  }
  std::string Found() const {
    const Status found = LookForDamage(folder_.path());
    EXPECT_TRUE(found.ok() || absl::IsDataLoss(found)) << found;
    return std::string(Message(found));
  }

  testing::TempFolder folder_;
  std::string key_;
  std::string snapshot_;
};

TEST_F(RepositoryFiles, AreWhatTheirNamesSay) {
  EXPECT_EQ(Found(), "");
  Write("index/" + std::string(64, 'a') + "-tmp-1", "of somebody who writes");
  EXPECT_EQ(Found(), "");
}

TEST_F(RepositoryFiles, ThatAreSpoiltAreNamed) {
  for (const std::string& path : {key_, snapshot_}) {
    const std::string before = *ReadFile(folder_.File(path));
    Write(path, "spoilt");
    EXPECT_THAT(Found(), HasSubstr(path + " is not what its name says"));
    Write(path, before);
  }
}

TEST_F(RepositoryFiles, ThatAreMissingAreNamed) {
  Write("config", "");
  EXPECT_EQ(Found(), "its file config is empty");
  Remove("config");
  EXPECT_EQ(Found(), "its file config is missing");
  Write("config", "sealed");
  Remove(key_);
  EXPECT_THAT(Found(), HasSubstr("its folder keys holds no key"));
  Write(key_ + ".away", "under a name by which nobody looks for it");
  EXPECT_THAT(Found(), HasSubstr("its folder keys holds no key"));
}

TEST_F(RepositoryFiles, OfARepositoryThatWasNeverFinishedAreNoDamage) {
  for (const char* path : {"config", "snapshots", "index", "data"}) Remove(path);
  EXPECT_EQ(Found(), "");
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckNotBegun(folder_.path())));
  Remove("keys");
  EXPECT_TRUE(CheckNotBegun(folder_.path()).ok());
  Remove("");
  EXPECT_EQ(Found(), "");
  EXPECT_TRUE(CheckNotBegun(folder_.path()).ok());
}

}  // namespace
}  // namespace muster::agent::backup
