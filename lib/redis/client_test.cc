// The client against a real redis-server.
#include "lib/redis/client.h"

#include <signal.h>

#include <atomic>
#include <vector>

#include <gmock/gmock.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/exec/threads.h"
#include "lib/redis/test_redis.h"
#include "lib/testing/redis_server.h"

namespace muster::redis {
namespace {

using muster::testing::Eventually;
using muster::testing::FreePort;
using muster::testing::RedisServer;
using muster::testing::ServerProcess;
using muster::testing::TempFolder;
using muster::testing::TestCertificates;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Code = absl::StatusCode;

// The deadline that is tried, and how far a busy machine may be behind it.
constexpr absl::Duration kDeadline = absl::Milliseconds(100);
constexpr absl::Duration kSlack = absl::Seconds(3);

ClientOptions Hasty() {
  ClientOptions options = Patient();
  options.deadline = kDeadline;
  options.open_within = absl::Seconds(1);
  return options;
}

template <typename Body>
absl::Duration Took(const Body& body) {
  const absl::Duration began = SystemClock().Uptime();
  body();
  return SystemClock().Uptime() - began;
}

bool Up(const Client& client) {
  return Eventually([&] { return client.health().up; });
}

bool Away(const Client& client) {
  return Eventually([&] { return !client.health().up && !client.health().last_error.empty(); });
}

TEST(RedisClient, SpeaksOverTcpAndUnixSocket) {
  RedisServer server;
  for (const std::string& url : {server.url() + "/2", "redis+unix:" + server.socket() + "?db=2"}) {
    const auto client = Open(url);
    EXPECT_EQ(Ask(*client, {"SET", "k", "v"}), "OK");
    EXPECT_EQ(Ask(*client, {"GET", "k"}), "v");
    EXPECT_EQ(Ask(*client, {"GET", "none"}), "(nil)");
    EXPECT_EQ(Ask(*client, {"STRLEN", "k"}), "1");
    EXPECT_EQ(Ask(*client, {"CLIENT", "GETNAME"}), "muster");
    EXPECT_EQ(server.Cli({"-n", "2", "DEL", "k"}), "1");
  }
}

TEST(RedisClient, NamesNeedNotBeNumbers) {
  RedisServer server;
  const auto client = Open("redis://localhost:" + std::to_string(server.port()));
  EXPECT_EQ(Ask(*client, {"ECHO", "hello"}), "hello");
}

TEST(RedisClient, AHostWithoutAddressIsUnavailable) {
  const auto client = Open("redis://no-such-host.invalid:1");
  EXPECT_TRUE(Away(*client));
  EXPECT_THAT(Ask(*client, {"PING"}), HasSubstr("cannot resolve no-such-host.invalid"));
}

TEST(RedisClient, ABatchIsAnsweredInOrderRefusalsIncluded) {
  RedisServer server;
  const auto client = Open(server.url());
  const auto replies = client->Pipeline(
      {{"SET", "k", "v"}, {"INCR", "k"}, {"GET", "k"}, {"LRANGE", "none", "0", "-1"}});
  ASSERT_TRUE(replies.ok()) << Text(replies.status());
  ASSERT_EQ(replies->size(), 4U);
  EXPECT_EQ(*(*replies)[0].text(), "OK");
  EXPECT_THAT((*replies)[1].refusal()->text, HasSubstr("not an integer"));
  EXPECT_EQ(*(*replies)[2].text(), "v");
  EXPECT_TRUE((*replies)[3].array()->empty());
  EXPECT_EQ(client->Pipeline({})->size(), 0U);
  EXPECT_EQ(client->Pipeline({{"PING"}, {}}).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(Ask(*client, {"INCR", "k"}), StartsWith("UNAVAILABLE: INCR is refused: ERR value"));
}

TEST(RedisClient, ThreadsShareTheConnectionAndEachGetsItsOwnAnswer) {
  RedisServer server;
  const auto client = Open(server.url());
  std::atomic<int> wrong = 0;
  {
    std::vector<exec::Thread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back("caller", [&, t] {
        for (int i = 0; i < 200; ++i) {
          const std::string text = fmt::format("{}-{}", t, i);
          if (Ask(*client, {"ECHO", text}) != text) ++wrong;
        }
      });
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(client->health().connects, 1U);
}

TEST(RedisClient, SpeaksTlsToTheServerThatItMeans) {
  const TempFolder folder;
  const TestCertificates certificates(folder.path(), "DNS:localhost,IP:127.0.0.1");
  RedisServer server({}, certificates);
  const std::string port = std::to_string(server.tls_port());
  for (const std::string host : {"localhost", "127.0.0.1"}) {
    const auto client = Open("rediss://" + host + ":" + port + "?ca=" + certificates.ca);
    EXPECT_EQ(Ask(*client, {"ECHO", "hello"}), "hello") << host;
    const std::string large(300'000, 'x');
    EXPECT_EQ(Ask(*client, {"SET", "large", large}), "OK");
    EXPECT_EQ(Ask(*client, {"GET", "large"}), large);
  }
}

TEST(RedisClient, RefusesTlsThatProvesNothing) {
  const TempFolder folder;
  const TempFolder other_folder;
  const TempFolder old_folder;
  const TestCertificates elsewhere(folder.path(), "DNS:other.example.org");
  const TestCertificates stranger(other_folder.path(), "DNS:localhost");
  const TestCertificates expired(old_folder.path(), "DNS:localhost", -1);
  RedisServer server({}, elsewhere);
  RedisServer old_server({}, expired);
  const auto why = [&](uint16_t port, const std::string& options) {
    const auto client = Open(fmt::format("rediss://localhost:{}{}", port, options), Hasty());
    EXPECT_TRUE(Away(*client));
    return client->health().last_error;
  };
  EXPECT_THAT(why(server.tls_port(), "?ca=" + elsewhere.ca), HasSubstr("ostname mismatch"));
  EXPECT_THAT(why(server.tls_port(), "?ca=" + stranger.ca), HasSubstr("does not verify"));
  EXPECT_THAT(why(server.tls_port(), ""), HasSubstr("does not verify"));
  EXPECT_THAT(why(old_server.tls_port(), "?ca=" + expired.ca), HasSubstr("expired"));
  EXPECT_THAT(why(server.port(), "?ca=" + elsewhere.ca), HasSubstr("the TLS handshake"));
  const auto plain = Open(fmt::format("redis://localhost:{}", server.tls_port()), Hasty());
  EXPECT_TRUE(Away(*plain));
}

TEST(RedisClient, SignsInAsAUser) {
  RedisServer server;
  server.Cli({"ACL", "SETUSER", "ada", "on", ">s3cr/t", "~*", "+@all", "-flushall"});
  server.Cli({"CONFIG", "SET", "requirepass", "d3fault"});
  const std::string place = "127.0.0.1:" + std::to_string(server.port());
  EXPECT_EQ(Ask(*Open("redis://ada:s3cr%2Ft@" + place), {"ACL", "WHOAMI"}), "ada");
  EXPECT_EQ(Ask(*Open("redis://:d3fault@" + place), {"ACL", "WHOAMI"}), "default");
  EXPECT_THAT(Ask(*Open("redis://ada:s3cr%2Ft@" + place), {"FLUSHALL"}), HasSubstr("NOPERM"));

  const TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("p"), "s3cr/t\n").ok());
  EXPECT_EQ(
      Ask(*Open("redis+unix:" + server.socket() + "?user=ada&password_file=" + folder.File("p")),
          {"ACL", "WHOAMI"}),
      "ada");
}

TEST(RedisClient, AWrongPasswordIsSaidAndNotRepeated) {
  RedisServer server({"--requirepass", "r1ght"});
  const std::string place = "127.0.0.1:" + std::to_string(server.port());
  const auto wrong = Open("redis://:wr0ng@" + place);
  EXPECT_TRUE(Away(*wrong));
  EXPECT_THAT(wrong->health().last_error, HasSubstr("AUTH is refused: WRONGPASS"));
  EXPECT_THAT(wrong->health().last_error, Not(HasSubstr("wr0ng")));
  const auto none = Open("redis://" + place);
  EXPECT_TRUE(Away(*none));
  EXPECT_THAT(none->health().last_error, HasSubstr("NOAUTH"));
}

TEST(RedisClient, AServerThatRepeatsThePasswordIsNotQuoted) {
  RedisServer server({"--rename-command", "AUTH", ""});
  const auto client = Open("redis://:s3cr3t@127.0.0.1:" + std::to_string(server.port()));
  EXPECT_TRUE(Away(*client));
  EXPECT_THAT(client->health().last_error, HasSubstr("AUTH is refused"));
  EXPECT_THAT(client->health().last_error, Not(HasSubstr("s3cr3t")));
}

TEST(RedisClient, AChangedPasswordFileIsReadAtTheNextConnection) {
  const TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("p"), "old\n").ok());
  RedisServer server({"--requirepass", "old"});
  const auto client = Open(server.url() + "?password_file=" + folder.File("p"));
  EXPECT_EQ(Ask(*client, {"ECHO", "x"}), "x");
  ASSERT_TRUE(WriteFileAtomically(folder.File("p"), "new\n").ok());
  EXPECT_EQ(Ask(*client, {"CONFIG", "SET", "requirepass", "new"}), "OK");
  EXPECT_EQ(Ask(*client, {"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"}), "1");
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "y"}) == "y"; }));
}

