#include "agent/jobs/executor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/jobs/runs_fixture.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using testing::Eventually;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(Runs, ACommandStartsSaysSomethingAndEnds) {
  StartAgent();
  Assign({Command({Script("report", "echo one; echo two; echo three >&2; exit 0"), "--all"})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_SUCCEEDED) << end.reason();
  EXPECT_EQ(end.exit_code(), 0);
  EXPECT_EQ(end.reason(), "exit code 0");
  EXPECT_EQ(Output(), "one\ntwo\n");
  EXPECT_EQ(Output(v1::RunOutput::STREAM_STDERR), "three\n");
  const std::vector<v1::RunEvent> events = Events();
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events.front().started().what(), File("report") + " --all");
  EXPECT_TRUE(events.back().has_ended()) << "it is the last";
}

TEST_F(Runs, ARunIsDoneOnceHoweverOftenItIsAssigned) {
  const std::string program = Script("append", "echo x >> " + File("done"));
  StartAgent();
  Assign({Command({program})});
  Assign({Command({program})});
  End();
  Assign({Command({program})});
  Assign({Command({program}), Command({program}, kOther)});
  EXPECT_EQ(End(kOther).outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  StopAgent();
  StartAgent();
  Assign({Command({program}), Command({program}, kRun, 2)});
  ASSERT_TRUE(Eventually([&] { return Ends() == 2; })) << "the newer attempt";
  Assign({Command({program})});
  Assign({Command({program}, kOther), Command({program}, kRun, 1)});
  testing::Pause(absl::Milliseconds(100));
  EXPECT_EQ(*ReadFile(File("done")), "x\nx\nx\n");
  EXPECT_EQ(Ends(), 2u);
  EXPECT_EQ(Ends(kOther), 1u);
}

TEST_F(Runs, TheExitCodeDecides) {
  StartAgent();
  Assign({Command({Script("three", "exit 3")})});
  v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(end.reason(), "exit code 3");
  EXPECT_EQ(end.exit_code(), 3);
  v1::Assignment lenient = Command({File("three")}, kOther);
  lenient.mutable_spec()->mutable_command()->add_success(3);
  Assign({lenient});
  EXPECT_EQ(End(kOther).outcome(), v1::RUN_OUTCOME_SUCCEEDED);
}

TEST_F(Runs, ASignalThatEndedItIsTold) {
  StartAgent();
  Assign({Command({Script("crash", "kill -SEGV $$")})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(end.signal(), SIGSEGV);
  EXPECT_EQ(end.exit_code(), -1);
  EXPECT_THAT(end.reason(), StartsWith("ended by signal 11"));
}

TEST_F(Runs, WhatThePolicyDoesNotListNeverBegins) {
  Allow("{}");
  StartAgent();
  Assign({Command({Script("job", "touch " + File("done"))})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_EQ(end.reason(),
            "this host does not allow command jobs: add command to jobs in policy.yaml");
  EXPECT_EQ(Events().size(), 1u) << "it has not started";
  EXPECT_FALSE(FileExists(File("done")));
}

TEST_F(Runs, AProgramThatIsNotThereNeverBegins) {
  StartAgent();
  Assign({Command({File("nothing")})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_EQ(end.reason(), File("nothing") + " cannot be started: No such file or directory");
}

TEST_F(Runs, AProgramThatCannotBeExecutedNeverBegan) {
  std::ofstream(File("text")) << "not a program\n";
  ::chmod(File("text").c_str(), 0600);
  StartAgent();
  Assign({Command({File("text")})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  v1::Assignment homeless = Command({Script("job", "true")}, kOther);
  homeless.mutable_spec()->mutable_command()->set_directory(File("no-folder"));
  Assign({homeless});
  const v1::RunEnded end = End(kOther);
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_THAT(end.reason(), HasSubstr("there is no folder " + File("no-folder")));
}

TEST_F(Runs, TheProgramSeesASmallWorld) {
  ::setenv("SECRET_OF_THE_AGENT", "x", 1);
  StartAgent();
  v1::Assignment assignment = Command(
      {Script("look", "env | sort; pwd; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l"),
       "; echo no shell"});
  (*assignment.mutable_spec()->mutable_command()->mutable_environment())["DAY"] = "monday";
  Assign({assignment});
  ASSERT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  const std::string output = Output();
  EXPECT_THAT(output, HasSubstr("DAY=monday\n"));
  EXPECT_THAT(output, HasSubstr(fmt::format("MUSTER_RUN={}\n", kRun)));
  EXPECT_THAT(output, HasSubstr("MUSTER_ATTEMPT=1\n"));
  EXPECT_THAT(output, HasSubstr("MUSTER_JOB=nightly\n"));
  EXPECT_THAT(output, HasSubstr("LANG=C.UTF-8\n"));
  EXPECT_THAT(output, ::testing::Not(HasSubstr("SECRET_OF_THE_AGENT")));
  EXPECT_THAT(output, ::testing::EndsWith("/\n/dev/null\n4\n")) << "0, 1, 2 and the folder itself";
}

TEST_F(Runs, AVariableThatThePolicyDoesNotListIsRefused) {
  StartAgent();
  v1::Assignment assignment = Command({Script("job", "true")});
  (*assignment.mutable_spec()->mutable_command()->mutable_environment())["LD_PRELOAD"] = "/x.so";
  Assign({assignment});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_THAT(end.reason(), HasSubstr("add LD_PRELOAD to environment"));
}

TEST_F(Runs, TheDeadlineEndsWhatTheProgramStartedAsWell) {
  StartAgent();
  Assign({Command({Script("slow", "sleep 1000 &\necho $! > " + File("pid") + "\nwait")})});
  const pid_t child = PidIn("pid");
  EXPECT_TRUE(IsRunning(child));
  clock_.Advance(absl::Hours(1));
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_TIMED_OUT);
  EXPECT_EQ(end.reason(), "ended at its deadline of 1h");
  EXPECT_EQ(end.signal(), SIGTERM);
  EXPECT_EQ(wire::FromProto(end.took()), absl::Hours(1));
  EXPECT_FALSE(IsRunning(child));
}

TEST_F(Runs, OneThatWillNotEndIsEndedHalfAMinuteLater) {
  StartAgent();
  const v1::Assignment deaf =
      Command({Script("deaf", "trap 'echo heard; touch " + File("heard") + "' TERM\necho $$ > " +
                                  File("pid") + "\nwhile true; do sleep 0.05; done")});
  Assign({deaf});
  PidIn("pid");
  v1::Assignment stop = deaf;
  stop.set_stop(v1::Assignment::STOP_CANCEL);
  stop.set_stop_reason("cancelled by alice");
  Assign({stop});
  ASSERT_TRUE(Eventually([&] { return FileExists(File("heard")); }));
  clock_.Advance(absl::Seconds(29));
  testing::Pause(absl::Milliseconds(50));
  EXPECT_EQ(Ends(), 0u);
  clock_.Advance(absl::Seconds(1));
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_CANCELLED);
  EXPECT_EQ(end.reason(), "cancelled by alice");
  EXPECT_EQ(end.signal(), SIGKILL);
  EXPECT_THAT(Output(), HasSubstr("heard"));
}

TEST_F(Runs, TerminateDoesNotAsk) {
  StartAgent();
  v1::Assignment deaf = Command({Script(
      "deaf", "trap '' TERM\necho $$ > " + File("pid") + "\nwhile true; do sleep 0.05; done")});
  Assign({deaf});
  PidIn("pid");
  deaf.set_stop(v1::Assignment::STOP_TERMINATE);
  Assign({deaf});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_CANCELLED);
  EXPECT_EQ(end.signal(), SIGKILL);
}

TEST_F(Runs, WhatIsCancelledMayTidyUpBehindItsParent) {
  StartAgent();
  // The parent dies of SIGTERM at once; its child takes its time.
  const std::string child =
      Script("child", "trap 'sleep 0.3; touch " + File("tidy") + "; exit 0' TERM\necho $$ > " +
                          File("pid") + "\nwhile true; do sleep 0.05; done");
  v1::Assignment assignment = Command({Script("parent", child + "\ntrue")});
  Assign({assignment});
  PidIn("pid");
  assignment.set_stop(v1::Assignment::STOP_CANCEL);
  Assign({assignment});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_CANCELLED);
  EXPECT_TRUE(FileExists(File("tidy")));
}

TEST_F(Runs, StoppedBeforeItBeginsItNeverBegins) {
  StartAgent();
  v1::Assignment assignment = Command({Script("job", "touch " + File("done"))});
  assignment.set_stop(v1::Assignment::STOP_CANCEL);
  assignment.set_stop_reason("cancelled by bob");
  Assign({assignment});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_EQ(end.reason(), "cancelled by bob");
  EXPECT_FALSE(FileExists(File("done")));
}

TEST_F(Runs, TooLateItNeverBeginsByTheControlPlanesClock) {
  StartAgent();
  v1::Assignment assignment = Command({Script("job", "touch " + File("done"))});
  // The host's own clock is an hour ahead.
  executor_->TakeServerTime(clock_.Now() - absl::Hours(1));
  *assignment.mutable_start_by() = wire::ToProto(clock_.Now() - absl::Minutes(59));
  Assign({assignment});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  v1::Assignment late = Command({Script("late", "touch " + File("late-done"))}, kOther);
  *late.mutable_start_by() = wire::ToProto(clock_.Now() - absl::Minutes(61));
  Assign({late});
  const v1::RunEnded end = End(kOther);
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_NEVER_BEGAN);
  EXPECT_THAT(end.reason(), StartsWith("not begun by "));
  EXPECT_FALSE(FileExists(File("late-done")));
}

TEST_F(Runs, SoManyRunAtOnceAndTheOthersWaitInOrder) {
  StartAgent(1);
  const std::string first =
      Script("first", "while [ ! -e " + File("go") + " ]; do sleep 0.05; done");
  const std::string second = Script("second", "echo second >> " + File("order"));
  const std::string third = Script("third", "echo third >> " + File("order"));
  const std::string third_run = RandomUuid();
  const std::string hurried_run = RandomUuid();
  v1::Assignment hurried = Command({second}, hurried_run.c_str());
  *hurried.mutable_start_by() = wire::ToProto(clock_.Now() + absl::Minutes(1));
  Assign(
      {Command({first}), Command({second}, kOther), Command({third}, third_run.c_str()), hurried});
  ASSERT_TRUE(Eventually([&] { return HasStarted(); }));
  clock_.Advance(absl::Minutes(2));
  EXPECT_EQ(End(hurried_run.c_str()).outcome(), v1::RUN_OUTCOME_NEVER_BEGAN)
      << "it waited until it was too late";
  EXPECT_FALSE(HasStarted(kOther));
  std::ofstream(File("go")) << "";
  EXPECT_EQ(End(third_run.c_str()).outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_EQ(*ReadFile(File("order")), "second\nthird\n");
}

TEST_F(Runs, LeavingTheAssignmentsEndsNothingThatRuns) {
  StartAgent(1);
  const std::string program =
      Script("first", "while [ ! -e " + File("go") + " ]; do sleep 0.05; done");
  Assign({Command({program}), Command({Script("second", "true")}, kOther)});
  ASSERT_TRUE(Eventually([&] { return HasStarted(); }));
  Assign({});
  testing::Pause(absl::Milliseconds(50));
  EXPECT_EQ(Ends(), 0u);
  std::ofstream(File("go")) << "";
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  testing::Pause(absl::Milliseconds(50));
  EXPECT_TRUE(Events(kOther).empty()) << "what waited is forgotten";
}

TEST_F(Runs, ANewerAttemptWaitsForTheEndOfTheOlderOne) {
  StartAgent();
  const std::string first =
      Script("first", "while [ ! -e " + File("go") + " ]; do sleep 0.05; done");
  Assign({Command({first})});
  ASSERT_TRUE(Eventually([&] { return HasStarted(); }));
  Assign({Command({Script("second", "true")}, kRun, 2)});
  testing::Pause(absl::Milliseconds(50));
  EXPECT_EQ(Events().size(), 1u);
  std::ofstream(File("go")) << "";
  ASSERT_TRUE(Eventually([&] { return Ends() == 2; }));
}

TEST_F(Runs, ADaemonThatItLeavesIsEndedWithIt) {
  StartAgent();
  Assign({Command({Script("daemon", "setsid sh -c 'echo $$ > " + File("pid") +
                                        "; exec sleep 1000' < /dev/null > /dev/null 2>&1 &\n"
                                        "while [ ! -s " +
                                        File("pid") + " ]; do sleep 0.05; done")})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_FALSE(IsRunning(PidIn("pid")));
  EXPECT_EQ(Output(v1::RunOutput::STREAM_NOTE), "ended 1 process that it left behind\n");
}

TEST_F(Runs, AFloodOfOutputKeepsItsBeginAndItsEnd) {
  StartAgent();
  Assign({Command({Script("flood",
                          "echo the begin; yes 'a line of no interest' | head -n 2000000; "
                          "echo the end")})});
  ASSERT_TRUE(Eventually([&] { return Ends() > 0; }, absl::Minutes(2)));
  const std::string output = Output();
  EXPECT_THAT(output, StartsWith("the begin\n"));
  EXPECT_THAT(output, ::testing::EndsWith("the end\n"));
  EXPECT_LE(output.size(), 1u << 20);
  EXPECT_GE(output.size(), 256u << 10);
  uint64_t told = 0;
  uint64_t next = 1;
  for (const v1::RunEvent& event : Events()) {
    if (!event.has_output()) continue;
    const std::string& text = event.output().text();
    EXPECT_LE(text.size(), 4096u);
    EXPECT_GE(event.output().first_line(), next);
    const auto lines = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
    next = event.output().first_line() + lines;
    told += lines;
  }
  EXPECT_EQ(told + End().dropped_lines(), 2'000'002u);
  EXPECT_EQ(next, 2'000'003u);
}

TEST_F(Runs, WhatIsNoUtf8IsReplacedAndALineWithoutAnEndGetsOne) {
  StartAgent();
  Assign({Command({Script("bytes", "printf 'caf\\303\\251 \\377\\000\\033[1m\\r\\nlast'")})});
  End();
  EXPECT_EQ(Output(), "caf\u00e9 \uFFFD  [1m\nlast\n");
}

TEST_F(Runs, TheAgentsStopEndsThemAndSaysSo) {
  StartAgent();
  Assign({Command({Script("slow", "sleep 1000 & echo $! > " + File("pid") + "; wait")})});
  const pid_t child = PidIn("pid");
  EXPECT_TRUE(executor_->Stop(absl::Seconds(20)));
  const std::vector<v1::RunEnded> ends = EndsIn(Events());
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].outcome(), v1::RUN_OUTCOME_FAILED);
  EXPECT_EQ(ends[0].reason(), "the agent was stopped");
  EXPECT_EQ(ends[0].signal(), SIGTERM);
  EXPECT_FALSE(IsRunning(child));
}

}  // namespace
}  // namespace muster::agent
