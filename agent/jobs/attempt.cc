#include "agent/jobs/attempt.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/jobs/attempt_processes.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kDefaultDeadline = absl::Hours(1);
// How often output and progress are looked at while the program says nothing.
constexpr int kTellMilliseconds = 250;
// While what the program left is given time to end by itself.
constexpr int kLeftMilliseconds = 100;
constexpr size_t kMostAtOnce = 64 << 10;
// What a pipe holds, and then some: a process that was not found may go on writing.
constexpr size_t kMostAtTheEnd = 256 << 10;

absl::Duration DeadlineOf(const v1::JobSpec& spec) {
  return spec.has_deadline() ? wire::FromProto(spec.deadline()) : kDefaultDeadline;
}

std::string HomeVariable() {
  const char* home = std::getenv("HOME");
  return fmt::format("HOME={}", home == nullptr || *home == '\0' ? "/" : home);
}

TaskEnd NeverBegan(const Status& why) {
  return {v1::RUN_OUTCOME_NEVER_BEGAN, std::string(Message(why)), -1, 0, {}};
}

// Killed with the handle, together with its group.
class RunningBeside final : public ProgramBeside {
 public:
  explicit RunningBeside(exec::Program program) : program_(std::move(program)) {}
  bool HasEnded() const override { return program_.HasEnded(); }
  ProgramEnd End(int signal, absl::Duration grace) override {
    program_.Signal(signal);
    pollfd fd{program_.pidfd(), POLLIN, 0};
    (void)poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(grace)));
    const exec::ProgramStatus status = program_.Reap();
    return {status.exit_code, status.signal, true};
  }

 private:
  exec::Program program_;
};

}  // namespace

v1::Record RunRecord(v1::RunEvent event) {
  wire::Clip(event);
  v1::Record record;
  *record.mutable_run_event() = std::move(event);
  return record;
}

Attempt::Attempt(const v1::Assignment& assignment, AttemptTools tools, OnEnd on_end)
    : key_{assignment.run_id(), assignment.fence()},
      job_(assignment.job()),
      slot_(assignment.has_slot() ? std::optional(assignment.slot()) : std::nullopt),
      spec_(assignment.spec()),
      lasts_(DeadlineOf(spec_)),
      tools_(tools),
      on_end_(std::move(on_end)),
      began_(tools.clock.Uptime()),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      output_(began_),
      thread_("run", [this] { on_end_(key_, RunToEnd()); }) {}

StatusOr<v1::RunEvent> Attempt::RunToEnd() {
  const TaskOr task = tools_.make_task(spec_);
  if (!task.ok()) return EndEvent(NeverBegan(task.status()));
  const Status begun = tools_.journal.Begin(key_, tools_.clock.Now());
  // It may stand in the journal: never again, and nothing was done.
  if (absl::IsUnknown(begun)) return EndEvent(NeverBegan(begun));
  MUSTER_RETURN_IF_ERROR(begun);
  v1::RunEvent started = NewEvent();
  started.mutable_started()->set_what((*task)->What());
  if (slot_.has_value()) {
    v1::AssignedRun& assigned = *started.mutable_started()->mutable_assigned();
    assigned.set_job(job_);
    *assigned.mutable_slot() = *slot_;
  }
  Record(std::move(started), Urgency::kUrgent);
  return EndEvent(RunTask(**task));
}

TaskEnd Attempt::RunTask(Task& task) {
  LogInfo("a run begins", {{"run", key_.run_id}, {"attempt", key_.fence}, {"job", job_}});
  TaskEnd end = demand() == Demand::kNone ? task.Run(*this) : Ended();
  TellRest();
  LogInfo("a run ended", {{"run", key_.run_id},
                          {"attempt", key_.fence},
                          {"job", job_},
                          {"outcome", v1::RunOutcome_Name(end.outcome)},
                          {"reason", end.reason}});
  return end;
}

v1::RunEvent Attempt::NewEvent() const {
  v1::RunEvent event;
  event.set_run_id(key_.run_id);
  event.set_fence(key_.fence);
  *event.mutable_at() = wire::ToProto(tools_.clock.Now());
  return event;
}

v1::RunEvent Attempt::EndEvent(const TaskEnd& end) {
  v1::RunEvent event = NewEvent();
  v1::RunEnded& ended = *event.mutable_ended();
  ended.set_outcome(end.outcome);
  ended.set_reason(OneLine(end.reason));
  ended.set_exit_code(end.exit_code);
  ended.set_signal(end.signal);
  *ended.mutable_took() = wire::ToProto(tools_.clock.Uptime() - began_);
  for (const v1::Metric& metric : end.metrics) *ended.add_metrics() = metric;
  {
    absl::MutexLock lock(&output_mutex_);
    ended.set_dropped_lines(output_.dropped_lines());
  }
  wire::Clip(event);
  return event;
}

