#include "lib/program/pages.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "lib/base/text.h"

namespace muster {
namespace {

// KiB of files that are mapped and resident.
long ResidentFiles() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stol(line.substr(8));
  }
  return 0;
}

const char* const kRelocated[] = {"one", "two", "three"};

TEST(StartPages, AreGivenBackAndEverythingStillWorks) {
  const long before = ResidentFiles();
  ReleaseStartPages();
  EXPECT_LT(ResidentFiles(), before);
  EXPECT_EQ(std::string(kRelocated[2]), "three");
  EXPECT_EQ(DurationText(absl::Minutes(90)), "1h30m");
  EXPECT_THROW(static_cast<void>(std::stol("no number")), std::invalid_argument);
}

}  // namespace
}  // namespace muster