TEST(RedisClient, NobodyThereIsUnavailableAtOnce) {
  const auto client = Open(fmt::format("redis://127.0.0.1:{}", FreePort()));
  EXPECT_TRUE(Away(*client));
  // Far less than one deadline a call, Patient() being 20 s.
  EXPECT_LT(Took([&] {
              for (int i = 0; i < 1000; ++i)
                EXPECT_EQ(client->Command({"PING"}).status().code(), Code::kUnavailable);
            }),
            absl::Seconds(10));
  EXPECT_THAT(Ask(*client, {"PING"}), HasSubstr("Connection refused"));
}

TEST(RedisClient, CallsFailWhileItIsGoneAndWorkAgainAfterwards) {
  RedisServer server;
  const auto client = Open(server.url());
  EXPECT_EQ(Ask(*client, {"SET", "k", "v"}), "OK");
  server.Kill();
  EXPECT_TRUE(Away(*client));
  EXPECT_EQ(client->Command({"GET", "k"}).status().code(), Code::kUnavailable);
  server.Start();
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"GET", "k"}) == "(nil)"; }));
  EXPECT_TRUE(client->health().up);
  EXPECT_EQ(client->health().connects, 2U);
}

TEST(RedisClient, ACallIsNoLongerThanItsDeadlineWhateverTheServerDoes) {
  RedisServer server;
  const auto client = Open(server.url(), Hasty());
  ASSERT_TRUE(Up(*client));
  server.process().Signal(SIGSTOP);
  std::vector<exec::Thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back("caller", [&] {
      for (int i = 0; i < 5; ++i) {
        EXPECT_LT(Took([&] {
                    EXPECT_EQ(client->Command({"GET", "k"}).status().code(), Code::kUnavailable);
                  }),
                  kDeadline + kSlack);
      }
    });
  }
  threads.clear();
  // It accepts connections, being stopped, and is away all the same: it does not answer.
  EXPECT_TRUE(Away(*client));
  EXPECT_THAT(client->health().last_error, HasSubstr("answer"));
  server.process().Signal(SIGCONT);
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "x"}) == "x"; }));
}