void Attempt::Ask(EndWanted wanted) {
  absl::MutexLock lock(&mutex_);
  if (!wanted_) {
    wanted_ = std::move(wanted);
  } else {
    wanted_->at_once = wanted_->at_once || wanted.at_once;
  }
}

void Attempt::Look(absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  if (!wanted_ && now >= began_ + lasts_) {
    wanted_ = EndWanted{v1::RUN_OUTCOME_TIMED_OUT,
                        fmt::format("ended at its deadline of {}", DurationText(lasts_)), now};
  }
  const Demand demand = DemandOn(wanted_, now);
  if (demand == demand_) return;
  demand_ = demand;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

Demand Attempt::demand() const {
  absl::MutexLock lock(&mutex_);
  return demand_;
}

Demand Attempt::WaitForDemand(absl::Duration most) {
  absl::MutexLock lock(&mutex_);
  const auto demanded = [this]()
                            ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return demand_ != Demand::kNone; };
  mutex_.AwaitWithTimeout(absl::Condition(&demanded), most);
  return demand_;
}

TaskEnd Attempt::Ended() const {
  absl::MutexLock lock(&mutex_);
  TaskEnd end;
  end.outcome = wanted_ ? wanted_->outcome : v1::RUN_OUTCOME_FAILED;
  end.reason = wanted_ ? wanted_->reason : "ended";
  return end;
}

void Attempt::Output(v1::RunOutput::Stream stream, std::string_view bytes) {
  {
    absl::MutexLock lock(&output_mutex_);
    output_.Take(stream, bytes, tools_.clock.Uptime());
  }
  TellOutput();
}

void Attempt::Note(std::string_view line) {
  Output(v1::RunOutput::STREAM_NOTE, OneLine(line) + "\n");
}

void Attempt::Progress(v1::RunProgress progress) {
  {
    absl::MutexLock lock(&output_mutex_);
    progress_.Take(std::move(progress));
  }
  TellOutput();
}

Status Attempt::Step(std::string_view what) { return tools_.journal.NoteStep(key_, OneLine(what)); }

void Attempt::Artifact(v1::RunArtifact artifact) {
  v1::RunEvent event = NewEvent();
  *event.mutable_artifact() = std::move(artifact);
  Record(std::move(event), Urgency::kUrgent);
}

void Attempt::TellOutput() {
  const absl::Duration now = tools_.clock.Uptime();
  // Records are in the order of their lines, whichever thread tells them.
  absl::MutexLock lock(&output_mutex_);
  for (v1::RunOutput& output : output_.Due(now)) {
    v1::RunEvent event = NewEvent();
    *event.mutable_output() = std::move(output);
    Record(std::move(event), Urgency::kSoon);
  }
  for (v1::RunProgress& progress : progress_.Due(now)) {
    v1::RunEvent event = NewEvent();
    *event.mutable_progress() = std::move(progress);
    Record(std::move(event), Urgency::kSoon);
  }
}

void Attempt::TellRest() {
  absl::MutexLock lock(&output_mutex_);
  for (v1::RunOutput& output : output_.Finish(tools_.clock.Uptime())) {
    v1::RunEvent event = NewEvent();
    *event.mutable_output() = std::move(output);
    Record(std::move(event), Urgency::kSoon);
  }
  for (v1::RunProgress& progress : progress_.Finish()) {
    v1::RunEvent event = NewEvent();
    *event.mutable_progress() = std::move(progress);
    Record(std::move(event), Urgency::kSoon);
  }
}

void Attempt::Record(v1::RunEvent event, Urgency urgency) {
  tools_.recorder.Add(RunRecord(std::move(event)), urgency);
}

exec::ProgramSpec Attempt::SpecOf(const ProgramRequest& request) const {
  exec::ProgramSpec spec;
  spec.argv = request.argv;
  spec.file = request.file;
  spec.directory = request.directory;
  spec.in = request.in;
  spec.out = request.out;
  spec.err = request.err;
  spec.confinement = request.confinement;
  for (const auto& [name, value] : request.environment)
    spec.environment.push_back(fmt::format("{}={}", name, value));
  // Of two variables with one name, which one counts depends on the reader: ours alone stay.
  std::vector<std::string> ours = AttemptMarks(key_);
  ours.push_back("MUSTER_JOB=" + job_);
  for (const std::string& variable :
       {std::string(exec::ProgramPath()), HomeVariable(), std::string("LANG=C.UTF-8")}) {
    if (!request.environment.contains(variable.substr(0, variable.find('=')))) {
      ours.push_back(variable);
    }
  }
  std::erase_if(spec.environment,
                [](const std::string& variable) { return variable.starts_with("MUSTER_"); });
  spec.environment.insert(spec.environment.end(), ours.begin(), ours.end());
  return spec;
}

