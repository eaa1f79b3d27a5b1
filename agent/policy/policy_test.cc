#include "agent/policy/policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include <gmock/gmock.h>

#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Status AllowIp(const Policy& policy, const char* text) {
  sockaddr_storage storage{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
  } else {
    EXPECT_EQ(inet_pton(AF_INET6, text, &v6->sin6_addr), 1) << text;
    storage.ss_family = AF_INET6;
  }
  return policy.AllowAddress(reinterpret_cast<const sockaddr&>(storage));
}

Policy Parsed(std::string_view yaml) {
  StatusOr<Policy> policy = Policy::Parse(yaml, "policy.yaml");
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *policy : Policy::Default();
}

std::string Refusal(std::string_view yaml) {
  const StatusOr<Policy> policy = Policy::Parse(yaml, "policy.yaml");
  EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument) << yaml;
  return std::string(Message(policy.status()));
}

TEST(Policy, WithoutAFileAllowsEveryProbeButPlugins) {
  const Policy policy = Policy::Default();
  for (const char* kind : {"http", "tcp", "tls", "dns", "icmp", "postgres", "redis", "grpc", "host",
                           "process", "file"}) {
    EXPECT_TRUE(policy.AllowProbe(kind).ok()) << kind;
  }
  EXPECT_EQ(policy.AllowProbe("plugin").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(Message(policy.AllowProbe("plugin"))), HasSubstr("add plugin to probes"));
}

TEST(Policy, WithoutAFileAllowsLoopbackAndPrivateNetworksOnly) {
  const Policy policy = Policy::Default();
  for (const char* allowed : {"127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.31.255.255",
                              "192.168.0.1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"}) {
    EXPECT_TRUE(AllowIp(policy, allowed).ok()) << allowed;
  }
  for (const char* refused : {"8.8.8.8", "172.32.0.1", "0.0.0.0", "169.254.169.254", "2001:db8::1",
                              "::", "::ffff:8.8.8.8", "128.0.0.1"}) {
    EXPECT_EQ(AllowIp(policy, refused).code(), absl::StatusCode::kPermissionDenied) << refused;
  }
  EXPECT_THAT(std::string(Message(AllowIp(policy, "8.8.8.8"))),
              HasSubstr("add 8.8.8.8/32 to networks"));
}

TEST(Policy, ComparesNetworksBitByBit) {
  const Policy policy = Parsed("networks: [192.0.2.128/25, \"2001:db8:8000::/33\", 198.51.100.7]");
  EXPECT_TRUE(AllowIp(policy, "192.0.2.128").ok());
  EXPECT_FALSE(AllowIp(policy, "192.0.2.127").ok());
  EXPECT_TRUE(AllowIp(policy, "2001:db8:ffff::1").ok());
  EXPECT_FALSE(AllowIp(policy, "2001:db8:7fff::1").ok());
  EXPECT_TRUE(AllowIp(policy, "198.51.100.7").ok());
  EXPECT_FALSE(AllowIp(policy, "198.51.100.6").ok());
  EXPECT_FALSE(AllowIp(policy, "127.0.0.1").ok());
  EXPECT_TRUE(AllowIp(Parsed("networks: [0.0.0.0/0]"), "8.8.8.8").ok());
}

TEST(Policy, RefusesOtherAddressFamilies) {
  sockaddr address{};
  address.sa_family = AF_UNIX;
  EXPECT_FALSE(Policy::Default().AllowAddress(address).ok());
}

