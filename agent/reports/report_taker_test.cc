// The drop folder as its users and its enemies meet it: real files, a real log, real execs.
#include "agent/reports/report_taker.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "agent/reports/exec.h"
#include "agent/reports/user_name.h"
#include "agent/spool/spool.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/testing/servers.h"
#include "lib/testing/status.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = ReportName::Kind;

constexpr uid_t kStranger = 54'321;
constexpr size_t kMostFiles = 100;

class Reports : public ::testing::Test {
 protected:
  Reports() {
    Allow(fmt::format("reports: [\"{}:*\", \"{}:theirs\"]", UserNameOf(geteuid()), kStranger));
    StartAgent();
  }

  void Allow(const std::string& yaml) {
    policy_ = std::make_unique<Policy>(*Policy::Parse(yaml, "policy.yaml"));
  }

  void StartAgent() {
    spool_ = *Spool::Open(folder_.File("log.db"), {}, clock_);
    recorder_ = std::make_unique<Recorder>(*spool_, clock_, RecorderOptions{}, [](Urgency) {});
    StatusOr<DropFolder> drop =
        DropFolder::Open(folder_.path(), DropFolder::For::kAnybody, {.files = kMostFiles});
    ASSERT_OK(drop);
    taker_ = std::make_unique<ReportTaker>(*std::move(drop), *policy_, *recorder_, clock_);
  }

  void StopAgent() {
    taker_.reset();
    recorder_.reset();
    spool_.reset();
  }

  std::string Drop(const std::string& name) const { return folder_.File("exec/" + name); }

  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.File("exec")))
      files.push_back(entry.path().filename());
    return files;
  }

  // What the log holds of runs: "started", "output", "ended" with the reason.
  std::vector<std::string> Told() const {
    std::vector<std::string> told;
    for (const v1::RunEvent& event : Events()) {
      if (event.has_started()) told.push_back("started " + event.started().reported().job());
      if (event.has_output()) told.push_back("output " + event.output().text());
      if (event.has_ended()) told.push_back("ended " + event.ended().reason());
    }
    return told;
  }

  std::vector<v1::RunEvent> Events() const {
    std::vector<v1::RunEvent> events;
    const auto records = spool_->ReadFrom(1, 100'000, 64 << 20);
    EXPECT_OK(records);
    for (const v1::Record& record : *records)
      if (record.has_run_event()) events.push_back(record.run_event());
    return events;
  }

  Report Begun(const std::string& job = "nightly") const {
    return {.run_id = RandomUuid(), .job = job, .what = "/bin/report", .began = clock_.Now()};
  }

  void Put(const std::string& name, const std::string& bytes) const {
    std::ofstream(Drop(name)) << bytes;
  }

  // Forks at once: no thread of this process may be at work.
  pid_t Begin(const std::vector<std::string>& command, const std::string& job = "nightly",
              const std::string& data = "", uid_t user = 0) const {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    const int nothing = open("/dev/null", O_RDWR);
    const int out = open(folder_.File("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = open(folder_.File("err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(nothing, 0);
    dup2(out, 1);
    dup2(err, 2);
    if (user != 0 && (setgid(user) != 0 || setuid(user) != 0)) _exit(99);
    _exit(Exec({.data = data.empty() ? folder_.path() : data, .job = job, .command = command}));
  }

  static int CodeOf(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int Run(const std::string& script, const std::string& job = "nightly") const {
    return CodeOf(Begin({"/bin/sh", "-c", script}, job));
  }

  std::string Out() const { return ReadFile(folder_.File("out")).value_or(""); }
  std::string Err() const { return ReadFile(folder_.File("err")).value_or(""); }

  const testing::TempFolder folder_;
  ManualClock clock_{SystemClock().Now() + absl::Minutes(1)};
  std::unique_ptr<Policy> policy_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<ReportTaker> taker_;
};

// What forks within the test's process. ThreadSanitizer knows no threads of such a child: there the
// real program is looked at alone (tests/integration/exec_test.py).
class ReportsByExec : public Reports {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "forks, and the child starts threads";
#endif
    Reports::SetUp();
  }
};

TEST_F(ReportsByExec, TellOfARunFromItsBeginToItsEnd) {
  EXPECT_EQ(Run("echo out; echo err >&2; exit 3"), 3);
  EXPECT_EQ(Out(), "out\n");
  EXPECT_EQ(Err(), "err\n");
  taker_->Look();
  const auto events = Events();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].started().what(), "/bin/sh");
  EXPECT_EQ(events[0].started().reported().user(), UserNameOf(geteuid()));
  EXPECT_EQ(events[3].ended().exit_code(), 3);
  EXPECT_EQ(events[3].ended().outcome(), v1::RUN_OUTCOME_FAILED);
  for (const v1::RunEvent& event : events) EXPECT_EQ(event.run_id(), events[0].run_id());
  EXPECT_THAT(Files(), IsEmpty());
  taker_->Look();
  EXPECT_EQ(Events().size(), 4U);
}