StatusOr<ProgramEnd> Attempt::RunProgram(const ProgramRequest& request) {
  ProgramEnd end;
  if (demand() != Demand::kNone) {
    end.asked = true;
    return end;
  }
  MUSTER_ASSIGN_OR_RETURN(exec::Program program, exec::Program::Start(SpecOf(request)));
  if (const std::optional<ProcessMark> mark = MarkOf(program.pid())) {
    // Should this fail, what is left of the program is still found by what marks it.
    const Status noted = tools_.journal.NoteProcess(key_, *mark);
    if (!noted.ok()) LogWarning("a run's process is not journalled", {{"error", noted}});
  }
  const Status watched = Supervise(program, request, end);
  EndWhatIsLeft(program, request, end);
  MUSTER_RETURN_IF_ERROR(watched);
  return end;
}

StatusOr<std::unique_ptr<ProgramBeside>> Attempt::StartBeside(const ProgramRequest& request) {
  if (demand() != Demand::kNone) return Aborted("the run is to end");
  const exec::Fd nothing(open("/dev/null", O_WRONLY | O_CLOEXEC));
  exec::ProgramSpec spec = SpecOf(request);
  if (spec.out < 0) spec.out = nothing.get();
  if (spec.err < 0) spec.err = nothing.get();
  spec.environment.push_back(kBesideMark);
  MUSTER_ASSIGN_OR_RETURN(exec::Program program, exec::Program::Start(spec));
  return std::make_unique<RunningBeside>(std::move(program));
}

// Until the program itself has ended; and, if it was asked to end, what it started as well, or
// there is no more time.
Status Attempt::Supervise(exec::Program& program, const ProgramRequest& request, ProgramEnd& end) {
  Demand carried_out = Demand::kNone;
  const AttemptProcesses processes(key_, program.pid(), Beside::kSpared);
  while (true) {
    const bool ended = program.HasEnded();
    if (ended && carried_out != Demand::kEnd) return OkStatus();
    if (ended && processes.Find().empty()) return OkStatus();
    if (request.watch && !ended && carried_out == Demand::kNone) {
      MUSTER_RETURN_IF_ERROR(request.watch());
    }
    if (const Demand now = demand(); now != carried_out) {
      carried_out = now;
      end.asked = true;
      program.Signal(now == Demand::kKill ? SIGKILL : SIGTERM);
      if (now == Demand::kKill) continue;
    }
    Listen(program, request, ended ? kLeftMilliseconds : kTellMilliseconds);
    TellOutput();
  }
}

void Attempt::Listen(exec::Program& program, const ProgramRequest& request, int milliseconds) {
  std::array<pollfd, 4> fds = {pollfd{wake_.get(), POLLIN, 0},
                               pollfd{program.out().get(), POLLIN, 0},
                               pollfd{program.err().get(), POLLIN, 0},
                               // One that has ended would wake us for ever.
                               pollfd{program.HasEnded() ? -1 : program.pidfd(), POLLIN, 0}};
  (void)poll(fds.data(), fds.size(), milliseconds);
  uint64_t count = 0;
  (void)!::read(wake_.get(), &count, sizeof count);
  TakeOutput(program, request, kMostAtOnce);
}

void Attempt::TakeOutput(exec::Program& program, const ProgramRequest& request, size_t most) {
  (void)exec::ReadSome(program.out(), most, [&](std::string_view bytes) {
    request.on_out ? request.on_out(bytes) : Output(v1::RunOutput::STREAM_STDOUT, bytes);
  });
  (void)exec::ReadSome(program.err(), most, [&](std::string_view bytes) {
    request.on_err ? request.on_err(bytes) : Output(v1::RunOutput::STREAM_STDERR, bytes);
  });
}

// An attempt that is over has nothing running. The group is ended before the program is waited
// for: until then its number is nobody else's.
void Attempt::EndWhatIsLeft(exec::Program& program, const ProgramRequest& request,
                            ProgramEnd& end) {
  const ProcessesEnded ended = AttemptProcesses(key_, program.pid(), Beside::kSpared).Kill();
  const exec::ProgramStatus status = program.Reap();
  end.exit_code = status.exit_code;
  end.signal = status.signal;
  TakeOutput(program, request, kMostAtTheEnd);
  if (ended.ended > 0 && !end.asked) {
    Note(fmt::format("ended {} that it left behind", CountProcesses(ended.ended)));
  }
  if (ended.left > 0) Note(fmt::format("{} of its processes cannot be ended", ended.left));
}

}  // namespace muster::agent
