// What a job does on a host: a command, a backup, a step of a migration. A task is made for one
// attempt of a run and runs once, on a thread of its own; it may take hours. When it is asked to
// end, it does so soon, and says so with context.Ended().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "agent/decide/attempts.h"
#include "agent/policy/policy.h"
#include "lib/base/clock.h"
#include "lib/base/status.h"
#include "lib/exec/confine.h"
#include "muster/v1/job.pb.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

struct TaskEnd {
  v1::RunOutcome outcome = v1::RUN_OUTCOME_FAILED;
  std::string reason;  // one line
  int exit_code = -1;  // -1 where there is none
  int signal = 0;
  std::vector<v1::Metric> metrics;
};

// A program that a task runs: no shell. Its environment is PATH, HOME, LANG, what names the run,
// and `environment`.
struct ProgramRequest {
  std::vector<std::string> argv;
  std::string file;  // what is executed, where that is not argv[0]
  std::map<std::string, std::string> environment;
  std::string directory = "/";
  // Open files that it reads and writes instead of /dev/null and the run's output; borrowed.
  int in = -1;
  int out = -1;
  int err = -1;
  // Who takes what it writes, in place of the run's output.
  std::function<void(std::string_view)> on_out;
  std::function<void(std::string_view)> on_err;
  // What it may do, where that is less than its user may.
  std::optional<exec::Confinement> confinement;
  // Asked a few times each second while it runs. What is not OK ends it, and is what RunProgram
  // answers.
  std::function<Status()> watch;
};

struct ProgramEnd {
  int exit_code = -1;  // -1 if a signal ended it
  int signal = 0;
  bool asked = false;  // it was asked to end before it had
};

// A server that a task runs while it runs other programs.
class ProgramBeside {
 public:
  // SIGKILL, if it has not ended.
  virtual ~ProgramBeside() = default;
  virtual bool HasEnded() const = 0;
  // Sends the signal, waits so long at most, then SIGKILL. Once.
  virtual ProgramEnd End(int signal, absl::Duration grace) = 0;
};

// What the agent gives to a task. Any thread of the task may call; it must not outlive Task::Run.
class TaskContext {
 public:
  virtual ~TaskContext() = default;

  virtual const std::string& run_id() const = 0;
  virtual const std::string& job() const = 0;
  virtual const Clock& clock() const = 0;

  // Whether the attempt is to end before it is done: its deadline, somebody's wish, the agent's
  // stop. kKill: there is no more time, not for tidying up either.
  virtual Demand demand() const = 0;
  // Waits until something is demanded, at most so long.
  virtual Demand WaitForDemand(absl::Duration most) = 0;
  // How a task ends that ended for that reason.
  virtual TaskEnd Ended() const = 0;
  // By uptime. The attempt is asked to end by itself; a task may plan with it.
  virtual absl::Duration deadline() const = 0;

  // Output of the run: bytes as a program wrote them, or a line of muster's own.
  virtual void Output(v1::RunOutput::Stream stream, std::string_view bytes) = 0;
  virtual void Note(std::string_view line) = 0;
  virtual void Progress(v1::RunProgress progress) = 0;
  // What outlives the run; told at once, and again when more is known of it.
  virtual void Artifact(v1::RunArtifact artifact) = 0;
  // Journals, durably, what is done next. If nobody sees the attempt's end, this is told with it.
  virtual Status Step(std::string_view what) = 0;

  // Runs a program to its end, together with everything that it starts: what is left when it has
  // ended is ended too. If something is demanded it gets SIGTERM, and SIGKILL when there is no more
  // time. NotFound, PermissionDenied, Unavailable: it was not started. One at a time.
  virtual StatusOr<ProgramEnd> RunProgram(const ProgramRequest& request) = 0;
  // Starts a program and leaves it running, through RunProgram too; without one that takes it, its
  // output goes to /dev/null. The handle must go before Run returns.
  virtual StatusOr<std::unique_ptr<ProgramBeside>> StartBeside(const ProgramRequest& request) = 0;
};

class Task {
 public:
  virtual ~Task() = default;
  // For people: what RunStarted says.
  virtual std::string What() const = 0;
  virtual TaskEnd Run(TaskContext& context) = 0;
};

using TaskOr = StatusOr<std::unique_ptr<Task>>;

// The task that the job names, after the host's policy has allowed it. The error says what to add
// to the policy file.
TaskOr MakeTask(const v1::JobSpec& spec, const Policy& policy);

}  // namespace muster::agent