TEST(Policy, ErrorsNameLineAndColumn) {
  EXPECT_THAT(Refusal("probes: [http, smoke]"),
              StartsWith("policy.yaml:1:16: no probe is named 'smoke'"));
  EXPECT_THAT(Refusal("probes: [http]\nnetwork: []"),
              StartsWith("policy.yaml:2:1: no setting 'network'"));
  EXPECT_THAT(Refusal("\nnetworks: [10.0.0.0/33]"), StartsWith("policy.yaml:2:12: '10.0.0.0/33'"));
  EXPECT_THAT(Refusal("networks: [10.0.0.0/8x]"), HasSubstr("is not a network"));
  EXPECT_THAT(Refusal("networks: [\"::1/129\"]"), HasSubstr("is not a network"));
  EXPECT_THAT(Refusal("paths: /var"), StartsWith("policy.yaml:1:8: paths must be a list"));
  EXPECT_THAT(Refusal("programs: [ls]"), HasSubstr("'ls' is not an absolute path"));
  EXPECT_THAT(Refusal("systemd_credentials: maybe"), HasSubstr("must be true or false"));
  EXPECT_THAT(Refusal("probes: [http\n"), StartsWith("policy.yaml:"));
  EXPECT_THAT(Refusal("[http]"), HasSubstr("a policy is a mapping"));
  EXPECT_THAT(Refusal("probes: [http]\nprobes: [tcp]"), StartsWith("policy.yaml:2:1:"));
  EXPECT_THAT(Refusal("probes: [[http]]"), HasSubstr("must be text"));
}

TEST(Policy, WhatAFileLeavesOutKeepsTheBuiltInValue) {
  const Policy policy = Parsed("probes: [plugin]");
  EXPECT_TRUE(policy.AllowProbe("plugin").ok());
  EXPECT_FALSE(policy.AllowProbe("http").ok());
  EXPECT_TRUE(AllowIp(policy, "127.0.0.1").ok());
  EXPECT_TRUE(Parsed("").AllowProbe("http").ok());
}

TEST(Policy, FollowsLinksAndDotsBeforeItComparesPaths) {
  const testing::TempFolder folder;
  const std::string open = folder.File("open");
  const std::string shut = folder.File("shut");
  ASSERT_TRUE(MakeFolder(open).ok());
  ASSERT_TRUE(MakeFolder(shut).ok());
  ASSERT_EQ(symlink(shut.c_str(), (open + "/door").c_str()), 0);
  ASSERT_EQ(symlink(open.c_str(), folder.File("alias").c_str()), 0);
  const Policy policy = Parsed("paths: [" + folder.File("alias") + "/]");
  EXPECT_TRUE(policy.AllowPath(open).ok());
  EXPECT_TRUE(policy.AllowPath(open + "/file").ok());
  EXPECT_TRUE(policy.AllowPath(folder.File("alias") + "/a/b").ok());
  EXPECT_FALSE(policy.AllowPath(open + "/../shut/file").ok());
  EXPECT_FALSE(policy.AllowPath(open + "/door/file").ok());
  EXPECT_FALSE(policy.AllowPath(open + "er").ok());
  EXPECT_EQ(policy.AllowPath("open/file").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(policy.AllowPath(shut))), HasSubstr("to paths in policy.yaml"));
}

TEST(Policy, AllowsNoProgramUntilOneIsNamed) {
  EXPECT_FALSE(Policy::Default().AllowProgram("/bin/true").ok());
  const testing::TempFolder folder;
  const Policy policy = Parsed("programs: [" + folder.path() + "/plugins, /usr/bin/id]");
  EXPECT_TRUE(policy.AllowProgram(folder.File("plugins/check")).ok());
  EXPECT_TRUE(policy.AllowProgram("/usr/bin/id").ok());
  EXPECT_FALSE(policy.AllowProgram("/usr/bin/env").ok());
  EXPECT_FALSE(policy.AllowProgram(folder.File("plugins/../check")).ok());
}

