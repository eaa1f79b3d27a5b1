// The probes that speak to a port: http, tcp, tls, dns, icmp, against real servers.
#include <cmath>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probes/dns_answer.h"
#include "agent/probes/escape.h"
#include "agent/probes/probe_fixture.h"
#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::agent {
namespace {

using namespace muster::agent::testing;
using muster::testing::Eventually;
using muster::testing::FreePort;
using muster::testing::ServerProcess;
using muster::testing::TempFolder;
using muster::testing::WaitForPort;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr absl::Duration kShort = absl::Milliseconds(200);

// nginx with a plain port, a TLS port, one with an expired and one with a short-lived certificate.
class NginxTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new Server; }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override { ASSERT_TRUE(WaitForPort(plain())) << server_->process->Log(); }

  struct Server {
    Server() {
      MakeCertificate(folder.File("good.pem"), folder.File("good.key"), -absl::Hours(48),
                      absl::Hours(24 * 90));
      MakeCertificate(folder.File("short.pem"), folder.File("short.key"), -absl::Hours(48),
                      absl::Hours(49));
      MakeCertificate(folder.File("expired.pem"), folder.File("expired.key"), -absl::Hours(48),
                      -absl::Hours(1));
      std::string tls;
      for (const auto& [name, port] :
           {std::pair{"good", good}, {"short", soon}, {"expired", expired}}) {
        tls += fmt::format(
            "server {{ listen 127.0.0.1:{0} ssl; ssl_certificate {1}.pem; ssl_certificate_key "
            "{1}.key;"
            " ssl_protocols TLSv1.2; location / {{ return 200 'secure'; }} }}\n",
            port, name);
      }
      const std::string config = fmt::format(
          "daemon off; master_process off; pid {0}/pid; error_log stderr; worker_processes 1;\n"
          "events {{ worker_connections 64; }}\n"
          "http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; "
          "fastcgi_temp_path {0};\n"
          "uwsgi_temp_path {0}; scgi_temp_path {0};\n"
          "server {{ listen 127.0.0.1:{1};\n"
          " location = / {{ add_header X-Node 'web-7'; return 200 'all is well'; }}\n"
          " location = /broken {{ return 503 'no database'; }}\n"
          " location = /moved {{ return 302 http://$host:$server_port/; }}\n"
          " location = /away {{ return 302 http://192.0.2.1/; }}\n"
          " location = /json {{ return 200 "
          "'{{\"status\":\"ok\",\"db\":{{\"lag\":3}},\"list\":[1,2]}}'; }}\n"
          " location = /auth {{ if ($http_authorization != \"$arg_want\") {{ return 401; }} return "
          "200; }}\n"
          " location = /basic {{ if ($http_authorization != 'Basic bWU6aHVudGVyMg==') {{ return "
          "401; }} return 200; }}\n"
          " location = /bearer {{ if ($http_authorization != 'Bearer hunter2') {{ return 401; }} "
          "return 200; }}\n"
          " location = /host {{ return 200 $http_host; }}\n"
          " location = /method {{ return 200 $request_method; }}\n"
          " location = /big {{ root {0}; }}\n"
          "}}\n{2}}}\n",
          folder.path(), port, tls);
      EXPECT_TRUE(WriteFileAtomically(folder.File("nginx.conf"), config).ok());
      EXPECT_TRUE(
          WriteFileAtomically(folder.File("big"), std::string(3 << 20, 'x') + "end", 0644).ok());
      process = std::make_unique<ServerProcess>(
          std::vector<std::string>{"/usr/sbin/nginx", "-p", folder.path(), "-c",
                                   folder.File("nginx.conf")},
          folder.File("log"));
    }
    const TempFolder folder;
    const uint16_t port = FreePort();
    const uint16_t good = FreePort();
    const uint16_t soon = FreePort();
    const uint16_t expired = FreePort();
    std::unique_ptr<ServerProcess> process;
  };

  static uint16_t plain() { return server_->port; }
  static std::string Http(const std::string& path, const std::string& rest = "") {
    return fmt::format("http {{ url: 'http://127.0.0.1:{}{}' {} }}", plain(), path, rest);
  }
  static std::string Https(uint16_t port, const std::string& name, const std::string& rest = "") {
    return fmt::format(
        "http {{ url: 'https://localhost:{}/' connect_to: '127.0.0.1' ca_file: '{}/{}.pem' {} }}",
        port, server_->folder.path(), name, rest);
  }
  static std::string Tls(uint16_t port, const std::string& name, const std::string& rest = "") {
    return fmt::format("tls {{ address: '127.0.0.1:{}' ca_file: '{}/{}.pem' {} }}", port,
                       server_->folder.path(), name, rest);
  }
  static Policy policy() { return OpenPolicy(server_->folder.path()); }

  static Server* server_;
};
NginxTest::Server* NginxTest::server_ = nullptr;