TEST_F(ReportsByExec, AreThereWhileTheAgentIsNot) {
  StopAgent();
  EXPECT_EQ(Run("exit 0"), 0);
  EXPECT_EQ(Run("exit 4"), 4);
  EXPECT_EQ(Files().size(), 2U);
  StartAgent();
  taker_->Look();
  EXPECT_THAT(Told(), ElementsAre("started nightly", "ended exit code 0", "started nightly",
                                  "ended exit code 4"));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(ReportsByExec, OfAKilledExecSayThatNobodySawItsEnd) {
  const pid_t pid = Begin({"/bin/sh", "-c", "sleep 60"});
  ASSERT_TRUE(testing::Eventually([this] {
    taker_->Look();
    return Told().size() == 1;
  }));
  taker_->Look();
  EXPECT_EQ(Told().size(), 1U) << "it runs";
  // An agent that starts anew knows it again.
  StopAgent();
  StartAgent();
  taker_->Look();
  EXPECT_EQ(Told().size(), 1U);
  kill(pid, SIGKILL);
  EXPECT_EQ(CodeOf(pid), -SIGKILL);
  taker_->Look();
  EXPECT_THAT(Told(), ElementsAre("started nightly",
                                  "ended muster-agent exec was killed: nobody saw its end"));
  EXPECT_EQ(Events()[1].ended().outcome(), v1::RUN_OUTCOME_UNKNOWN);
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(Reports, OfAHostThatWentDownSaySo) {
  const Report begun = Begun();
  Put(FileName({begun.run_id, Kind::kRunning}), Pack(begun));
  const timespec long_ago[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
  utimensat(AT_FDCWD, Drop(FileName({begun.run_id, Kind::kRunning})).c_str(), long_ago, 0);
  taker_->Look();
  EXPECT_THAT(Told(), ElementsAre("ended the host went down while it ran: nobody saw its end"));
}

TEST_F(Reports, ToldTwiceAreOfOneRun) {
  const Report begun = Begun();
  const std::string start = FileName({begun.run_id, Kind::kStart});
  Put(start, Pack(begun));
  const int held = open(Drop(start).c_str(), O_RDONLY);
  ASSERT_EQ(flock(held, LOCK_EX), 0);
  taker_->Look();
  // As if the agent had died before it renamed the file.
  ASSERT_EQ(rename(Drop(FileName({begun.run_id, Kind::kRunning})).c_str(), Drop(start).c_str()), 0);
  StopAgent();
  StartAgent();
  taker_->Look();
  const auto events = Events();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].run_id(), events[1].run_id());
  close(held);
}

TEST_F(ReportsByExec, WhatIsNoReportGoesAndHarmsNobody) {
  const Report begun = Begun();
  const std::string secret = folder_.File("secret");
  std::ofstream(secret) << Pack(begun);
  ASSERT_EQ(symlink(secret.c_str(), Drop(FileName({begun.run_id, Kind::kStart})).c_str()), 0);
  ASSERT_EQ(symlink("/dev/zero", Drop(FileName({RandomUuid(), Kind::kEnd})).c_str()), 0);
  ASSERT_EQ(mkfifo(Drop(FileName({RandomUuid(), Kind::kStart})).c_str(), 0666), 0);
  ASSERT_EQ(mkdir(Drop(FileName({RandomUuid(), Kind::kStart})).c_str(), 0777), 0);
  const std::string twice = Drop(FileName({RandomUuid(), Kind::kStart}));
  ASSERT_EQ(link(secret.c_str(), twice.c_str()), 0);
  Put(FileName({RandomUuid(), Kind::kStart}), "junk");
  Put(FileName({RandomUuid(), Kind::kEnd}), "");
  Put("notes.txt", "hello");
  const std::string huge = FileName({RandomUuid(), Kind::kEnd});
  Put(huge, "");
  ASSERT_EQ(truncate(Drop(huge).c_str(), off_t{1} << 33), 0);
  taker_->Look();
  EXPECT_THAT(Told(), IsEmpty());
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_TRUE(FileExists(secret));
  EXPECT_EQ(Run("exit 0"), 0);
  taker_->Look();
  EXPECT_EQ(Told().size(), 2U);
}

TEST_F(Reports, BeingWrittenAreLeftAloneForAWhile) {
  const std::string name = "." + FileName({RandomUuid(), Kind::kStart});
  Put(name, "half");
  taker_->Look();
  EXPECT_THAT(Files(), ElementsAre(name));
  clock_.Advance(absl::Hours(1));
  taker_->Look();
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(Reports, OfOneUserAreBoundedAndDoNotKeepOthersWaiting) {
  for (size_t i = 0; i < kMostFiles + 10; ++i) {
    const Report begun = Begun("flood");
    Put(FileName({begun.run_id, Kind::kStart}), i == 0 ? Pack(begun) : "junk");
  }
  const Report theirs = Begun("theirs");
  const std::string start = Drop(FileName({theirs.run_id, Kind::kStart}));
  std::ofstream(start) << Pack(theirs);
  if (chown(start.c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  taker_->Look();
  EXPECT_THAT(Told(), ::testing::Contains("started theirs"));
  EXPECT_LE(Files().size(), kMostFiles + 1);
}

TEST_F(Reports, OfWhomThePolicyDoesNotNameAreRefused) {
  Report begun = Begun("other");
  const std::string start = Drop(FileName({begun.run_id, Kind::kStart}));
  std::ofstream(start) << Pack(begun);
  if (chown(start.c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  taker_->Look();
  EXPECT_THAT(Told(), IsEmpty());
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(Reports, TheEndIsItsBeginnersAlone) {
  Report report = Begun("theirs");
  const std::string running = Drop(FileName({report.run_id, Kind::kRunning}));
  std::ofstream(running) << Pack(report);
  const int held = open(running.c_str(), O_RDONLY);
  ASSERT_EQ(flock(held, LOCK_EX), 0);
  report.ended.emplace().set_outcome(v1::RUN_OUTCOME_SUCCEEDED);
  const std::string end = Drop(FileName({report.run_id, Kind::kEnd}));
  std::ofstream(end) << Pack(report);
  if (chown(end.c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  taker_->Look();
  // It is told as what it is: a run of the stranger's own, of which his begin is known.
  EXPECT_EQ(Events().at(0).started().reported().user(), fmt::format("{}", kStranger));
  EXPECT_TRUE(FileExists(running));
  close(held);
}

TEST_F(ReportsByExec, WaitWhileTheDiskTakesNothing) {
  EXPECT_EQ(Run("exit 0"), 0);
  recorder_->Stop();
  taker_->Look();
  EXPECT_EQ(Files().size(), 1U);
  StopAgent();
  StartAgent();
  taker_->Look();
  EXPECT_EQ(Told().size(), 2U);
}

TEST_F(Reports, AFolderOfSomebodyElseIsNotUsed) {
  StopAgent();
  if (chown(folder_.File("exec").c_str(), kStranger, kStranger) != 0) GTEST_SKIP() << "needs root";
  const auto drop = DropFolder::Open(folder_.path(), DropFolder::For::kOwner);
  EXPECT_THAT(std::string(Message(drop.status())), HasSubstr("belongs to user 54321"));
}

TEST_F(Reports, TheFolderIsAMailDrop) {
  struct stat facts {};
  ASSERT_EQ(stat(folder_.File("exec").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 01733U);
  ASSERT_EQ(stat(folder_.path().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0011, 0011U) << "others get through";
}

TEST_F(ReportsByExec, ACommandRunsWhateverBecomesOfTheReport) {
  StopAgent();
  EXPECT_EQ(CodeOf(Begin({"/bin/sh", "-c", "echo ran; exit 5"}, "nightly", "/nowhere/at/all")), 5);
  EXPECT_EQ(Out(), "ran\n");
  EXPECT_THAT(Err(),
              HasSubstr("muster-agent exec: job nightly is not reported: no agent that takes "
                        "reports: open /nowhere/at/all/exec: No such file or directory\n"));
}

TEST_F(ReportsByExec, ARefusedOneIsToldToItsCaller) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t pid = Begin({"/bin/sh", "-c", "sleep 0.5; exit 6"}, "nightly", "", kStranger);
  ASSERT_TRUE(testing::Eventually([this] { return !Files().empty(); }));
  ASSERT_TRUE(testing::Eventually([this] {
    taker_->Look();
    return Files().empty();
  }));
  EXPECT_EQ(CodeOf(pid), 6);
  EXPECT_THAT(Err(), HasSubstr("\"54321:nightly\" may be missing in reports of its policy file"));
  EXPECT_THAT(Told(), IsEmpty());
}

TEST_F(ReportsByExec, OfAnotherUserAreHis) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(CodeOf(Begin({"/bin/true"}, "theirs", "", kStranger)), 0);
  EXPECT_EQ(Err(), "");
  taker_->Look();
  EXPECT_EQ(Events().at(0).started().reported().user(), "54321");
  EXPECT_THAT(Told(), ElementsAre("started theirs", "ended exit code 0"));
}

TEST_F(ReportsByExec, ACommandThatCannotBeStartedIsAsInAShell) {
  EXPECT_EQ(CodeOf(Begin({"/no/such/program"})), 127);
  EXPECT_THAT(Err(), HasSubstr("/no/such/program cannot be started: No such file or directory"));
  EXPECT_EQ(CodeOf(Begin({"/etc/passwd"})), 126);
  taker_->Look();
  EXPECT_EQ(Events().at(1).ended().outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_EQ(Events().at(1).ended().exit_code(), 127);
}

TEST_F(ReportsByExec, ASignalReachesTheCommandAndItsEndIsTheCallers) {
  const pid_t pid = Begin({"/bin/sh", "-c",
                           "trap 'echo bye; exit 9' TERM; echo up; while :; do "
                           "sleep 0.05; done"});
  ASSERT_TRUE(testing::Eventually([this] { return Out() == "up\n"; }));
  kill(pid, SIGTERM);
  EXPECT_EQ(CodeOf(pid), 9);
  EXPECT_EQ(Out(), "up\nbye\n");
  EXPECT_EQ(Run("kill -KILL $$"), 128 + SIGKILL);
  taker_->Look();
  EXPECT_THAT(Told(), ::testing::Contains("ended ended by signal 9 (KILL)"));
}

TEST_F(ReportsByExec, MuchOutputPassesUnchanged) {
  EXPECT_EQ(Run("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; printf 'no end'"),
            0);
  const std::string out = Out();
  EXPECT_THAT(out, ::testing::StartsWith("line 0\nline 1\n"));
  EXPECT_THAT(out, ::testing::EndsWith("line 19999\nno end"));
  taker_->Look();
  EXPECT_GT(Events().back().ended().dropped_lines(), 19'000U);
}

TEST_F(ReportsByExec, WhatACommandLeavesBehindGoesOnWriting) {
  EXPECT_EQ(Run("(sleep 0.3; echo later) & echo now"), 0);
  EXPECT_EQ(Out(), "now\n");
  EXPECT_TRUE(testing::Eventually([this] { return Out() == "now\nlater\n"; }));
  taker_->Look();
  EXPECT_THAT(Told(), ElementsAre("started nightly", "output now\n", "ended exit code 0"));
}

}  // namespace
}  // namespace muster::agent
