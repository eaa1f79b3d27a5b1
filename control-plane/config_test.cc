#include "control-plane/config.h"

#include <gtest/gtest.h>

namespace muster::control {
namespace {

std::string Refusal(std::string_view yaml) {
  Config config;
  const Status status = ReadConfig(yaml, "control.yaml", config);
  return status.ok() ? "" : std::string(Message(status));
}

TEST(Config, ReadsWhatTheFileSetsAndKeepsTheRest) {
  Config config;
  config.data = "/var/lib/muster";
  ASSERT_TRUE(
      ReadConfig("listen: 10.0.0.1:7443\nflush: 30s\nadvertise: [a, 'b:9']\n", "f", config).ok());
  EXPECT_EQ(config.listen, "10.0.0.1:7443");
  EXPECT_EQ(config.flush, absl::Seconds(30));
  EXPECT_EQ(config.http_listen, "127.0.0.1:7480");
  EXPECT_EQ(config.StoreUrl(), "sqlite:/var/lib/muster/muster.db");
  EXPECT_EQ(Advertised(config.advertise, 7443), (std::vector<std::string>{"a:7443", "b:9"}));
}

TEST(Config, NamesPlaceAndRemedyOfAMistake) {
  EXPECT_NE(Refusal("listen: a\nlissten: b\n")
                .find("control.yaml:2:1: lissten: there is no such setting"),
            std::string::npos);
  EXPECT_NE(Refusal("flush: 5\n").find("control.yaml:1:8: flush"), std::string::npos);
  EXPECT_NE(Refusal("flush: 5h\n").find("between 100ms and 1m"), std::string::npos);
  EXPECT_NE(Refusal("advertise: ['https://x']").find("is not HOST"), std::string::npos);
  EXPECT_NE(Refusal("a: [").find("control.yaml:"), std::string::npos);
  EXPECT_NE(Refusal("just text").find("map"), std::string::npos);
}

TEST(Config, ARedisUrlThatCannotBeReadIsRefusedWithItsPlace) {
  EXPECT_EQ(Refusal("redis: redis://muster:geheim@r.example.org:6380/1\n"), "");
  EXPECT_NE(Refusal("store: x\nredis: http://r\n")
                .find("control.yaml:2:8: redis: the Redis URL cannot be read; write redis://"),
            std::string::npos);
}

TEST(Config, ConnectionsAreBoundedByTheDescriptorsUnlessTold) {
  Config config;
  EXPECT_EQ(LimitsOf(config, 20'000).all, 18'000U);
  EXPECT_EQ(LimitsOf(config, 20'000).per_address, 14'400U);
  EXPECT_EQ(LimitsOf(config, 1024).all, 512U) << "never none";
  ASSERT_TRUE(ReadConfig("maxConnections: 500\n", "control.yaml", config).ok());
  EXPECT_EQ(LimitsOf(config, 20'000).all, 500U);
  EXPECT_EQ(LimitsOf(config, 20'000).per_address, 400U);
  ASSERT_TRUE(ReadConfig("maxConnectionsPerAddress: 500\n", "control.yaml", config).ok());
  EXPECT_EQ(LimitsOf(config, 20'000).per_address, 500U);
  EXPECT_FALSE(ReadConfig("maxConnections: 0\n", "control.yaml", config).ok());
}

TEST(Config, AdvertisesThisHostWhenToldNothing) {
  ASSERT_EQ(Advertised({}, 7443).size(), 1u);
  EXPECT_NE(Advertised({}, 7443)[0].find(":7443"), std::string::npos);
}

}  // namespace
}  // namespace muster::control
