#include "agent/jobs/executor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "agent/jobs/attempt_processes.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/testing/servers.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

using ::testing::ElementsAre;
using testing::Eventually;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Processes of a run are found on the whole host: no two tests have one in common.
const std::string kRunId = RandomUuid();
const std::string kOtherId = RandomUuid();
const char* const kRun = kRunId.c_str();
const char* const kOther = kOtherId.c_str();

bool IsRunning(pid_t pid) {
  const StatusOr<std::string> stat = ReadFile(fmt::format("/proc/{}/stat", pid));
  return stat.ok() && stat->find(") Z ") == std::string::npos;
}

// A host with a folder of programs, all of which its policy allows, and everything of an agent that
// has to do with runs.
class Runs : public ::testing::Test {
 protected:
  Runs() { Allow(fmt::format("{{jobs: [command], commands: [{}], environment: [DAY]}}", path())); }
  ~Runs() override { StopAgent(); }

  const std::string& path() const { return folder_.path(); }
  std::string File(const std::string& name) const { return folder_.File(name); }

  void Allow(const std::string& yaml) {
    StatusOr<Policy> policy = Policy::Parse(yaml, "policy.yaml");
    ASSERT_TRUE(policy.ok()) << policy.status();
    policy_ = std::make_unique<Policy>(*std::move(policy));
  }

  // A shell script in the folder; its path.
  std::string Script(const std::string& name, const std::string& body) {
    std::ofstream(File(name)) << "#!/bin/sh\n" << body << "\n";
    ::chmod(File(name).c_str(), 0700);
    return File(name);
  }

  void StartAgent(size_t at_once = 4) {
    StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(File("log.db"), {}, clock_);
    ASSERT_TRUE(spool.ok()) << spool.status();
    spool_ = *std::move(spool);
    StatusOr<std::unique_ptr<RunJournal>> journal = RunJournal::Open(File("runs.db"));
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);
    recorder_ = std::make_unique<Recorder>(*spool_, clock_, RecorderOptions{}, [](Urgency) {});
    executor_ = std::make_unique<Executor>(
        *journal_, *recorder_, *spool_,
        [this](const v1::JobSpec& spec) -> TaskOr {
          if (spec.command().argv_size() > 0) return MakeTask(spec, *policy_);
          return std::make_unique<TestTask>(*this);
        },
        clock_,
        ExecutorOptions{
            .at_once = at_once,
            .tick = absl::Milliseconds(10),
            .ends = {.leftover_grace = absl::Milliseconds(200), .retry = absl::Milliseconds(20)}});
  }

  // What a job without a command does.
  struct TestTask final : Task {
    explicit TestTask(Runs& test) : body(test.task_) {}
    std::string What() const override { return "a task of the test"; }
    TaskEnd Run(TaskContext& context) override { return body(context); }
    const std::function<TaskEnd(TaskContext&)> body;
  };

  void StopAgent() {
    executor_.reset();
    recorder_.reset();
    journal_.reset();
    spool_.reset();
  }

  static v1::Assignment Command(const std::vector<std::string>& argv, const char* run = kRun,
                                uint64_t fence = 1) {
    v1::Assignment assignment;
    assignment.set_run_id(run);
    assignment.set_fence(fence);
    assignment.set_job("nightly");
    for (const std::string& argument : argv)
      assignment.mutable_spec()->mutable_command()->add_argv(argument);
    *assignment.mutable_spec()->mutable_deadline() = wire::ToProto(absl::Hours(1));
    return assignment;
  }

  void Assign(const std::vector<v1::Assignment>& assignments) {
    v1::Assignments message;
    for (const v1::Assignment& assignment : assignments) *message.add_items() = assignment;
    executor_->Take(message);
  }

  // Everything that the log holds of runs.
  std::vector<v1::RunEvent> Events(const char* run = kRun) {
    std::vector<v1::RunEvent> events;
    const auto records = spool_->ReadFrom(1, 100'000, 64 << 20);
    EXPECT_TRUE(records.ok());
    for (const v1::Record& record : *records) {
      if (record.has_run_event() && record.run_event().run_id() == run) {
        events.push_back(record.run_event());
      }
    }
    return events;
  }

  static std::vector<v1::RunEnded> EndsIn(const std::vector<v1::RunEvent>& events) {
    std::vector<v1::RunEnded> ends;
    for (const v1::RunEvent& event : events)
      if (event.has_ended()) ends.push_back(event.ended());
    return ends;
  }
  size_t Ends(const char* run = kRun) { return EndsIn(Events(run)).size(); }

  // Waits for the run's one end.
  v1::RunEnded End(const char* run = kRun) {
    EXPECT_TRUE(Eventually([&] { return Ends(run) > 0; }));
    const std::vector<v1::RunEnded> ends = EndsIn(Events(run));
    EXPECT_EQ(ends.size(), 1u);
    return ends.empty() ? v1::RunEnded() : ends.front();
  }

  bool HasStarted(const char* run = kRun) {
    const std::vector<v1::RunEvent> events = Events(run);
    return std::any_of(events.begin(), events.end(),
                       [](const v1::RunEvent& event) { return event.has_started(); });
  }

  std::string Output(v1::RunOutput::Stream stream = v1::RunOutput::STREAM_STDOUT) {
    std::string text;
    for (const v1::RunEvent& event : Events())
      if (event.has_output() && event.output().stream() == stream) text += event.output().text();
    return text;
  }

  // The number that a script wrote into a file.
  pid_t PidIn(const std::string& name) {
    EXPECT_TRUE(Eventually([&] {
      const StatusOr<std::string> text = ReadFile(File(name));
      return text.ok() && text->ends_with('\n');
    })) << name;
    return std::atoi(ReadFile(File(name)).value_or("0").c_str());
  }

  std::function<TaskEnd(TaskContext&)> task_;
  testing::TempFolder folder_;
  ManualClock clock_;
  std::unique_ptr<Policy> policy_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<RunJournal> journal_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Executor> executor_;
};

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

