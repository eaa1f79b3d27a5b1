#include "lib/settings/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster {
namespace {

using ::testing::HasSubstr;

TEST(Settings, KeepWhatTheFileDoesNotName) {
  absl::Duration flush = absl::Seconds(5);
  std::string store = "default";
  Settings settings;
  settings.Add("flush", settings::Duration(flush, absl::Seconds(1), absl::Seconds(60)));
  settings.Add("store", settings::Text(store));
  ASSERT_TRUE(settings.Read("flush: 7s", "f").ok());
  EXPECT_EQ(flush, absl::Seconds(7));
  EXPECT_EQ(store, "default");
  EXPECT_TRUE(settings.Read("", "f").ok());
}

TEST(Settings, AMistakeInsideAGroupHasItsOwnPlace) {
  uint64_t bound = 0;
  Settings inner;
  inner.Add("bound", settings::Size(bound, 1 << 20, 1 << 30));
  Settings settings;
  settings.Add("spool", settings::Group(std::move(inner)));
  EXPECT_EQ(Message(settings.Read("spool:\n  bound: 1KiB\n", "f.yaml")),
            "f.yaml:2:10: spool.bound: must be between 1MiB and 1GiB");
  EXPECT_THAT(std::string(Message(settings.Read("spool: 3", "f.yaml"))),
              HasSubstr("f.yaml:1:8: spool: must be a map"));
}

TEST(Settings, SizesHaveUnits) {
  EXPECT_EQ(*ParseSize("7"), 7u);
  EXPECT_EQ(*ParseSize("3KiB"), 3072u);
  EXPECT_EQ(*ParseSize("1GiB"), uint64_t{1} << 30);
  EXPECT_FALSE(ParseSize("1GB").ok());
  EXPECT_FALSE(ParseSize("").ok());
  EXPECT_FALSE(ParseSize("99999999999999GiB").ok());
  for (const char* text : {"1GiB", "3MiB", "5KiB", "7B"})
    EXPECT_EQ(SizeText(*ParseSize(text)), text);
}

}  // namespace
}  // namespace muster
