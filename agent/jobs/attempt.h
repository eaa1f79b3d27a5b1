// One attempt of a run while it is on: makes its task, journals, runs it on a thread of its own,
// and gathers what it has to say. The end is handed to whoever started it.
//
//   policy ─no─► never began
//     └─yes─► journal ──► started ──► Task::Run ──► what is left is ended ──► the end
//
// What its tools refer to must outlive it. Ask and Look may be called from any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "agent/decide/attempts.h"
#include "agent/decide/run_output.h"
#include "agent/jobs/run_journal.h"
#include "agent/spool/recorder.h"
#include "agent/tasks/task.h"
#include "lib/base/clock.h"
#include "lib/exec/program.h"
#include "lib/exec/threads.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

// A job's task, or why this host does not do it.
using TaskMaker = std::function<TaskOr(const v1::JobSpec&)>;

struct AttemptTools {
  RunJournal& journal;
  Recorder& recorder;
  const TaskMaker& make_task;
  const Clock& clock;
};

class Attempt final : private TaskContext {
 public:
  // What became of it: its end, to be journalled and told; or why it could not be journalled, so
  // that nothing was done and it may be tried again.
  using OnEnd = std::function<void(const AttemptKey&, StatusOr<v1::RunEvent>)>;

  // `on_end` is called once, by the attempt's thread, as the last thing that it does.
  Attempt(const v1::Assignment& assignment, AttemptTools tools, OnEnd on_end);
  // Waits for the end: it must have been asked for.
  ~Attempt() override = default;

  const AttemptKey& key() const { return key_; }
  // It is to end before it is done. The first reason counts; `at_once` may come later.
  void Ask(EndWanted wanted);
  // Carries out what the time demands: its deadline, the end of the grace.
  void Look(absl::Duration now);

 private:
  const std::string& run_id() const override { return key_.run_id; }
  const std::string& job() const override { return job_; }
  const Clock& clock() const override { return tools_.clock; }
  Demand demand() const override;
  Demand WaitForDemand(absl::Duration most) override;
  TaskEnd Ended() const override;
  absl::Duration deadline() const override { return began_ + lasts_; }
  void Output(v1::RunOutput::Stream stream, std::string_view bytes) override;
  void Note(std::string_view line) override;
  void Progress(v1::RunProgress progress) override;
  void Artifact(v1::RunArtifact artifact) override;
  Status Step(std::string_view what) override;
  StatusOr<ProgramEnd> RunProgram(const ProgramRequest& request) override;
  StatusOr<std::unique_ptr<ProgramBeside>> StartBeside(const ProgramRequest& request) override;

  StatusOr<v1::RunEvent> RunToEnd();
  TaskEnd RunTask(Task& task);
  Status Supervise(exec::Program& program, const ProgramRequest& request, ProgramEnd& end);
  void Listen(exec::Program& program, const ProgramRequest& request, int milliseconds);
  void TakeOutput(exec::Program& program, const ProgramRequest& request, size_t most);
  void EndWhatIsLeft(exec::Program& program, const ProgramRequest& request, ProgramEnd& end);
  exec::ProgramSpec SpecOf(const ProgramRequest& request) const;
  v1::RunEvent NewEvent() const;
  v1::RunEvent EndEvent(const TaskEnd& end);
  void TellOutput();
  void TellRest();
  void Record(v1::RunEvent event, Urgency urgency);

  const AttemptKey key_;
  const std::string job_;
  const std::optional<google::protobuf::Timestamp> slot_;
  const v1::JobSpec spec_;
  const absl::Duration lasts_;
  const AttemptTools tools_;
  const OnEnd on_end_;
  const absl::Duration began_;
  const exec::Fd wake_;  // an eventfd: something is demanded

  mutable absl::Mutex mutex_;
  std::optional<EndWanted> wanted_ ABSL_GUARDED_BY(mutex_);
  Demand demand_ ABSL_GUARDED_BY(mutex_) = Demand::kNone;

  absl::Mutex output_mutex_;
  RunOutputGate output_ ABSL_GUARDED_BY(output_mutex_);
  ProgressGate progress_ ABSL_GUARDED_BY(output_mutex_);

  exec::Thread thread_;  // last: it uses all the others
};

// A run's event as a record of the log, within its bounds.
v1::Record RunRecord(v1::RunEvent event);

}  // namespace muster::agent