TEST(Policy, AllowsTheSecretsThatItNames) {
  const testing::TempFolder folder;
  ASSERT_TRUE(WriteFileAtomically(folder.File("password"), "hunter2\n").ok());
  const Policy policy =
      Parsed("paths: [" + folder.path() + "]\nenv_secrets: [ORDERS]\nsystemd_credentials: false");
  const StatusOr<Secret> secret = policy.ReadSecret("file:" + folder.File("password"));
  ASSERT_TRUE(secret.ok()) << secret.status();
  EXPECT_EQ(secret->Reveal(), "hunter2");
  EXPECT_TRUE(policy.AllowSecret("env:ORDERS").ok());
  EXPECT_FALSE(policy.AllowSecret("env:PATH").ok());
  EXPECT_FALSE(policy.AllowSecret("systemd:orders").ok());
  EXPECT_TRUE(Policy::Default().AllowSecret("systemd:orders").ok());
  EXPECT_FALSE(policy.AllowSecret("file:/etc/shadow").ok());
  EXPECT_FALSE(policy.ReadSecret("file:/etc/shadow").ok());
  EXPECT_EQ(policy.AllowSecret("hunter2").code(), absl::StatusCode::kInvalidArgument);
}

TEST(Policy, LoadsOnlyAFileThatOthersCannotWrite) {
  const testing::TempFolder folder;
  const std::string path = folder.File("policy.yaml");
  EXPECT_EQ(Policy::Load(path).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileAtomically(path, "probes: [tcp]\n").ok());
  const StatusOr<Policy> policy = Policy::Load(path);
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_FALSE(policy->AllowProbe("http").ok());
  ASSERT_EQ(chmod(path.c_str(), 0620), 0);
  EXPECT_EQ(Policy::Load(path).status().code(), absl::StatusCode::kPermissionDenied);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  EXPECT_TRUE(Policy::Load(path).ok());
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path.c_str(), 1, 1), 0);
    EXPECT_EQ(Policy::Load(path).status().code(), absl::StatusCode::kPermissionDenied);
  }
}

TEST(Policy, AllowsNoJobUntilItsKindIsNamed) {
  EXPECT_THAT(std::string(Message(Policy::Default().AllowJob("command"))),
              HasSubstr("add command to jobs in"));
  EXPECT_TRUE(Parsed("jobs: [command]").AllowJob("command").ok());
  EXPECT_FALSE(Parsed("jobs: []").AllowJob("command").ok());
  EXPECT_THAT(Refusal("jobs: [comand]"), HasSubstr("no job is named 'comand'; there are command"));
}

TEST(Policy, AllowsTheCommandsThatItNamesByTheirTruePath) {
  const testing::TempFolder folder;
  ASSERT_TRUE(MakeFolder(folder.File("jobs")).ok());
  ASSERT_TRUE(MakeFolder(folder.File("other")).ok());
  for (const char* file : {"jobs/report", "other/tool", "jobs/loose"}) {
    ASSERT_TRUE(WriteFileAtomically(folder.File(file), "#!/bin/sh\n", 0755).ok());
  }
  ASSERT_EQ(symlink(folder.File("jobs/report").c_str(), folder.File("alias").c_str()), 0);
  ASSERT_EQ(symlink(folder.File("other/tool").c_str(), folder.File("jobs/door").c_str()), 0);
  const Policy policy = Parsed("commands: [" + folder.File("jobs") + "/]");
  EXPECT_EQ(*policy.AllowCommand(folder.File("jobs/report")), folder.File("jobs/report"));
  EXPECT_EQ(*policy.AllowCommand(folder.File("alias")), folder.File("jobs/report"));
  EXPECT_FALSE(policy.AllowCommand(folder.File("jobs/door")).ok());
  EXPECT_FALSE(policy.AllowCommand(folder.File("jobs/../other/tool")).ok());
  EXPECT_FALSE(policy.AllowCommand("report").ok());
  EXPECT_FALSE(policy.AllowCommand(folder.File("jobs")).ok()) << "no file";
  EXPECT_EQ(policy.AllowCommand(folder.File("jobs/none")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(policy.AllowCommand("/bin/true").status())),
              HasSubstr("to commands in policy.yaml"));
  EXPECT_FALSE(Policy::Default().AllowCommand("/bin/true").ok());
  EXPECT_FALSE(Parsed("programs: [/bin, /usr/bin]").AllowCommand("/bin/true").ok());
  EXPECT_TRUE(Parsed("commands: [/bin, /usr/bin]").AllowCommand("/bin/true").ok());
}