TEST(RedisClient, AnIdleClientNoticesThatTheServerIsSilent) {
  RedisServer server;
  ClientOptions options = Hasty();
  options.ping_every = absl::Milliseconds(50);
  const auto client = Open(server.url(), options);
  ASSERT_TRUE(Up(*client));
  server.process().Signal(SIGSTOP);
  EXPECT_TRUE(Away(*client));
  server.process().Signal(SIGCONT);
  EXPECT_TRUE(Up(*client));
}

TEST(RedisClient, ACommandThatTakesTooLongIsUnavailable) {
  RedisServer server;
  const auto client = Open(server.url(), Hasty());
  ASSERT_TRUE(Up(*client));
  EXPECT_LT(
      Took([&] {
        EXPECT_EQ(client->Command({"BLPOP", "none", "0"}).status().code(), Code::kUnavailable);
      }),
      kDeadline + kSlack);
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "x"}) == "x"; }));
}

TEST(RedisClient, CallsBeyondTheBoundAreRefused) {
  RedisServer server;
  ClientOptions options = Patient();
  options.most_waiting = 10;
  options.most_waiting_bytes = 1000;
  const auto client = Open(server.url(), options);
  EXPECT_EQ(client->Pipeline(std::vector<Argv>(11, {"PING"})).status().code(),
            Code::kResourceExhausted);
  EXPECT_EQ(client->Command({"ECHO", std::string(1000, 'x')}).status().code(),
            Code::kResourceExhausted);
  // What was answered makes room.
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(client->Pipeline(std::vector<Argv>(10, {"PING"})).ok());
}

