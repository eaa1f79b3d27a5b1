// The probes that know a server's language: postgres, redis, grpc.
#include <grpcpp/grpcpp.h>

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>

#include "agent/probes/probe_fixture.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::agent {
namespace {

using namespace muster::agent::testing;
using muster::testing::Eventually;
using muster::testing::FreePort;
using muster::testing::PostgresServer;
using muster::testing::ServerProcess;
using muster::testing::TempFolder;
using muster::testing::WaitForPort;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr absl::Duration kShort = absl::Milliseconds(300);

class PostgresTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new PostgresServer(
        {"archive_mode=on", "archive_command='/bin/false'", "max_connections=20"});
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  ProbeResult Look(const std::string& look, absl::Duration within = absl::Seconds(10)) {
    return RunSpec(fmt::format("postgres {{ dsn: '{}' {} }}", server_->dsn(), look), OpenPolicy(),
                   within);
  }
  static PostgresServer* server_;
};
PostgresServer* PostgresTest::server_ = nullptr;

TEST_F(PostgresTest, Pings) {
  const ProbeResult result = Look("ping {}");
  EXPECT_EQ(result.status, v1::CHECK_STATUS_OK) << result.detail.DebugString();
  EXPECT_EQ(result.detail.summary(), "PostgreSQL answers");
  for (const char* phase : {"resolve", "connect", "query"})
    EXPECT_TRUE(HasPhase(result, phase)) << phase;
}

