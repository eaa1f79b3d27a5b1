// A host whose runs are tested: programs in a folder, and everything of an agent that has to do
// with runs.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "agent/jobs/attempt_processes.h"
#include "agent/jobs/executor.h"
#include "agent/tasks/tasks.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/testing/servers.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {

// Processes of a run are found on the whole host: no two tests have one in common.
inline const std::string kRunId = RandomUuid();
inline const std::string kOtherId = RandomUuid();
inline const char* const kRun = kRunId.c_str();
inline const char* const kOther = kOtherId.c_str();

inline bool IsRunning(pid_t pid) {
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
    EXPECT_TRUE(testing::Eventually([&] { return Ends(run) > 0; }));
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
    EXPECT_TRUE(testing::Eventually([&] {
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

}  // namespace muster::agent
