// What a task gets of its attempt.
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

}  // namespace
}  // namespace muster::agent
