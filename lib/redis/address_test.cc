#include "lib/redis/address.h"

#include <gmock/gmock.h>

#include "lib/base/file.h"
#include "lib/redis/test_redis.h"

namespace muster::redis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Refused(std::string_view url, UrlFrom from = UrlFrom::kSettings) {
  const StatusOr<Address> address = Address::Parse(url, from);
  EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << url;
  return std::string(Message(address.status()));
}

TEST(RedisAddress, ReadsEveryForm) {
  const Address plain = At("redis://redis.example.org");
  EXPECT_EQ(plain.name(), "redis://redis.example.org:6379");
  EXPECT_FALSE(plain.has_password());

  const Address tls = At("rediss://ada@[2001:db8::1]:7000/3?ca=/etc/ca%20s.pem&password_file=/p");
  EXPECT_EQ(tls.name(), "rediss://[2001:db8::1]:7000/3");
  EXPECT_EQ(tls.scheme(), Scheme::kTls);
  EXPECT_EQ(tls.ca_file(), "/etc/ca s.pem");
  EXPECT_EQ(tls.user(), "ada");
  EXPECT_TRUE(tls.has_password());

  const Address local = At("redis+unix:/run/redis.sock?db=2&user=ada&password_file=/p");
  EXPECT_EQ(local.name(), "redis+unix:/run/redis.sock");
  EXPECT_EQ(local.path(), "/run/redis.sock");
  EXPECT_EQ(local.db(), 2);
  EXPECT_EQ(local.user(), "ada");
}

TEST(RedisAddress, ReadsSentinels) {
  const Address found =
      At("rediss+sentinel://ada@s-1,[2001:db8::1]:7000,s-3:1/main/2?ca=/ca.pem&password_file=/p"
         "&sentinel_user=eve&sentinel_password_file=/q");
  EXPECT_EQ(found.name(), "rediss+sentinel://s-1:26379,[2001:db8::1]:7000,s-3:1/main/2");
  EXPECT_EQ(found.Copy().name(), found.name());
  EXPECT_EQ(found.master(), "main");
  ASSERT_EQ(found.sentinels().size(), 3U);
  const Address sentinel = found.SentinelAt(found.sentinels()[0]);
  EXPECT_EQ(sentinel.name(), "rediss://s-1:26379");
  EXPECT_EQ(sentinel.user(), "eve");
  EXPECT_EQ(sentinel.ca_file(), "/ca.pem");
  const Address server = found.ServerAt({"10.0.0.2", 6380});
  EXPECT_EQ(server.name(), "rediss://10.0.0.2:6380/2");
  EXPECT_EQ(server.user(), "ada");
  EXPECT_TRUE(server.sentinels().empty());
}

TEST(RedisAddress, RefusesSentinelsThatCannotBeAsked) {
  EXPECT_THAT(Refused("redis+sentinel://s-1,s-2"), HasSubstr("sentinel monitor MASTER"));
  EXPECT_THAT(Refused("redis+sentinel://s-1/"), HasSubstr("sentinel monitor MASTER"));
  for (const char* url :
       {"redis+sentinel:///main", "redis+sentinel://s-1,/main", "redis+sentinel://s-1:0/main",
        "redis+sentinel://s-1/main/x", "redis+sentinel://s-1/ma in",
        "redis+sentinel://s-1/main?sentinel_user=eve", "redis+sentinel://s-1/main?ca=/ca.pem",
        "redis+sentinel://s-1/main?sentinel_password_file=q", "redis://h?sentinel_user=eve"}) {
    Refused(url);
  }
}

TEST(RedisAddress, KeepsThePasswordToItself) {
  const Address address = At("redis://ada:s3cr%40t@h:1");
  EXPECT_EQ(address.name(), "redis://h:1");
  EXPECT_EQ(address.ReadPassword()->Reveal(), "s3cr@t");
  EXPECT_EQ(address.Copy().ReadPassword()->Reveal(), "s3cr@t");
  EXPECT_EQ(At("redis://:s3cr@h").ReadPassword()->Reveal(), "s3cr");
}

TEST(RedisAddress, APasswordOnTheCommandLineIsRefusedWithTheRemedy) {
  const std::string said = Refused("redis://ada:s3cr3t@h:1", UrlFrom::kCommandLine);
  EXPECT_THAT(said, HasSubstr("password_file=FILE"));
  EXPECT_THAT(said, Not(HasSubstr("s3cr3t")));
  EXPECT_TRUE(Address::Parse("redis://ada@h:1?password_file=/run/p", UrlFrom::kCommandLine).ok());
}

TEST(RedisAddress, AUrlThatCannotBeReadIsNotRepeated) {
  for (const char* url : {
           "redis://ada:s3cr@t@h:1",
           "redis://ada:s3cr/t@h:1",
           "redis://ada:1/s3cr@h",
           "redis://ada:1?s3cr@h",
           "redis://ada:s3cr#t@h:1",
           "redis://ada:s3cr%t@h",
           "s3cr",
           "redis://ada:s3cr",
           "redis://h:1?password=s3cr",
           "redis://h/s3cr",
           "redis://h:1s3cr",
           "redis://s3cr\n",
           "redis+unix:s3cr",
           "redis://[::1]s3cr",
           "redis://ada:s3cr@",
           "redis://ada:s3cr@h?password_file=/p",
           "rediss://h?ca=/s3cr&ca=/s3cr",
           "redis://h?ca=/s3cr",
           "redis://h?password_file=s3cr",
           "redis://s3cr@h",
       }) {
    EXPECT_THAT(Refused(url), Not(HasSubstr("s3cr"))) << url;
  }
}

TEST(RedisAddress, RefusesNumbersOutOfRange) {
  for (const char* url : {"redis://h:0", "redis://h:65536", "redis://h:-1", "redis://h:1/65536",
                          "redis://h:1/-1", "redis://h:", "redis://h:1/x", "redis://h:+1"}) {
    Refused(url);
  }
  EXPECT_EQ(At("redis://h:1/").db(), 0);
}

TEST(RedisAddress, ReadsThePasswordFileAnew) {
  const muster::testing::TempFolder folder;
  const std::string file = folder.File("password");
  const Address address = At("redis://h?password_file=" + file);
  EXPECT_EQ(address.CheckFiles().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(file, "old\n").ok());
  EXPECT_EQ(address.ReadPassword()->Reveal(), "old");
  ASSERT_TRUE(WriteFileAtomically(file, "new\n").ok());
  EXPECT_EQ(address.ReadPassword()->Reveal(), "new");
  ASSERT_TRUE(WriteFileAtomically(file, "new\n", 0644).ok());
  EXPECT_THAT(std::string(Message(address.CheckFiles())), HasSubstr("chmod o-r"));
  EXPECT_EQ(OpenClient(address).status().code(), absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace muster::redis
