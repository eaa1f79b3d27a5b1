// What becomes of runs whose agent was killed.
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
