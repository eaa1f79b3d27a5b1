#include "lib/base/text.h"

#include <gtest/gtest.h>

#include "lib/base/random.h"

namespace muster {
namespace {

TEST(Duration, ReadsWhatOperatorsWrite) {
  EXPECT_EQ(*ParseDuration("10s"), absl::Seconds(10));
  EXPECT_EQ(*ParseDuration("1h30m"), absl::Minutes(90));
  EXPECT_EQ(*ParseDuration("500ms"), absl::Milliseconds(500));
  EXPECT_EQ(*ParseDuration("1.5s"), absl::Milliseconds(1500));
  EXPECT_EQ(*ParseDuration("7d"), absl::Hours(168));
  EXPECT_EQ(*ParseDuration("0"), absl::ZeroDuration());
}

TEST(Duration, RefusesWhatIsNone) {
  for (const char* text :
       {"", "10", "s", "1.s.", "ten", "10 s", "-5s", "1e9d", "99999999999d", "5x"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(Duration, ReadsBackWhatItWrote) {
  const auto random = SeededRandom(11);
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration duration = random->Below(absl::Hours(24 * 400));
    EXPECT_EQ(*ParseDuration(DurationText(duration)), duration) << DurationText(duration);
  }
}

TEST(Duration, IsShortForPeople) {
  EXPECT_EQ(ShortDuration(absl::Seconds(93784)), "1d2h");
  EXPECT_EQ(ShortDuration(absl::Milliseconds(850)), "850ms");
  EXPECT_EQ(ShortDuration(absl::Seconds(5) + absl::Milliseconds(3)), "5s");
  EXPECT_EQ(ShortDuration(absl::ZeroDuration()), "0s");
}

TEST(Time, ReadsBackWhatItWrote) {
  const absl::Time time = absl::FromUnixMicros(1'800'000'000'250'000);
  EXPECT_EQ(*ParseTime(TimeText(time)), time);
  EXPECT_FALSE(ParseTime("yesterday").ok());
}

TEST(HostPort, ReadsAddresses) {
  EXPECT_EQ(ParseHostPort("db-1:7443")->port, 7443);
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  EXPECT_EQ(FormatHostPort(*ParseHostPort("[::1]:80")), "[::1]:80");
  for (const char* text : {"db-1", "db-1:", "db-1:70000", "::1:80", "a:b", ""}) {
    EXPECT_FALSE(ParseHostPort(text).ok()) << text;
  }
}

TEST(Text, OneLineHoldsNoControlCharactersAndIsUtf8) {
  EXPECT_EQ(OneLine("a\nb\tc\x1b[31m"), "a b c [31m");
  EXPECT_EQ(OneLine("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(OneLine("\xff\xc0\xaf"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(CleanText("a\nb\x07"), "a\nb ");
}

TEST(Text, TruncateKeepsWholeCharacters) {
  EXPECT_EQ(Truncate("gr\xc3\xbc", 3), "gr");
  EXPECT_EQ(Truncate("abc", 9), "abc");
}

TEST(Text, EncodingsReadBack) {
  const std::string bytes = RandomBytes(33);
  EXPECT_EQ(*HexDecode(HexEncode(bytes)), bytes);
  EXPECT_EQ(*Base64UrlDecode(Base64UrlEncode(bytes)), bytes);
  EXPECT_FALSE(HexDecode("abc").ok());
  EXPECT_FALSE(HexDecode("zz").ok());
  EXPECT_FALSE(Base64UrlDecode("a+b/").ok());
}

}  // namespace
}  // namespace muster