TEST_F(NginxTest, HttpIsOkWithPhasesAndNoTranscript) {
  const ProbeResult result = RunSpec(Http("/"), policy());
  EXPECT_EQ(result.status, v1::CHECK_STATUS_OK) << result.detail.DebugString();
  EXPECT_EQ(result.detail.summary(), "HTTP 200");
  EXPECT_EQ(result.detail.transcript(), "");
  for (const char* phase : {"resolve", "connect", "first_byte"})
    EXPECT_TRUE(HasPhase(result, phase)) << phase;
  EXPECT_EQ(MetricOf(result, "http_status"), 200);
}

TEST_F(NginxTest, HttpNamesTheStatusThatItDidNotExpect) {
  const ProbeResult result = RunSpec(Http("/broken"), policy());
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(result.detail.summary(), "status 503, expected 200 to 299");
  EXPECT_THAT(result.detail.transcript(), HasSubstr("no database"));
  EXPECT_THAT(result.detail.transcript(), HasSubstr("> GET http://127.0.0.1"));
  EXPECT_EQ(RunSpec(Http("/broken", "expect { status: 200 status: 503 }"), policy()).status,
            v1::CHECK_STATUS_OK);
  EXPECT_EQ(RunSpec(Http("/", "expect { status: 204 }"), policy()).detail.summary(),
            "status 200, expected 204");
}

