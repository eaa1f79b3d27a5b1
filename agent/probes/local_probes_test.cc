// The probes that look at the host itself: host, process, file, plugin.
#include <cmath>
#include <csignal>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/probes/perfdata.h"
#include "agent/probes/probe_fixture.h"
#include "lib/base/file.h"
#include "lib/testing/servers.h"

namespace muster::agent {
namespace {

using namespace muster::agent::testing;
using muster::testing::Eventually;
using muster::testing::TempFolder;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kPlugins[] = "/usr/lib/nagios/plugins";

void Write(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  ASSERT_TRUE(WriteFileAtomically(path, content).ok()) << path;
}

void WriteProgram(const std::string& path, const std::string& content) {
  Write(path, content);
  ASSERT_EQ(chmod(path.c_str(), 0755), 0);
}

ProbeResult LookAtHost(const std::string& look, const std::string& proc) {
  const auto probe = MakeHostProbe(Spec("host {" + look + "}").host(), {.proc = proc});
  EXPECT_TRUE(probe.ok());
  return RunProbe(**probe);
}

ProbeResult LookAtClock(const std::string& look, KernelClock clock) {
  const auto probe = MakeHostProbe(Spec("host { time {" + look + "}}").host(),
                                   {.clock = [clock] { return clock; }});
  EXPECT_TRUE(probe.ok());
  return RunProbe(**probe);
}

TEST(HostProbe, ReadsThisHost) {
  for (const char* look :
       {"load { warning_per_cpu: 9000 critical_per_cpu: 9999 }",
        "memory { warning_percent: 100 critical_percent: 100 }",
        "disk { path: '/' warning_percent: 100 critical_percent: 100 }",
        "time { allow_unsynchronised: true warning { seconds: 99 } critical { seconds: 99 } }"}) {
    const ProbeResult result = RunSpec("host {" + std::string(look) + "}", OpenPolicy());
    EXPECT_EQ(result.status, v1::CHECK_STATUS_OK) << result.detail.DebugString();
    EXPECT_GT(result.detail.metrics_size(), 0);
    EXPECT_TRUE(result.detail.transcript().empty());
  }
}

TEST(HostProbe, GradesLoadForEachProcessor) {
  const TempFolder proc;
  Write(proc.File("loadavg"), "0.10 0.00 0.05 1/100 1234\n");
  EXPECT_EQ(LookAtHost("load {}", proc.path()).detail.summary(), "load is low enough");
  Write(proc.File("loadavg"), "9999.00 99999.00 0.05 1/100 1234\n");
  const ProbeResult high = LookAtHost("load {}", proc.path());
  EXPECT_EQ(high.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(high.detail.transcript(), HasSubstr("99999.00"));
  EXPECT_EQ(LookAtHost("load { critical_per_cpu: 9000000 }", proc.path()).status,
            v1::CHECK_STATUS_WARNING);
  Write(proc.File("loadavg"), "lots\n");
  EXPECT_EQ(LookAtHost("load {}", proc.path()).status, v1::CHECK_STATUS_UNKNOWN);
}

TEST(HostProbe, CountsMemoryThatIsNotAvailable) {
  const TempFolder proc;
  Write(proc.File("meminfo"), "MemTotal:   1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n");
  const ProbeResult good = LookAtHost("memory {}", proc.path());
  EXPECT_EQ(good.status, v1::CHECK_STATUS_OK);
  EXPECT_DOUBLE_EQ(MetricOf(good, "memory_used_percent"), 60);
  EXPECT_DOUBLE_EQ(MetricOf(good, "memory_available"), 400 * 1024);
  EXPECT_EQ(LookAtHost("memory { warning_percent: 60 }", proc.path()).status,
            v1::CHECK_STATUS_WARNING);
  const ProbeResult bad =
      LookAtHost("memory { warning_percent: 10 critical_percent: 20 }", proc.path());
  EXPECT_EQ(bad.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(bad.detail.summary(), "60.0 % of memory is in use");
  EXPECT_EQ(LookAtHost("memory {}", proc.File("nowhere")).status, v1::CHECK_STATUS_UNKNOWN);
}

TEST(HostProbe, SaysWhichDiskIsFull) {
  const ProbeResult good =
      LookAtHost("disk { warning_percent: 100 critical_percent: 100 }", "/proc");
  EXPECT_EQ(good.detail.summary(), "disk / has room");
  const ProbeResult bad = LookAtHost("disk { path: '/nowhere/at/all' }", "/proc");
  EXPECT_EQ(bad.status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_THAT(bad.detail.summary(), HasSubstr("/nowhere/at/all"));
  if (MetricOf(good, "disk_used_percent") >= 1 || MetricOf(good, "inodes_used_percent") >= 1) {
    EXPECT_EQ(LookAtHost("disk { warning_percent: 1 critical_percent: 1 }", "/proc").status,
              v1::CHECK_STATUS_CRITICAL);
  }
}

TEST(HostProbe, GradesTheClockByTheKernelsEstimate) {
  EXPECT_EQ(LookAtClock("", {absl::Milliseconds(20), true}).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(LookAtClock("", {absl::Milliseconds(200), true}).status, v1::CHECK_STATUS_WARNING);
  EXPECT_EQ(LookAtClock("", {absl::Seconds(2), true}).status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(LookAtClock("", {absl::Seconds(16), false}).status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(LookAtClock("allow_unsynchronised: true", {absl::Seconds(16), false}).status,
            v1::CHECK_STATUS_OK);
}

TEST(Probes, AreTooLateAtTheirDeadline) {
  for (const char* spec :
       {"host { load {} }", "process { name: 'init' }", "file { path: '/nowhere/x' }"}) {
    const ProbeResult late = RunSpec(spec, OpenPolicy(), -absl::Seconds(1));
    EXPECT_EQ(late.status, v1::CHECK_STATUS_CRITICAL);
    EXPECT_THAT(late.detail.summary(), StartsWith("timed out after"));
  }
}

TEST(ProcessProbe, CountsProcessesByName) {
  const TempFolder folder;
  const std::string program = folder.File("muster-napper");
  std::filesystem::copy_file("/bin/sleep", program);
  const Policy policy = OpenPolicy();
  EXPECT_EQ(RunSpec("process { name: 'muster-napper' }", policy).detail.summary(),
            "0 processes are named muster-napper, expected at least 1");
  const muster::testing::ServerProcess first({program, "60"}, folder.File("log1"));
  const muster::testing::ServerProcess second({program, "60"}, folder.File("log2"));
  EXPECT_TRUE(Eventually([&] {
    return MetricOf(RunSpec("process { name: 'muster-napper' }", policy), "processes") == 2;
  }));
  EXPECT_EQ(
      RunSpec("process { name: 'muster-napper' at_least: 2 at_most: 2 }", policy).detail.summary(),
      "muster-napper runs");
  EXPECT_EQ(RunSpec("process { name: 'muster-napper' at_least: 3 }", policy).status,
            v1::CHECK_STATUS_CRITICAL);
  const ProbeResult many = RunSpec("process { name: 'muster-napper' at_most: 1 }", policy);
  EXPECT_EQ(many.detail.summary(), "2 processes are named muster-napper, expected at most 1");
  EXPECT_THAT(many.detail.transcript(), HasSubstr(fmt::format("process {}", first.pid())));
}

TEST(ProcessProbe, LeavesZombiesOut) {
  const TempFolder proc;
  Write(proc.File("17/stat"), "17 (web) server) Z 1 17\n");
  Write(proc.File("17/comm"), "webserver\n");
  Write(proc.File("18/stat"), "18 (webserver) S 1 18\n");
  Write(proc.File("18/cmdline"), std::string("/opt/webserver\0-d\0", 18));
  const auto probe = MakeProcessProbe(Spec("process { name: 'webserver' }").process(), OpenPolicy(),
                                      {.proc = proc.path()});
  ASSERT_TRUE(probe.ok());
  EXPECT_EQ(MetricOf(RunProbe(**probe), "processes"), 1);
}

TEST(ProcessProbe, ReadsPidFiles) {
  const TempFolder folder;
  const Policy policy = OpenPolicy(folder.path());
  const std::string file = folder.File("x.pid");
  const std::string spec = "process { pid_file: '" + file + "' }";
  EXPECT_THAT(RunSpec(spec, policy).detail.summary(), HasSubstr("does not exist"));
  Write(file, fmt::format("{}\n", getpid()));
  EXPECT_EQ(RunSpec(spec, policy).status, v1::CHECK_STATUS_OK);
  Write(file, "4194999\n");
  EXPECT_THAT(RunSpec(spec, policy).detail.summary(), HasSubstr("does not run"));
  Write(file, "root\n");
  EXPECT_THAT(RunSpec(spec, policy).detail.summary(), HasSubstr("holds no process id"));
  EXPECT_EQ(Refusal(spec, OpenPolicy()).code(), absl::StatusCode::kPermissionDenied);
}

ProbeResult LookAtUnit(const std::string& systemctl, absl::Duration within = absl::Seconds(10)) {
  const auto probe = MakeProcessProbe(Spec("process { unit: 'web.service' }").process(),
                                      OpenPolicy(), {.systemctl = systemctl});
  EXPECT_TRUE(probe.ok());
  return RunProbe(**probe, within);
}

TEST(ProcessProbe, AsksSystemdForUnits) {
  const TempFolder folder;
  const std::string systemctl = folder.File("systemctl");
  WriteProgram(systemctl,
               "#!/bin/sh\necho LoadState=loaded; echo ActiveState=active; echo SubState=running; "
               "echo NRestarts=3\n");
  const ProbeResult good = LookAtUnit(systemctl);
  EXPECT_EQ(good.detail.summary(), "web.service is active");
  EXPECT_EQ(MetricOf(good, "restarts"), 3);
  WriteProgram(systemctl,
               "#!/bin/sh\necho LoadState=loaded; echo ActiveState=failed; echo SubState=failed\n");
  EXPECT_EQ(LookAtUnit(systemctl).detail.summary(), "web.service is failed (failed)");
  WriteProgram(
      systemctl,
      "#!/bin/sh\necho LoadState=not-found; echo ActiveState=inactive; echo SubState=dead\n");
  EXPECT_EQ(LookAtUnit(systemctl).detail.summary(), "there is no unit web.service");
  WriteProgram(systemctl,
               "#!/bin/sh\necho 'System has not been booted with systemd' >&2; exit 1\n");
  EXPECT_EQ(LookAtUnit(systemctl).status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_EQ(LookAtUnit(folder.File("none")).status, v1::CHECK_STATUS_UNKNOWN);
  WriteProgram(systemctl, "#!/bin/sh\nexec sleep 60\n");
  EXPECT_THAT(LookAtUnit(systemctl, absl::Milliseconds(100)).detail.summary(),
              HasSubstr("while asking systemd of web.service"));
}

TEST(FileProbe, LooksAtAgeSizeAndAbsence) {
  const TempFolder folder;
  const std::string file = folder.File("backup");
  const Policy policy = OpenPolicy(folder.path());
  const std::string there = "file { path: '" + file + "' ";
  EXPECT_EQ(RunSpec(there + "}", policy).detail.summary(), file + " does not exist");
  EXPECT_EQ(RunSpec(there + "absent: true }", policy).status, v1::CHECK_STATUS_OK);
  Write(file, "12345");
  EXPECT_EQ(RunSpec(there + "}", policy).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(RunSpec(there + "absent: true }", policy).status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(RunSpec(there + "bytes_at_least: 5 }", policy).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(RunSpec(there + "bytes_at_least: 6 }", policy).status, v1::CHECK_STATUS_CRITICAL);
  const timespec old = absl::ToTimespec(SystemClock().Now() - absl::Hours(2));
  const timespec times[2] = {old, old};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  const std::string ages = "warning_age { seconds: 3600 } critical_age { seconds: ";
  EXPECT_EQ(RunSpec(there + ages + "10800 } }", policy).status, v1::CHECK_STATUS_WARNING);
  const ProbeResult late = RunSpec(there + ages + "7000 } }", policy);
  EXPECT_EQ(late.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(late.detail.summary(), HasSubstr("more than 1h56m40s"));
}

TEST(FileProbe, GoesOnlyWhereThePolicyLets) {
  const Status refused = Refusal("file { path: '/etc/shadow' }", OpenPolicy());
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("add /etc/shadow to paths"));
}

class PluginTest : public ::testing::Test {
 protected:
  ProbeResult Run(const std::string& script, absl::Duration within = absl::Seconds(10)) {
    WriteProgram(folder_.File("check"), "#!/bin/sh\n" + script + "\n");
    return RunSpec(
        "plugin { command: '" + folder_.File("check") + "' command: 'a b' command: '$HOME' }",
        OpenPolicy("/nowhere", folder_.path()), within);
  }
  const TempFolder folder_;
};

TEST_F(PluginTest, MapsExitCodes) {
  EXPECT_EQ(Run("echo fine; exit 0").status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(Run("echo hm; exit 1").status, v1::CHECK_STATUS_WARNING);
  EXPECT_EQ(Run("echo bad; exit 2").status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(Run("echo what; exit 3").status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_EQ(Run("exit 0").detail.summary(), "OK (the plugin said nothing)");
  for (const char* odd : {"exit 4", "exit 126", "exit 127", "kill -9 $$"}) {
    EXPECT_EQ(Run(odd).status, v1::CHECK_STATUS_UNKNOWN) << odd;
  }
  EXPECT_THAT(Run("kill -9 $$").detail.summary(), HasSubstr("signal 9"));
}

TEST_F(PluginTest, GivesArgumentsAsTheyAreAndASmallEnvironment) {
  setenv("MUSTER_TEST_SECRET", "hunter2", 1);
  EXPECT_EQ(Run("echo \"[$1][$2]\"").detail.summary(), "[a b][$HOME]");
  const ProbeResult result = Run("env; exit 2");
  EXPECT_THAT(result.detail.transcript(), HasSubstr("PATH="));
  EXPECT_THAT(result.detail.transcript(), Not(HasSubstr("hunter2")));
  EXPECT_EQ(Run("ls /proc/self/fd | wc -l | tr -d ' '").detail.summary(),
            "4");  // 0 1 2 and ls's own
}

TEST_F(PluginTest, KillsTheWholeGroupAtTheDeadline) {
  const std::string pid_file = folder_.File("pid");
  const ProbeResult result =
      Run("trap '' TERM; (trap '' TERM; echo $$; exec sleep 60) & echo $! > " + pid_file +
              "; wait; sleep 60",
          absl::Milliseconds(400));
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_THAT(result.detail.summary(), HasSubstr("while running "));
  const StatusOr<std::string> pid = ReadFile(pid_file);
  ASSERT_TRUE(pid.ok());
  const std::string stat_file = "/proc/" + pid->substr(0, pid->size() - 1) + "/stat";
  EXPECT_TRUE(Eventually([&] {
    std::error_code error;
    if (!std::filesystem::exists(stat_file, error)) return true;
    FILE* file = fopen(stat_file.c_str(), "r");
    if (file == nullptr) return true;
    char state = '?';
    const int read = fscanf(file, "%*d (%*[^)]) %c", &state);
    fclose(file);
    return read == 1 && state == 'Z';
  }));
}

TEST_F(PluginTest, DoesNotWaitForWhatAPluginLeavesBehind) {
  const absl::Duration begun = SystemClock().Uptime();
  EXPECT_EQ(Run("sleep 60 & echo done").detail.summary(), "done");
  EXPECT_LT(SystemClock().Uptime() - begun, absl::Seconds(5));
}

TEST_F(PluginTest, CutsEndlessOutput) {
  const ProbeResult result = Run("yes '\xff' | head -c 300000; exit 2");
  EXPECT_EQ(result.status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(Run("yes", absl::Milliseconds(300)).status, v1::CHECK_STATUS_CRITICAL);
}

TEST_F(PluginTest, RunsOnlyWhatThePolicyNames) {
  WriteProgram(folder_.File("check"), "#!/bin/sh\n");
  const std::string spec = "plugin { command: '" + folder_.File("check") + "' }";
  EXPECT_EQ(Refusal(spec, OpenPolicy()).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Refusal(spec, Policy::Default()).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Refusal("plugin {}", OpenPolicy()).code(), absl::StatusCode::kInvalidArgument);
  const ProbeResult none = RunSpec("plugin { command: '" + folder_.File("none") + "' }",
                                   OpenPolicy("/nowhere", folder_.path()));
  EXPECT_EQ(none.status, v1::CHECK_STATUS_UNKNOWN);
  EXPECT_THAT(none.detail.summary(), HasSubstr("No such file or directory"));
}

TEST(PluginProbe, RunsMonitoringPlugins) {
  if (!FileExists(std::string(kPlugins) + "/check_procs")) GTEST_SKIP() << "no monitoring-plugins";
  const Policy policy = OpenPolicy("/nowhere", kPlugins);
  const std::string procs =
      fmt::format("plugin {{ command: '{}/check_procs' command: '-c' ", kPlugins);
  const ProbeResult good = RunSpec(procs + "command: '1:100000' }", policy);
  EXPECT_EQ(good.status, v1::CHECK_STATUS_OK) << good.detail.DebugString();
  EXPECT_GE(MetricOf(good, "procs"), 1);
  EXPECT_EQ(RunSpec(procs + "command: '100000:' }", policy).status, v1::CHECK_STATUS_CRITICAL);
  const SilentServer server;
  const std::string tcp = fmt::format(
      "plugin {{ command: '{}/check_tcp' command: '-H' command: '127.0.0.1' "
      "command: '-p' command: '{}' }}",
      kPlugins, server.port());
  const ProbeResult connected = RunSpec(tcp, policy);
  EXPECT_EQ(connected.status, v1::CHECK_STATUS_OK) << connected.detail.DebugString();
  EXPECT_FALSE(std::isnan(MetricOf(connected, "time")));
}

TEST(Perfdata, ReadsLabelsValuesAndUnits) {
  const std::vector<Perf> figures = ParsePerfdata(
      "time=12.5ms;;;0;10 'a b''c=d'=3KB /=2643MB;5948 load=0,5 count=7c x=U =4 y 'z'=-1.5%");
  ASSERT_EQ(figures.size(), 6U);
  EXPECT_EQ(figures[0].label, "time");
  EXPECT_DOUBLE_EQ(figures[0].value, 0.0125);
  EXPECT_EQ(figures[0].unit, "s");
  EXPECT_EQ(figures[1].label, "a b'c=d");
  EXPECT_DOUBLE_EQ(figures[1].value, 3072);
  EXPECT_EQ(figures[2].label, "/");
  EXPECT_DOUBLE_EQ(figures[3].value, 0.5);
  EXPECT_EQ(figures[4].unit, "c");
  EXPECT_EQ(figures[5].label, "z");
  EXPECT_DOUBLE_EQ(figures[5].value, -1.5);
}

TEST(Perfdata, GathersFiguresOfAllLines) {
  const PluginOutput output =
      ParsePluginOutput("DISK OK | /=1MB\n/ 1 MB\n/boot | /boot=2MB\n/home=3MB\n");
  EXPECT_EQ(output.summary, "DISK OK");
  ASSERT_EQ(output.figures.size(), 3U);
  EXPECT_EQ(output.figures[2].label, "/home");
  EXPECT_TRUE(ParsePluginOutput("").summary.empty());
}

TEST(Perfdata, KeepsAtMostSixtyFour) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += fmt::format("f{}={} ", i, i);
  EXPECT_EQ(ParsePerfdata(text).size(), 64U);
}

}  // namespace
}  // namespace muster::agent