TEST(Policy, AllowsNoCommandThatOthersMayChange) {
  const testing::TempFolder folder;
  ASSERT_TRUE(MakeFolder(folder.File("jobs")).ok());
  const std::string file = folder.File("jobs/report");
  ASSERT_TRUE(WriteFileAtomically(file, "#!/bin/sh\n", 0755).ok());
  const Policy policy = Parsed("commands: [" + folder.path() + "]");
  ASSERT_TRUE(policy.AllowCommand(file).ok());
  ASSERT_EQ(chmod(file.c_str(), 0775), 0);
  EXPECT_THAT(std::string(Message(policy.AllowCommand(file).status())),
              HasSubstr("others may write " + file + ": run chmod go-w " + file));
  ASSERT_EQ(chmod(file.c_str(), 0755), 0);
  ASSERT_EQ(chmod(folder.File("jobs").c_str(), 0777), 0);
  EXPECT_FALSE(policy.AllowCommand(file).ok()) << "they may put another in its place";
  ASSERT_EQ(chmod(folder.File("jobs").c_str(), 0755), 0);
  EXPECT_TRUE(policy.AllowCommand(file).ok());
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file.c_str(), 1, 1), 0);
    EXPECT_THAT(std::string(Message(policy.AllowCommand(file).status())),
                HasSubstr("belongs to user 1: run chown root"));
  }
}

TEST(Policy, AllowsTheVariablesThatItNames) {
  const Policy policy = Parsed("environment: [DAY, ORDERS_*]");
  EXPECT_TRUE(policy.AllowVariable("DAY").ok());
  EXPECT_TRUE(policy.AllowVariable("ORDERS_TABLE").ok());
  EXPECT_FALSE(policy.AllowVariable("DAYS").ok());
  EXPECT_FALSE(policy.AllowVariable("ORDERS_A=B").ok());
  EXPECT_FALSE(policy.AllowVariable("").ok());
  EXPECT_FALSE(policy.AllowVariable("LD_PRELOAD").ok());
  EXPECT_FALSE(Policy::Default().AllowVariable("DAY").ok());
  EXPECT_THAT(Refusal("environment: [\"*\"]"), HasSubstr("'*' is not a variable"));
  EXPECT_THAT(Refusal("environment: [A-B]"), HasSubstr("'A-B' is not a variable"));
}

TEST(Policy, SaysWhoMayReportWhat) {
  const Policy policy =
      Parsed("reports: [\"deploy:nightly-*\", \"postgres:vacuum\", \"deploy:x\"]");
  EXPECT_TRUE(policy.TakesReports());
  EXPECT_TRUE(policy.AllowReport("root", "anything").ok());
  EXPECT_TRUE(policy.AllowReport("deploy", "nightly-report").ok());
  EXPECT_TRUE(policy.AllowReport("deploy", "x").ok());
  EXPECT_TRUE(policy.AllowReport("postgres", "vacuum").ok());
  EXPECT_FALSE(policy.AllowReport("postgres", "vacuum-2").ok());
  EXPECT_FALSE(policy.AllowReport("deplo", "nightly-report").ok());
  EXPECT_FALSE(policy.AllowReport("", "vacuum").ok());
  EXPECT_EQ(
      std::string(Message(policy.AllowReport("deploy", "vacuum"))),
      "this host does not let deploy report runs of vacuum: add \"deploy:vacuum\" to reports in "
      "policy.yaml");
  EXPECT_FALSE(Policy::Default().TakesReports());
  EXPECT_TRUE(Policy::Default().AllowReport("root", "anything").ok());
  EXPECT_FALSE(Policy::Default().AllowReport("deploy", "anything").ok());
  EXPECT_TRUE(Parsed("reports: [\"deploy:*\"]").AllowReport("deploy", "anything").ok());
  for (const char* bad : {"deploy", "\"*:x\"", "\":x\"", "\"deploy:\""}) {
    EXPECT_THAT(Refusal(fmt::format("reports: [{}]", bad)), HasSubstr("does not say who may"));
  }
}

}  // namespace
}  // namespace muster::agent