TEST(RedisClient, AHugeReplyEndsTheConnectionNotTheProgram) {
  RedisServer server;
  ClientOptions options = Patient();
  options.reply = {.bytes = 100'000, .elements = 100};
  const auto client = Open(server.url(), options);
  EXPECT_EQ(Ask(*client, {"SETRANGE", "big", "200000", "x"}), "200001");
  EXPECT_EQ(client->Command({"GET", "big"}).status().code(), Code::kResourceExhausted);
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "x"}) == "x"; }));
  EXPECT_EQ(client->Command({"EVAL", "local t = {} for i = 1, 200 do t[i] = i end return t", "0"})
                .status()
                .code(),
            Code::kResourceExhausted);
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "x"}) == "x"; }));
  const std::string deep = "local t = {1} for i = 1, 20 do t = {t} end return t";
  EXPECT_EQ(client->Command({"EVAL", deep, "0"}).status().code(), Code::kUnavailable);
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"ECHO", "x"}) == "x"; }));
}

TEST(RedisClient, EndsAtOnceWhateverItWaitsFor) {
  RedisServer server;
  server.process().Signal(SIGSTOP);
  EXPECT_LT(Took([&] { Open(server.url()); }), kSlack);
  EXPECT_LT(Took([&] { Open("redis://192.0.2.1:6379"); }), kSlack);
  EXPECT_LT(Took([&] { Open("redis://redis.example.invalid"); }), kSlack);
  server.process().Signal(SIGCONT);
}