TaskEnd Succeeded(const std::string& reason = "done") {
  return {v1::RUN_OUTCOME_SUCCEEDED, reason, -1, 0, {}};
}

TEST_F(Runs, ATaskTellsItsProgressItsNotesAndItsFigures) {
  task_ = [this](TaskContext& context) {
    EXPECT_EQ(context.run_id(), kRun);
    EXPECT_EQ(context.job(), "nightly");
    EXPECT_EQ(context.deadline(), clock_.Uptime() + absl::Hours(1));
    v1::RunProgress progress;
    for (uint64_t done = 1; done <= 50; ++done) {
      progress.set_done(done);
      context.Progress(progress);
    }
    context.Note("half\nof it");
    TaskEnd end = Succeeded();
    end.metrics.emplace_back().set_name("rows");
    return end;
  };
  StartAgent();
  Assign({Command({})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.metrics(0).name(), "rows");
  std::vector<uint64_t> done;
  for (const v1::RunEvent& event : Events())
    if (event.has_progress()) done.push_back(event.progress().done());
  EXPECT_THAT(done, ElementsAre(1, 50)) << "at once, and the last word";
  EXPECT_EQ(Output(v1::RunOutput::STREAM_NOTE), "half of it\n");
}

TEST_F(Runs, ATaskWithoutAProgramHearsThatItIsToEnd) {
  task_ = [](TaskContext& context) {
    EXPECT_EQ(context.demand(), Demand::kNone);
    EXPECT_EQ(context.WaitForDemand(absl::Minutes(1)), Demand::kEnd);
    const StatusOr<ProgramEnd> late = context.RunProgram({.argv = {"/bin/false"}});
    EXPECT_TRUE(late.ok() && late->asked && late->exit_code == -1) << "nothing is begun any more";
    return context.Ended();
  };
  StartAgent();
  Assign({Command({})});
  ASSERT_TRUE(Eventually([&] { return HasStarted(); }));
  clock_.Advance(absl::Hours(1));
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_TIMED_OUT);
}