TEST_F(PostgresTest, ComparesAnswers) {
  EXPECT_EQ(Look("query { sql: 'select 42' equals: '42' }").status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(Look("query { sql: 'select 41' equals: '42' }").detail.summary(),
            "the answer is '41', expected '42'");
  EXPECT_EQ(Look("query { sql: 'select 1 where false' }").detail.summary(),
            "the statement gave no row");
  const std::string ranges = "warning { at_most: 10 } critical { at_least: 0 at_most: 20 } }";
  EXPECT_EQ(Look("query { sql: 'select 10' " + ranges).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(Look("query { sql: 'select 10.5' " + ranges).status, v1::CHECK_STATUS_WARNING);
  EXPECT_EQ(Look("query { sql: 'select 21' " + ranges).detail.summary(),
            "the answer is 21, expected 0 to 20");
  EXPECT_THAT(Look("query { sql: 'select now()::date' " + ranges).detail.summary(),
              HasSubstr("is not a number"));
}

TEST_F(PostgresTest, ChangesNothing) {
  const ProbeResult write = Look("query { sql: 'create table t (i int)' }");
  EXPECT_EQ(write.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(write.detail.summary(), HasSubstr("read-only transaction"));
  EXPECT_THAT(Look("query { sql: 'commit; create table t (i int)' }").detail.summary(),
              HasSubstr("multiple commands"));
  EXPECT_THAT(Look("query { sql: 'selec 1' }").detail.summary(), HasSubstr("syntax error"));
}

TEST_F(PostgresTest, TimesOutWithinAStatement) {
  const ProbeResult result = Look("query { sql: 'select pg_sleep(60)' }", kShort);
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(result.detail.summary(), HasSubstr("while waiting for PostgreSQL's answer"));
}

TEST_F(PostgresTest, TimesOutWhileConnecting) {
  const SilentServer silent;
  const ProbeResult result =
      RunSpec(fmt::format("postgres {{ dsn: 'host=127.0.0.1 port={} user=x' }}", silent.port()),
              OpenPolicy(), kShort);
  EXPECT_THAT(result.detail.summary(),
              HasSubstr("while connecting to PostgreSQL at 127.0.0.1 port"));
}

TEST_F(PostgresTest, CountsConnections) {
  EXPECT_EQ(Look("connections {}").detail.summary(), "connections are free");
  const ProbeResult full = Look("connections { warning_percent: 1 critical_percent: 2 }");
  EXPECT_EQ(full.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(full.detail.summary(), HasSubstr("of 20 connections are in use"));
  EXPECT_EQ(Look("connections { warning_percent: 1 critical_percent: 100 }").status,
            v1::CHECK_STATUS_WARNING);
}

TEST_F(PostgresTest, SeesTheArchiverFail) {
  server_->Sql("create table if not exists a (i int); select pg_switch_wal()");
  EXPECT_TRUE(Eventually([&] { return Look("archiver {}").status == v1::CHECK_STATUS_CRITICAL; }));
  const ProbeResult result = Look("archiver {}");
  EXPECT_THAT(result.detail.summary(), StartsWith("the last attempt to archive 0"));
  EXPECT_GE(MetricOf(result, "archive_failures"), 1);
}

TEST_F(PostgresTest, SeesTheOldestTransaction) {
  EXPECT_EQ(Look("oldest_transaction {}").detail.summary(), "no transaction is too old");
  const TempFolder folder;
  const ServerProcess session({"/usr/bin/psql", server_->dsn(), "-c", "begin; select pg_sleep(60)"},
                              folder.File("log"));
  const std::string look =
      "oldest_transaction { warning { nanos: 1000000 } critical { nanos: 2000000 } }";
  EXPECT_TRUE(Eventually([&] { return Look(look).status == v1::CHECK_STATUS_CRITICAL; }))
      << session.Log();
  EXPECT_THAT(Look(look).detail.summary(), HasSubstr("the oldest transaction is"));
}

TEST_F(PostgresTest, MissesStandbys) {
  EXPECT_EQ(Look("replication {}").detail.summary(), "the standbys keep up");
  EXPECT_EQ(Look("replication { standbys_at_least: 1 }").detail.summary(),
            "0 standbys are streaming, expected at least 1");
}

TEST_F(PostgresTest, KeepsThePasswordToItself) {
  const std::string dsn = fmt::format(
      "host=127.0.0.1 port={} user=nobody password=hunter2 dbname=postgres", server_->port());
  const ProbeResult result = RunSpec("postgres { dsn: '" + dsn + "' }", OpenPolicy());
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(result.detail.summary(), HasSubstr("role \"nobody\" does not exist"));
  EXPECT_THAT(result.detail.DebugString(), Not(HasSubstr("hunter2")));
  const ProbeResult odd = RunSpec("postgres { dsn: 'password=hunter2 nonsense' }", OpenPolicy());
  EXPECT_EQ(odd.status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_THAT(odd.detail.DebugString(), Not(HasSubstr("hunter2")));
}

TEST_F(PostgresTest, SaysThatAPasswordIsWrong) {
  const std::string hba = server_->Sql("show hba_file");
  const std::string path = hba.substr(0, hba.find('\n'));
  const StatusOr<std::string> before = ReadFile(path);
  if (!before.ok()) GTEST_SKIP() << before.status();
  server_->Sql("drop role if exists guest; create role guest login password 'right'");
  FILE* out = fopen(path.c_str(), "w");
  ASSERT_NE(out, nullptr);
  fputs(("host all guest 127.0.0.1/32 scram-sha-256\n" + *before).c_str(), out);
  fclose(out);
  server_->Sql("select pg_reload_conf()");
  const TempFolder folder;
  const auto look = [&](const std::string& password) {
    EXPECT_TRUE(WriteFileAtomically(folder.File("dsn"),
                                    fmt::format("host=127.0.0.1 port={} user=guest password={} "
                                                "dbname=postgres\n",
                                                server_->port(), password))
                    .ok());
    return RunSpec("postgres { connection { secret: 'file:" + folder.File("dsn") + "' } }",
                   OpenPolicy(folder.path()));
  };
  EXPECT_TRUE(Eventually([&] { return look("hunter2").status == v1::CHECK_STATUS_CRITICAL; }));
  const ProbeResult wrong = look("hunter2");
  EXPECT_THAT(wrong.detail.summary(),
              HasSubstr("password authentication failed for user \"guest\""));
  EXPECT_THAT(wrong.detail.DebugString(), Not(HasSubstr("hunter2")));
  EXPECT_EQ(look("right").status, v1::CHECK_STATUS_OK);
}

TEST_F(PostgresTest, SaysThatTheServerIsStopped) {
  const ProbeResult result = RunSpec(
      fmt::format("postgres {{ dsn: 'host=127.0.0.1 port={} user=x' }}", FreePort()), OpenPolicy());
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(result.detail.summary(), HasSubstr("Connection refused"));
}

TEST_F(PostgresTest, GoesOnlyWhereThePolicyLets) {
  const auto summary = [](const std::string& dsn) {
    const ProbeResult result = RunSpec("postgres { dsn: '" + dsn + "' }", OpenPolicy());
    EXPECT_EQ(result.status, v1::CHECK_STATUS_UNKNOWN) << dsn;
    return result.detail.summary();
  };
  EXPECT_THAT(summary("host=192.0.2.1"), HasSubstr("add 192.0.2.1/32 to networks"));
  EXPECT_THAT(summary("host=127.0.0.1 hostaddr=192.0.2.1"), HasSubstr("192.0.2.1/32"));
  EXPECT_THAT(summary("host=/tmp"), HasSubstr("add /tmp to paths"));
  EXPECT_THAT(summary("user=x"), HasSubstr("to paths"));
  EXPECT_THAT(summary("host=127.0.0.1 sslkey=/etc/shadow"), HasSubstr("/etc/shadow"));
  EXPECT_THAT(summary("host=127.0.0.1,127.0.0.2"), HasSubstr("one host"));
  EXPECT_THAT(summary("host=127.0.0.1 service=x"), HasSubstr("service"));
  EXPECT_EQ(Refusal("postgres { connection { secret: 'file:/etc/dsn' } }", OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

class RedisServer {
 public:
  explicit RedisServer(const std::vector<std::string>& settings = {}) : port_(FreePort()) {
    std::vector<std::string> argv = {"/usr/bin/redis-server",
                                     "--port",
                                     std::to_string(port_),
                                     "--bind",
                                     "127.0.0.1",
                                     "--save",
                                     "",
                                     "--dir",
                                     folder_.path(),
                                     "--unixsocket",
                                     folder_.File("socket"),
                                     "--repl-diskless-sync-delay",
                                     "0"};
    argv.insert(argv.end(), settings.begin(), settings.end());
    process_ = std::make_unique<ServerProcess>(argv, folder_.File("log"));
    EXPECT_TRUE(WaitForPort(port_)) << process_->Log();
  }
  ProbeResult Look(const std::string& rest, absl::Duration within = absl::Seconds(10)) const {
    return RunSpec(fmt::format("redis {{ address: '127.0.0.1:{}' {} }}", port_, rest),
                   OpenPolicy(folder_.path()), within);
  }
  const TempFolder& folder() const { return folder_; }
  uint16_t port() const { return port_; }
  ServerProcess& process() { return *process_; }

 private:
  TempFolder folder_;
  uint16_t port_;
  std::unique_ptr<ServerProcess> process_;
};

TEST(RedisProbe, LooksAtAMaster) {
  const RedisServer redis({"--maxmemory", "1gb"});
  const ProbeResult good = redis.Look("role: 'master' memory_warning_percent: 90");
  EXPECT_EQ(good.status, v1::CHECK_STATUS_OK) << good.detail.DebugString();
  EXPECT_EQ(good.detail.summary(), "redis master answers");
  for (const char* phase : {"connect", "ping", "info"}) EXPECT_TRUE(HasPhase(good, phase)) << phase;
  EXPECT_EQ(redis.Look("role: 'replica'").detail.summary(),
            "redis is a master, expected a replica");
  EXPECT_EQ(redis.Look("replicas_at_least: 1").detail.summary(),
            "0 replicas are connected, expected at least 1");
  const ProbeResult by_path =
      RunSpec("redis { address: 'unix:" + redis.folder().File("socket") + "' }",
              OpenPolicy(redis.folder().path()));
  EXPECT_EQ(by_path.status, v1::CHECK_STATUS_OK) << by_path.detail.DebugString();
}

TEST(RedisProbe, GradesMemory) {
  const RedisServer redis({"--maxmemory", "1200kb"});
  EXPECT_EQ(redis.Look("memory_warning_percent: 1 memory_critical_percent: 2").status,
            v1::CHECK_STATUS_CRITICAL);
  const ProbeResult warning = redis.Look("memory_warning_percent: 1");
  EXPECT_EQ(warning.status, v1::CHECK_STATUS_WARNING);
  EXPECT_THAT(warning.detail.summary(), HasSubstr("% of maxmemory is in use"));
}

TEST(RedisProbe, WatchesTheLinkOfAReplica) {
  RedisServer master;
  const RedisServer replica({"--replicaof", fmt::format("127.0.0.1 {}", master.port())});
  EXPECT_TRUE(Eventually([&] {
    return replica.Look("role: 'replica' master_silence_at_most { seconds: 60 }").status ==
           v1::CHECK_STATUS_OK;
  })) << replica.Look("").detail.DebugString();
  EXPECT_TRUE(Eventually(
      [&] { return master.Look("replicas_at_least: 1").status == v1::CHECK_STATUS_OK; }));
  master.process().Stop();
  EXPECT_TRUE(Eventually([&] { return replica.Look("").status == v1::CHECK_STATUS_CRITICAL; }));
  EXPECT_EQ(replica.Look("").detail.summary(),
            fmt::format("the link to the master 127.0.0.1:{} is down", master.port()));
}

TEST(RedisProbe, Authenticates) {
  const RedisServer redis({"--requirepass", "hunter2"});
  const auto auth = [&](const std::string& password) {
    EXPECT_TRUE(WriteFileAtomically(redis.folder().File("secret"), password + "\n").ok());
    return redis.Look("auth { secret: 'file:" + redis.folder().File("secret") + "' }");
  };
  EXPECT_EQ(auth("hunter2").status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(auth("default:hunter2").status, v1::CHECK_STATUS_OK);
  const ProbeResult wrong = auth("hunter3");
  EXPECT_EQ(wrong.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(wrong.detail.summary(), HasSubstr("WRONGPASS"));
  EXPECT_THAT(wrong.detail.DebugString(), Not(HasSubstr("hunter")));
  EXPECT_THAT(redis.Look("").detail.summary(), HasSubstr("NOAUTH"));
}

TEST(RedisProbe, SaysWhatStandsInItsWay) {
  const uint16_t port = FreePort();
  EXPECT_EQ(RunSpec(fmt::format("redis {{ address: '127.0.0.1:{}' }}", port), OpenPolicy())
                .detail.summary(),
            fmt::format("connection refused by 127.0.0.1:{}", port));
  const SilentServer silent;
  const std::string spec = fmt::format("redis {{ address: '127.0.0.1:{}' }}", silent.port());
  EXPECT_THAT(RunSpec(spec, OpenPolicy(), kShort).detail.summary(),
              HasSubstr("while waiting for PONG"));
  EXPECT_EQ(RunSpec("redis { address: '192.0.2.1:6379' }", OpenPolicy()).status,
            v1::CHECK_STATUS_UNKNOWN);
  EXPECT_EQ(Refusal("redis { address: 'unix:/run/redis' }", OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

class HealthService final : public grpc::health::v1::Health::Service {
 public:
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override {
    if (request->service() == "stuck") release_.WaitForNotificationWithTimeout(absl::Seconds(20));
    if (request->service() == "nobody") return {grpc::StatusCode::NOT_FOUND, "unknown service"};
    response->set_status(request->service() == "ill"
                             ? grpc::health::v1::HealthCheckResponse::NOT_SERVING
                             : grpc::health::v1::HealthCheckResponse::SERVING);
    return grpc::Status::OK;
  }
  void Release() { release_.Notify(); }

 private:
  absl::Notification release_;
};

class GrpcTest : public ::testing::Test {
 protected:
  GrpcTest() {
    MakeCertificate(folder_.File("cert.pem"), folder_.File("key.pem"), -absl::Hours(1),
                    absl::Hours(24));
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back(
        {*ReadFile(folder_.File("key.pem")), *ReadFile(folder_.File("cert.pem"))});
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &plain_);
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), &tls_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~GrpcTest() override {
    service_.Release();
    server_->Shutdown();
  }
  ProbeResult Look(const std::string& rest, absl::Duration within = absl::Seconds(10)) {
    return RunSpec(fmt::format("grpc {{ address: '127.0.0.1:{}' {} }}", plain_, rest), OpenPolicy(),
                   within);
  }
  const TempFolder folder_;
  HealthService service_;
  std::unique_ptr<grpc::Server> server_;
  int plain_ = 0;
  int tls_ = 0;
};

TEST_F(GrpcTest, TakesTheServersWord) {
  const ProbeResult good = Look("service: 'orders'");
  EXPECT_EQ(good.status, v1::CHECK_STATUS_OK) << good.detail.DebugString();
  EXPECT_EQ(good.detail.summary(), "SERVING");
  for (const char* phase : {"connect", "check"}) EXPECT_TRUE(HasPhase(good, phase)) << phase;
  const ProbeResult ill = Look("service: 'ill'");
  EXPECT_EQ(ill.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(ill.detail.summary(), "NOT_SERVING: ill");
  EXPECT_EQ(Look("service: 'nobody'").detail.summary(), "the server knows no service 'nobody'");
}

TEST_F(GrpcTest, TimesOut) {
  EXPECT_THAT(Look("service: 'stuck'", kShort).detail.summary(),
              HasSubstr("while waiting for the health of"));
  const SilentServer silent;
  EXPECT_THAT(RunSpec(fmt::format("grpc {{ address: '127.0.0.1:{}' }}", silent.port()),
                      OpenPolicy(), kShort)
                  .detail.summary(),
              HasSubstr("while connecting to"));
}

TEST_F(GrpcTest, VerifiesTls) {
  const auto look = [&](const std::string& rest) {
    return RunSpec(fmt::format("grpc {{ address: '127.0.0.1:{}' tls: true ca_file: '{}' {} }}",
                               tls_, folder_.File("cert.pem"), rest),
                   OpenPolicy(folder_.path()));
  };
  EXPECT_EQ(look("server_name: 'localhost'").detail.summary(), "SERVING");
  EXPECT_EQ(look("server_name: 'shop.example'").status, v1::CHECK_STATUS_CRITICAL);
}

TEST_F(GrpcTest, SaysWhatStandsInItsWay) {
  const uint16_t port = FreePort();
  const ProbeResult refused =
      RunSpec(fmt::format("grpc {{ address: '127.0.0.1:{}' }}", port), OpenPolicy());
  EXPECT_EQ(refused.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(refused.detail.summary(), fmt::format("connection refused by 127.0.0.1:{}", port));
  EXPECT_EQ(RunSpec("grpc { address: '192.0.2.1:1' }", OpenPolicy()).status,
            v1::CHECK_STATUS_UNKNOWN);
  EXPECT_EQ(
      Refusal("grpc { address: '127.0.0.1:1' tls: true ca_file: '/etc/shadow' }", OpenPolicy())
          .code(),
      absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace muster::agent