// A master, a replica of it, and two Sentinels of which one decides.
class Sentinels {
 public:
  explicit Sentinels(int down_after_ms = 500)
      : replica({"--replicaof", "127.0.0.1 " + std::to_string(master.port())}) {
    EXPECT_TRUE(Eventually([&] {
      return replica.Cli({"INFO", "replication"}).find("master_link_status:up") !=
             std::string::npos;
    }));
    for (const char* name : {"one", "two"}) {
      const std::string file = folder_.File(name);
      ports.push_back(FreePort());
      const std::string text = fmt::format(
          "port {}\nbind 127.0.0.1\ndir {}\nrequirepass s3ntinel\nsentinel monitor main 127.0.0.1 "
          "{} 1\nsentinel down-after-milliseconds main {}\nsentinel failover-timeout main 3000\n"
          "sentinel sentinel-pass s3ntinel\n",
          ports.back(), folder_.path(), master.port(), down_after_ms);
      EXPECT_TRUE(WriteFileAtomically(file, text).ok());
      processes_.push_back(std::make_unique<ServerProcess>(
          std::vector<std::string>{"/usr/bin/redis-server", file, "--sentinel"}, file + ".log"));
    }
    EXPECT_TRUE(WriteFileAtomically(folder_.File("password"), "s3ntinel\n").ok());
    for (const uint16_t port : ports) {  // they know of the replica and of one another
      EXPECT_TRUE(Eventually([&] {
        const std::string known =
            muster::testing::RunProgram(
                {"redis-cli", "-p", std::to_string(port), "SENTINEL", "MASTER", "main"}, "",
                {"REDISCLI_AUTH=s3ntinel"})
                .out;
        return known.find("num-slaves\n1") != std::string::npos &&
               known.find("num-other-sentinels\n1") != std::string::npos;
      })) << "port "
          << port;
    }
  }

  // `first` is asked before the two.
  std::string Url(const std::string& first = "", const std::string& name = "main") const {
    return fmt::format("redis+sentinel://{}127.0.0.1:{},127.0.0.1:{}/{}?sentinel_password_file={}",
                       first, ports[0], ports[1], name, folder_.File("password"));
  }

  RedisServer master;
  RedisServer replica;
  std::vector<uint16_t> ports;

 private:
  TempFolder folder_;
  std::vector<std::unique_ptr<ServerProcess>> processes_;
};

TEST(RedisSentinel, AnotherMasterIsFoundWhenTheOneIsKilled) {
  Sentinels all;
  // One that is not there costs a share of the time, no more.
  const auto client = Open(all.Url(fmt::format("127.0.0.1:{},", FreePort())));
  EXPECT_EQ(Ask(*client, {"SET", "k", "first"}), "OK");
  EXPECT_EQ(all.master.Cli({"GET", "k"}), "first");
  all.master.process().Signal(SIGKILL);
  EXPECT_TRUE(Eventually(
      [&] {
        return Ask(*client, {"SET", "k", "second"}) == "OK";
      },
      absl::Seconds(60)))
      << client->health().last_error;
  EXPECT_EQ(all.replica.Cli({"GET", "k"}), "second");
}

TEST(RedisSentinel, WhatIsNoMasterIsNotTakenForOne) {
  Sentinels all(60'000);
  RedisServer other;
  // The Sentinels take a minute to notice.
  all.master.Cli({"REPLICAOF", "127.0.0.1", std::to_string(other.port())});
  const auto client = Open(all.Url());
  EXPECT_TRUE(Away(*client));
  EXPECT_THAT(client->health().last_error,
              HasSubstr("the Sentinels name it as the master, but it is a slave"));
  all.master.Cli({"REPLICAOF", "NO", "ONE"});
  EXPECT_TRUE(Eventually([&] { return Ask(*client, {"SET", "k", "v"}) == "OK"; }));
}

TEST(RedisSentinel, SaysOfEachSentinelWhyItDoesNotHelp) {
  Sentinels all;
  const auto unknown = Open(all.Url("", "other"));
  EXPECT_TRUE(Away(*unknown));
  EXPECT_THAT(unknown->health().last_error,
              HasSubstr(fmt::format("redis://127.0.0.1:{}: this Sentinel watches no master named "
                                    "other; redis://127.0.0.1:{}: this",
                                    all.ports[0], all.ports[1])));
  const auto nobody = Open(fmt::format("redis+sentinel://127.0.0.1:{}/main", all.ports[0]));
  EXPECT_TRUE(Away(*nobody));
  EXPECT_THAT(nobody->health().last_error, HasSubstr("NOAUTH"));
  EXPECT_THAT(nobody->health().last_error, Not(HasSubstr("s3ntinel")));
}

}  // namespace
}  // namespace muster::redis