TEST_F(NginxTest, HttpFollowsRedirectsOnlyWhenAsked) {
  EXPECT_EQ(RunSpec(Http("/moved"), policy()).detail.summary(), "status 302, expected 200 to 299");
  EXPECT_EQ(RunSpec(Http("/moved", "follow_redirects: 2"), policy()).detail.summary(), "HTTP 200");
  const ProbeResult away = RunSpec(Http("/away", "follow_redirects: 2"), policy());
  EXPECT_EQ(away.status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_THAT(away.detail.summary(), HasSubstr("add 192.0.2.1/32 to networks"));
}

TEST_F(NginxTest, HttpLooksAtHeadersBodyAndJson) {
  const auto complaint = [&](const std::string& path, const std::string& expect) {
    return RunSpec(Http(path, "expect { " + expect + " }"), policy()).detail.summary();
  };
  EXPECT_EQ(
      complaint("/", "body: 'is w.ll' body_not: 'error' headers { key: 'x-node' value: '^web-' }"),
      "HTTP 200");
  EXPECT_EQ(complaint("/", "body: '^ill'"), "the body does not match '^ill'");
  EXPECT_EQ(complaint("/", "body_not: 'well'"), "the body matches 'well', and must not");
  EXPECT_EQ(complaint("/", "headers { key: 'X-Node' value: 'db' }"),
            "header X-Node is 'web-7', expected 'db'");
  EXPECT_EQ(complaint("/", "headers { key: 'X-None' value: '' }"),
            "the answer has no header X-None");
  EXPECT_EQ(
      complaint("/json", "json { key: '/status' value: 'ok' } json { key: '/db/lag' value: '3' }"),
      "HTTP 200");
  EXPECT_EQ(complaint("/json", "json { key: '/db/lag' value: '0' }"),
            "/db/lag is '3', expected '0'");
  EXPECT_EQ(complaint("/json", "json { key: '/list/x' value: '0' }"),
            "the body has nothing at /list/x");
  EXPECT_EQ(complaint("/json", "json { key: '/list/9' value: '0' }"),
            "the body has nothing at /list/9");
  EXPECT_EQ(complaint("/", "json { key: '/a' value: '0' }"), "the body is not JSON");
}

TEST_F(NginxTest, HttpReadsOneMebibyteOfABody) {
  const ProbeResult result = RunSpec(Http("/big", "expect { body: 'end' }"), policy());
  EXPECT_EQ(result.detail.summary(), "the body does not match 'end'");
  EXPECT_EQ(MetricOf(result, "body_bytes"), 1 << 20);
  EXPECT_EQ(RunSpec(Http("/big"), policy()).status, v1::CHECK_STATUS_OK);
}

TEST_F(NginxTest, HttpSendsSecretsAndKeepsThem) {
  ASSERT_TRUE(WriteFileAtomically(server_->folder.File("pair"), "me:hunter2\n").ok());
  ASSERT_TRUE(WriteFileAtomically(server_->folder.File("token"), "hunter2\n").ok());
  const std::string pair =
      fmt::format("basic_auth {{ secret: 'file:{}' }}", server_->folder.File("pair"));
  const std::string token =
      fmt::format("bearer {{ secret: 'file:{}' }}", server_->folder.File("token"));
  EXPECT_EQ(RunSpec(Http("/basic", pair), policy()).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(RunSpec(Http("/bearer", token), policy()).status, v1::CHECK_STATUS_OK);
  const ProbeResult refused =
      RunSpec(Http("/basic", token + " headers { key: 'X-Api-Key' value: 'hunter3' }"), policy());
  EXPECT_EQ(refused.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(refused.detail.transcript(), Not(HasSubstr("hunter")));
  EXPECT_EQ(Refusal(Http("/basic", pair), OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(NginxTest, HttpConnectsElsewhereWithTheHostOfTheUrl) {
  const std::string spec = fmt::format(
      "http {{ url: 'http://shop.invalid:81/host' connect_to: '127.0.0.1:{}' expect {{ body: "
      "'^shop.invalid:81$' }} }}",
      plain());
  EXPECT_EQ(RunSpec(spec, policy()).detail.summary(), "HTTP 200");
  EXPECT_EQ(RunSpec(Http("/method", "method: 'POST' body: 'x' expect { body: '^POST$' }"), policy())
                .status,
            v1::CHECK_STATUS_OK);
}

TEST_F(NginxTest, HttpIgnoresProxiesOfTheEnvironment) {
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  EXPECT_EQ(RunSpec(Http("/"), policy()).status, v1::CHECK_STATUS_OK);
  unsetenv("http_proxy");
}

TEST_F(NginxTest, HttpWarnsOfSlowness) {
  const ProbeResult result =
      RunSpec(Http("/", "expect { latency_below { nanos: 1000 } }"), policy());
  EXPECT_EQ(result.status, v1::CHECK_STATUS_WARNING);
  EXPECT_THAT(result.detail.summary(), StartsWith("HTTP 200, but it took"));
}

TEST_F(NginxTest, HttpsLooksAtCertificates) {
  const ProbeResult good =
      RunSpec(Https(server_->good, "good", "expect { certificate_days_left: 14 }"), policy());
  EXPECT_EQ(good.detail.summary(), "HTTP 200");
  EXPECT_TRUE(HasPhase(good, "tls"));
  EXPECT_NEAR(MetricOf(good, "certificate_days_left"), 90, 0.1);
  const ProbeResult soon =
      RunSpec(Https(server_->soon, "short", "expect { certificate_days_left: 14 }"), policy());
  EXPECT_EQ(soon.status, v1::CHECK_STATUS_WARNING);
  EXPECT_THAT(soon.detail.summary(), HasSubstr("less than 14 days"));
  const ProbeResult expired = RunSpec(Https(server_->expired, "expired"), policy());
  EXPECT_EQ(expired.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(expired.detail.summary(), HasSubstr("expired"));
  EXPECT_EQ(RunSpec(Https(server_->good, "short"), policy()).status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(Refusal(Https(server_->good, "good"), OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(NginxTest, TlsLooksAtChainNameAndVersion) {
  const ProbeResult good = RunSpec(Tls(server_->good, "good"), policy());
  EXPECT_EQ(good.detail.summary(), "TLSv1.2, certificate good");
  for (const char* phase : {"resolve", "connect", "tls"})
    EXPECT_TRUE(HasPhase(good, phase)) << phase;
  EXPECT_EQ(RunSpec(Tls(server_->soon, "short"), policy()).status, v1::CHECK_STATUS_WARNING);
  EXPECT_EQ(RunSpec(Tls(server_->soon, "short", "days_left: 1"), policy()).status,
            v1::CHECK_STATUS_OK);
  const ProbeResult old = RunSpec(Tls(server_->good, "good", "minimum_version: '1.3'"), policy());
  EXPECT_EQ(old.detail.summary(), "the server chose TLSv1.2, older than TLS 1.3");
  const ProbeResult expired = RunSpec(Tls(server_->expired, "expired"), policy());
  EXPECT_EQ(expired.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(expired.detail.summary(), HasSubstr("certificate has expired"));
  const ProbeResult name =
      RunSpec(Tls(server_->good, "good", "server_name: 'shop.example'"), policy());
  EXPECT_THAT(name.detail.summary(), HasSubstr("hostname mismatch"));
  EXPECT_EQ(RunSpec(Tls(plain(), "good"), policy()).status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(Refusal(Tls(server_->good, "good"), OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(NginxTest, TcpSendsAndExpects) {
  const std::string start = fmt::format("tcp {{ address: '127.0.0.1:{}' ", plain());
  EXPECT_EQ(RunSpec(start + "}", policy()).detail.summary(), "connected");
  const std::string ask = start + "send: 'GET / HTTP/1.0\\\\r\\\\n\\\\r\\\\n' expect: ";
  const ProbeResult good = RunSpec(ask + "'200 OK' }", policy());
  EXPECT_EQ(good.detail.summary(), "answer as expected");
  EXPECT_TRUE(HasPhase(good, "first_byte"));
  const ProbeResult bad = RunSpec(ask + "'^220 ' }", policy());
  EXPECT_EQ(bad.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(bad.detail.summary(), HasSubstr("closed without an answer that matches '^220 '"));
  EXPECT_THAT(bad.detail.transcript(), HasSubstr("> GET / HTTP/1.0"));
  EXPECT_EQ(RunSpec(start + "latency_below { nanos: 1 } }", policy()).status,
            v1::CHECK_STATUS_WARNING);
}

TEST(NetworkProbes, NameWhoRefusesTheConnection) {
  const uint16_t port = FreePort();
  const std::string refused = fmt::format("connection refused by 127.0.0.1:{}", port);
  for (const char* kind : {"tcp", "tls"}) {
    const std::string spec = fmt::format("{} {{ address: '127.0.0.1:{}' }}", kind, port);
    const ProbeResult result = RunSpec(spec, OpenPolicy());
    EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
    EXPECT_EQ(result.detail.summary(), refused);
  }
  const std::string http = fmt::format("http {{ url: 'http://127.0.0.1:{}/' }}", port);
  EXPECT_EQ(RunSpec(http, OpenPolicy()).detail.summary(), refused);
}

TEST(NetworkProbes, NameThePhaseThatTimesOut) {
  const SilentServer server;
  const auto summary = [&](std::string_view format) {
    const ProbeResult result =
        RunSpec(fmt::format(fmt::runtime(format), server.port()), OpenPolicy(), kShort);
    EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
    EXPECT_THAT(result.detail.summary(), StartsWith("timed out after "));
    return result.detail.summary();
  };
  EXPECT_THAT(summary("http {{ url: 'http://127.0.0.1:{}/' }}"),
              HasSubstr("waiting for the first byte"));
  EXPECT_THAT(summary("http {{ url: 'https://127.0.0.1:{}/' }}"),
              HasSubstr("shaking hands with 127.0.0.1"));
  EXPECT_THAT(summary("tcp {{ address: '127.0.0.1:{}' expect: 'x' }}"),
              HasSubstr("waiting for an answer"));
  EXPECT_THAT(summary("tls {{ address: '127.0.0.1:{}' }}"),
              HasSubstr("shaking hands with 127.0.0.1"));
}

TEST(NetworkProbes, NameTheConnectionThatTimesOut) {
  const SilentServer server(0);
  std::vector<int> fillers;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(server.port());
  for (int i = 0; i < 8; ++i) {
    fillers.push_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    (void)!connect(fillers.back(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  for (const char* format :
       {"tcp {{ address: '127.0.0.1:{}' }}", "http {{ url: 'http://127.0.0.1:{}/' }}"}) {
    const ProbeResult result =
        RunSpec(fmt::format(fmt::runtime(format), server.port()), OpenPolicy(), kShort);
    EXPECT_THAT(result.detail.summary(), HasSubstr("while connecting to 127.0.0.1")) << format;
  }
  for (const int fd : fillers) close(fd);
}

TEST(NetworkProbes, GoOnlyWhereThePolicyLets) {
  for (const char* spec : {"tcp { address: '192.0.2.1:80' }", "tls { address: '192.0.2.1:443' }",
                           "http { url: 'http://192.0.2.1/' }", "icmp { host: '192.0.2.1' }",
                           "http { url: 'http://127.0.0.1/' connect_to: '192.0.2.1:80' }"}) {
    const ProbeResult result = RunSpec(spec, OpenPolicy());
    EXPECT_EQ(result.status, v1::CHECK_STATUS_UNKNOWN) << spec;
    EXPECT_THAT(result.detail.summary(), HasSubstr("add 192.0.2.1/32 to networks")) << spec;
  }
  EXPECT_EQ(Refusal("dns { name: 'x.test' server: '192.0.2.1' }", OpenPolicy()).code(),
            absl::StatusCode::kPermissionDenied);
}

TEST(NetworkProbes, AreRefusedWhereTheKindIs) {
  const StatusOr<Policy> none = Policy::Parse("probes: []", "policy.yaml");
  ASSERT_TRUE(none.ok());
  for (const char* spec :
       {"http { url: 'http://127.0.0.1/' }", "tcp { address: '127.0.0.1:1' }",
        "tls { address: '127.0.0.1:1' }", "dns { name: 'x' }", "icmp { host: '127.0.0.1' }",
        "postgres { dsn: 'host=127.0.0.1' }", "redis { address: '127.0.0.1:1' }",
        "grpc { address: '127.0.0.1:1' }", "host { load {} }", "process { name: 'x' }",
        "file { path: '/x' }", "plugin { command: '/x' }"}) {
    const Status refused = Refusal(spec, *none);
    EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << spec;
    EXPECT_THAT(std::string(Message(refused)), HasSubstr("to probes in policy.yaml")) << spec;
  }
}

TEST(NetworkProbes, RefuseSpecsThatMakeNoSense) {
  for (const char* spec :
       {"", "http { url: 'ftp://x/' }", "http { url: 'http://' }", "tcp { address: 'x' }",
        "http { url: 'http://127.0.0.1/' expect { body: '(' } }",
        "http { url: 'http://127.0.0.1/' expect { json { key: 'x' value: '' } } }",
        "http { url: 'http://127.0.0.1/' headers { key: 'A' value: 'b\\r\\nC: d' } }",
        "tcp { address: '127.0.0.1:1' send: '\\\\q' }", "dns { name: 'x' type: 'SOA' }",
        "dns { name: 'x' server: 'ns.example' }", "postgres { ping {} }", "host {}",
        "process {}"}) {
    EXPECT_EQ(Refusal(spec, OpenPolicy()).code(), absl::StatusCode::kInvalidArgument) << spec;
  }
}

TEST(NetworkProbes, SayWhenANameDoesNotResolve) {
  const ProbeResult result =
      RunSpec("tcp { address: 'nobody.invalid:80' }", OpenPolicy(), absl::Seconds(3));
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(result.detail.summary(), HasSubstr("nobody.invalid"));
}

TEST(Unescape, ReadsEscapes) {
  EXPECT_EQ(*Unescape("a\\r\\n\\t\\x41\\\\"), "a\r\n\tA\\");
  EXPECT_FALSE(Unescape("\\").ok());
  EXPECT_FALSE(Unescape("\\x4").ok());
  EXPECT_FALSE(Unescape("\\q").ok());
}

class DnsTest : public ::testing::Test {
 protected:
  DnsTest()
      : port_(FreePort()),
        server_({"/usr/bin/env", "python3", MUSTER_SOURCE_DIR "/tests/support/dns_server.py",
                 std::to_string(port_)},
                folder_.File("log")) {
    EXPECT_TRUE(Eventually([&] { return server_.Log().find("ready") != std::string::npos; }))
        << server_.Log();
  }
  ProbeResult Ask(const std::string& rest, absl::Duration within = absl::Seconds(10)) {
    return RunSpec(fmt::format("dns {{ server: '127.0.0.1:{}' {} }}", port_, rest), OpenPolicy(),
                   within);
  }
  const TempFolder folder_;
  const uint16_t port_;
  ServerProcess server_;
};

TEST_F(DnsTest, FindsEveryTypeOfRecord) {
  for (const char* spec :
       {"name: 'www.example.test' expect: '192.0.2.1' expect: '192.0.2.2'",
        "name: 'www.example.test' type: 'AAAA' expect: '2001:db8::1'",
        "name: 'alias.example.test' type: 'CNAME' expect: 'WWW.example.test.'",
        "name: 'example.test' type: 'MX' expect: '10 mail.example.test'",
        "name: 'example.test' type: 'TXT' expect: 'v=spf1 -all'",
        "name: 'example.test' type: 'NS' expect: 'ns1.example.test'", "name: 'www.example.test'"}) {
    const ProbeResult result = Ask(spec);
    EXPECT_EQ(result.status, v1::CHECK_STATUS_OK) << spec << result.detail.DebugString();
    EXPECT_TRUE(HasPhase(result, "query"));
  }
  EXPECT_EQ(Ask("name: 'www.example.test'").detail.summary(), "A www.example.test resolves");
}

TEST_F(DnsTest, SaysWhatIsWrong) {
  EXPECT_EQ(Ask("name: 'www.example.test' expect: '192.0.2.9'").detail.summary(),
            "A www.example.test is 192.0.2.1, 192.0.2.2, expected 192.0.2.9 among them");
  EXPECT_EQ(Ask("name: 'missing.example.test'").detail.summary(),
            "missing.example.test: no such name (NXDOMAIN)");
  EXPECT_THAT(Ask("name: 'broken.example.test'").detail.summary(), HasSubstr("SERVFAIL"));
  EXPECT_EQ(Ask("name: 'empty.example.test'").detail.summary(),
            "empty.example.test has no A record");
  EXPECT_EQ(Ask("name: 'www.example.test' latency_below { nanos: 1 }").status,
            v1::CHECK_STATUS_WARNING);
  const ProbeResult silent = Ask("name: 'silent.example.test'", kShort);
  EXPECT_EQ(silent.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(silent.detail.summary(),
              HasSubstr(fmt::format("while asking 127.0.0.1:{} for A silent.example.test", port_)));
}

TEST(DnsAnswers, RefusesDamagedReplies) {
  EXPECT_FALSE(ParseDnsAnswers("", 1).ok());
  EXPECT_FALSE(ParseDnsAnswers(std::string("\0\0\x81\x80\0\1\0\1\0\0\0\0", 12), 1).ok());
  const std::string cut =
      std::string("\0\0\x81\x80\0\0\0\1\0\0\0\0\0\0\1\0\1\0\0\0\x3c\0\x09\x7f", 24);
  EXPECT_FALSE(ParseDnsAnswers(cut, 1).ok());
}

TEST(IcmpProbe, PingsLoopbackOrSaysHowToAllowIt) {
  const ProbeResult result = RunSpec("icmp { host: '127.0.0.1' count: 2 }", OpenPolicy());
  if (result.status == v1::CHECK_STATUS_UNKNOWN) {
    EXPECT_THAT(result.detail.summary(), HasSubstr("net.ipv4.ping_group_range"));
    return;
  }
  EXPECT_EQ(result.status, v1::CHECK_STATUS_OK) << result.detail.DebugString();
  EXPECT_EQ(result.detail.summary(), "echoes come back");
  EXPECT_EQ(MetricOf(result, "loss_percent"), 0);
  EXPECT_EQ(RunSpec("icmp { host: '127.0.0.1' count: 1 latency_below { nanos: 1 } }", OpenPolicy())
                .status,
            v1::CHECK_STATUS_WARNING);
  // The third request has not left when time is up.
  const ProbeResult cut =
      RunSpec("icmp { host: '127.0.0.1' count: 3 }", OpenPolicy(), absl::Milliseconds(300));
  EXPECT_EQ(cut.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(cut.detail.summary(), HasSubstr("33 % are lost"));
}

}  // namespace
}  // namespace muster::agent