TEST_F(Runs, ATaskRunsProgramsOneAfterTheOtherOverFiles) {
  task_ = [this](TaskContext& context) {
    const exec::Fd out(::open(File("dump").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_TRUE(context.Step("dumping").ok());
    ProgramRequest dump{.argv = {"/bin/sh", "-c", "echo data; echo talk >&2"}};
    dump.out = out.get();
    EXPECT_EQ(context.RunProgram(dump)->exit_code, 0);
    const exec::Fd in(::open(File("dump").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(context.Step("checking").ok());
    ProgramRequest check{.argv = {"/bin/cat"}};
    check.in = in.get();
    EXPECT_EQ(context.RunProgram(check)->exit_code, 0);
    return Succeeded();
  };
  StartAgent();
  Assign({Command({})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_EQ(Output(), "data\n");
  EXPECT_EQ(Output(v1::RunOutput::STREAM_STDERR), "talk\n");
  EXPECT_EQ(journal_->Read({kRun, 1})->step, "checking");
}

TEST_F(Runs, AServerBesideLivesThroughOtherProgramsAndGoesWithItsHandle) {
  const std::string server = Script("server", "echo $$ > " + File("pid") + "\nexec sleep 1000");
  task_ = [&](TaskContext& context) {
    const auto pid = [&] { return std::atoi(ReadFile(File("pid")).value_or("0").c_str()); };
    pid_t was = 0;
    {
      const auto beside = context.StartBeside({.argv = {server}});
      EXPECT_TRUE(beside.ok()) << beside.status();
      EXPECT_TRUE(Eventually([&] { return pid() > 0; }));
      was = pid();
      EXPECT_EQ(context.RunProgram({.argv = {"/bin/true"}})->exit_code, 0);
      EXPECT_TRUE(IsRunning(was)) << "spared when another program ended";
      EXPECT_FALSE((*beside)->HasEnded());
      EXPECT_EQ((*beside)->End(SIGTERM, absl::Seconds(10)).signal, SIGTERM);
    }
    EXPECT_FALSE(IsRunning(was));
    return Succeeded();
  };
  StartAgent();
  Assign({Command({})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
}

TEST_F(Runs, ATaskMayTakeWhatItsProgramWritesAndWatchIt) {
  std::string taken;
  task_ = [&](TaskContext& context) {
    ProgramRequest speak{.argv = {"/bin/sh", "-c", "echo data; echo talk >&2"}};
    speak.on_out = [&](std::string_view bytes) { taken += bytes; };
    speak.on_err = [&](std::string_view bytes) { taken += bytes; };
    EXPECT_EQ(context.RunProgram(speak)->exit_code, 0);
    ProgramRequest watched{.argv = {"/bin/sleep", "1000"}};
    watched.watch = [] { return ResourceExhausted("the disk is full"); };
    EXPECT_TRUE(absl::IsResourceExhausted(context.RunProgram(watched).status()));
    v1::RunArtifact artifact;
    artifact.mutable_backup()->set_snapshot_id("abc");
    context.Artifact(artifact);
    return Succeeded();
  };
  StartAgent();
  Assign({Command({})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  EXPECT_THAT(taken, ::testing::AllOf(HasSubstr("data"), HasSubstr("talk")));
  EXPECT_EQ(Output(), "");
  const std::vector<v1::RunEvent> events = Events();
  EXPECT_EQ(std::count_if(events.begin(), events.end(),
                          [](const v1::RunEvent& event) { return event.has_artifact(); }),
            1);
}

// What a kill -9 of the agent leaves: the journal as it was, and the program.
class KilledAgent : public Runs {
 protected:
  // A program that runs, marked as the attempt's or not, in a session of its own.
  exec::Program Launch(const std::vector<std::string>& environment) {
    exec::ProgramSpec spec;
    spec.argv = {Script("left", "sleep 1000 &\necho $! > " + File("pid") + "\nwait")};
    spec.environment = environment;
    spec.environment.emplace_back(exec::ProgramPath());
    StatusOr<exec::Program> program = exec::Program::Start(spec);
    EXPECT_TRUE(program.ok()) << program.status();
    return *std::move(program);
  }
  void Journal(const std::function<void(RunJournal&)>& write) {
    StatusOr<std::unique_ptr<RunJournal>> journal = RunJournal::Open(File("runs.db"));
    ASSERT_TRUE(journal.ok());
    ASSERT_TRUE((*journal)->Begin(kAttempt, clock_.Now()).ok());
    write(**journal);
  }

  const AttemptKey kAttempt{kRun, 1};
};

TEST_F(KilledAgent, TheOutcomeIsUnknownAndWhatIsLeftIsEnded) {
  exec::Program program = Launch(AttemptMarks(kAttempt));
  const pid_t child = PidIn("pid");
  Journal([&](RunJournal& journal) {
    ASSERT_TRUE(journal.NoteProcess(kAttempt, *MarkOf(program.pid())).ok());
    ASSERT_TRUE(journal.NoteStep(kAttempt, "dumping orders").ok());
  });
  StartAgent();
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_UNKNOWN);
  EXPECT_EQ(end.reason(),
            "the agent was killed while it ran: nobody saw its end; it was at: dumping orders; "
            "ended 2 processes that it left");
  EXPECT_TRUE(program.HasEnded());
  EXPECT_FALSE(IsRunning(child));
  // Never again.
  Assign({Command({Script("job", "touch " + File("done"))})});
  testing::Pause(absl::Milliseconds(100));
  EXPECT_FALSE(FileExists(File("done")));
  EXPECT_EQ(Ends(), 1u);
}

TEST_F(KilledAgent, ItsGroupIsEndedEvenWithoutMarks) {
  exec::Program program = Launch({});
  const pid_t child = PidIn("pid");
  Journal([&](RunJournal& journal) {
    ASSERT_TRUE(journal.NoteProcess(kAttempt, *MarkOf(program.pid())).ok());
  });
  StartAgent();
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_UNKNOWN);
  EXPECT_FALSE(IsRunning(child));
}

TEST_F(KilledAgent, AProcessThatHasItsNumberByNowIsLeftAlone) {
  exec::Program stranger = Launch({"MUSTER_RUN=" + kRunId, "MUSTER_ATTEMPT=2"});
  const pid_t child = PidIn("pid");
  Journal([&](RunJournal& journal) {
    ProcessMark mark = *MarkOf(stranger.pid());
    ++mark.started;
    ASSERT_TRUE(journal.NoteProcess(kAttempt, mark).ok());
  });
  StartAgent();
  const v1::RunEnded end = End();
  EXPECT_EQ(end.reason(), "the agent was killed while it ran: nobody saw its end");
  EXPECT_TRUE(IsRunning(stranger.pid()));
  EXPECT_TRUE(IsRunning(child));
}

TEST_F(KilledAgent, AfterARestartOfTheHostNobodyIsLookedFor) {
  exec::Program stranger = Launch({});
  PidIn("pid");
  Journal([&](RunJournal& journal) {
    ProcessMark mark = *MarkOf(stranger.pid());
    mark.boot_id = "another boot";
    ASSERT_TRUE(journal.NoteProcess(kAttempt, mark).ok());
  });
  StartAgent();
  EXPECT_EQ(End().reason(), "the host went down while it ran: nobody saw its end");
  EXPECT_TRUE(IsRunning(stranger.pid()));
}

v1::RunEvent EndOf(const AttemptKey& key, absl::Time at) {
  v1::RunEvent event;
  event.set_run_id(key.run_id);
  event.set_fence(key.fence);
  *event.mutable_at() = wire::ToProto(at);
  event.mutable_ended()->set_outcome(v1::RUN_OUTCOME_SUCCEEDED);
  event.mutable_ended()->set_reason("exit code 0");
  return event;
}

TEST_F(KilledAgent, AnEndThatWasDecidedAndNotToldIsTold) {
  StartAgent();
  const LogPosition log = spool_->position();
  StopAgent();
  Journal([&](RunJournal& journal) {
    ASSERT_TRUE(journal.End(EndOf(kAttempt, clock_.Now()), log).ok());
  });
  StartAgent();
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  ASSERT_TRUE(Eventually([&] { return journal_->Look(kAttempt) == RunJournal::State::kTold; }));
}

TEST_F(KilledAgent, AnEndThatStandsInTheLogIsNotToldAgain) {
  StartAgent();
  const LogPosition log = spool_->position();
  ASSERT_TRUE(spool_->Append({RunRecord(EndOf({kRun, 7}, clock_.Now()))}).ok()) << "another's";
  ASSERT_TRUE(spool_->Append({RunRecord(EndOf(kAttempt, clock_.Now()))}).ok());
  StopAgent();
  Journal([&](RunJournal& journal) {
    ASSERT_TRUE(journal.End(EndOf(kAttempt, clock_.Now()), log).ok());
  });
  StartAgent();
  ASSERT_TRUE(Eventually([&] { return journal_->Look(kAttempt) == RunJournal::State::kTold; }));
  EXPECT_EQ(Ends(), 2u);
  EXPECT_EQ(journal_->Read(kAttempt)->log.written, 2u);
}

TEST_F(KilledAgent, AnEndThatTheLogLostIsToldAgainWhenItIsAskedFor) {
  const std::string program = Script("append", "echo x >> " + File("done"));
  StartAgent();
  Assign({Command({program})});
  End();
  ASSERT_TRUE(Eventually([&] { return journal_->Look(kAttempt) == RunJournal::State::kTold; }));
  StopAgent();
  for (const char* suffix : {"", "-wal", "-shm"}) ::unlink((File("log.db") + suffix).c_str());
  StartAgent();
  testing::Pause(absl::Milliseconds(50));
  EXPECT_EQ(Ends(), 0u) << "nobody asks";
  Assign({Command({program})});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_SUCCEEDED);
  Assign({Command({program})});
  testing::Pause(absl::Milliseconds(100));
  EXPECT_EQ(Ends(), 1u);
  EXPECT_EQ(*ReadFile(File("done")), "x\n");
}

TEST_F(KilledAgent, WithoutItsMemoryItDoesNothingTwice) {
  std::ofstream(File("runs.db")) << std::string(8192, 'x');
  const std::string program = Script("job", "touch " + File("done"));
  StartAgent();
  EXPECT_TRUE(FileExists(File("runs.db.damaged")));
  Assign({Command({program})});
  const v1::RunEnded end = End();
  EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_UNKNOWN);
  EXPECT_THAT(end.reason(), HasSubstr("journal of runs was damaged"));
  EXPECT_FALSE(FileExists(File("done")));
  ASSERT_TRUE(Eventually([&] { return !journal_->has_lost_memory(); }));
  Assign({Command({program}), Command({program}, kOther)});
  EXPECT_EQ(End(kOther).outcome(), v1::RUN_OUTCOME_SUCCEEDED) << "what comes later is new";
}

// An agent in a process of its own, that is killed as a kernel kills: at any instruction.
class KilledForReal : public Runs {
 protected:
  // Runs the assignments until `kill_when` returns.
  void RunAndKill(const std::vector<v1::Assignment>& assignments,
                  const std::function<void()>& kill_when) {
    const pid_t agent = ::fork();
    if (agent == 0) {
      StartAgent();
      Assign(assignments);
      while (true) ::pause();
    }
    kill_when();
    ::kill(agent, SIGKILL);
    ::waitpid(agent, nullptr, 0);
  }
};

TEST_F(KilledForReal, WhatItRanIsUnknownAndItsProcessesAreGone) {
  const v1::Assignment slow = Command({Script(
      "slow", "setsid sleep 1000 &\necho $! > " + File("daemon") + "\nsleep 1000 &\necho $! > " +
                  File("child") + "\necho $$ > " + File("pid") + "\nwait")});
  RunAndKill({slow}, [this] { PidIn("pid"); });
  for (const char* file : {"pid", "child", "daemon"}) EXPECT_TRUE(IsRunning(PidIn(file))) << file;
  StartAgent();
  Assign({slow});
  EXPECT_EQ(End().outcome(), v1::RUN_OUTCOME_UNKNOWN);
  for (const char* file : {"pid", "child", "daemon"}) EXPECT_FALSE(IsRunning(PidIn(file))) << file;
}

TEST_F(KilledForReal, EveryRunIsDoneOnceAtMostAndEndsOnceWheneverItDies) {
  const std::string program = Script("append", "echo x >> " + File("done-") + "$MUSTER_RUN");
  std::vector<v1::Assignment> assignments;
  std::vector<std::string> runs;
  for (int i = 0; i < 40; ++i) {
    runs.push_back(RandomUuid());
    assignments.push_back(Command({program}, runs.back().c_str()));
  }
  const uint64_t seed = 20261128;
  const auto random = SeededRandom(seed);
  for (int round = 0; round < 12; ++round) {
    RunAndKill(assignments, [&] {
      testing::Pause(absl::Milliseconds(static_cast<int64_t>(20 + random->Below(uint64_t{120}))));
    });
  }
  StartAgent();
  Assign(assignments);
  size_t succeeded = 0;
  for (const std::string& run : runs) {
    const v1::RunEnded end = End(run.c_str());
    const size_t done = ReadFile(File("done-" + run)).value_or("").size() / 2;
    EXPECT_LE(done, 1u) << run << " seed " << seed;
    if (end.outcome() == v1::RUN_OUTCOME_SUCCEEDED) {
      ++succeeded;
      EXPECT_EQ(done, 1u) << run << " seed " << seed;
    } else {
      EXPECT_EQ(end.outcome(), v1::RUN_OUTCOME_UNKNOWN) << run << ": " << end.reason();
    }
    const std::vector<v1::RunEvent> events = Events(run.c_str());
    EXPECT_TRUE(events.back().has_ended());
    EXPECT_LE(std::count_if(events.begin(), events.end(),
                            [](const v1::RunEvent& event) { return event.has_started(); }),
              1);
  }
  RecordProperty("succeeded", static_cast<int>(succeeded));
}

}  // namespace
}  // namespace muster::agent
