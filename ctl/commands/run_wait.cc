#include "ctl/commands/run_wait.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <optional>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>

#include "ctl/render/jobs.h"
#include "ctl/render/run_meter.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

constexpr absl::Duration kDrawEvery = absl::Seconds(1);
constexpr absl::Duration kConnectAgainAfter = absl::Seconds(1);
constexpr absl::Duration kLastNotes = absl::Seconds(2);
constexpr char kClearLine[] = "\r\x1b[K";

// What the handler of Ctrl-C says: made before, for a handler may make nothing.
char interrupt_text[512];

void SayOnInterrupt(const v1::Run& run, bool live) {
  const std::string text = fmt::format(
      "{}run {} of {} goes on; watch it with: musterctl logs {} -f\nend it with: "
      "musterctl cancel {}\n",
      live ? kClearLine : "\n", ShortId(run.id()), OneLine(run.job()), ShortId(run.id()),
      ShortId(run.id()));
  std::strncpy(interrupt_text, text.c_str(), sizeof interrupt_text - 1);
  for (const int interrupt : {SIGINT, SIGTERM}) {
    signal(interrupt, [](int number) {
      if (write(STDERR_FILENO, interrupt_text, std::strlen(interrupt_text)) < 0) _exit(1);
      _exit(128 + number);
    });
  }
}

size_t StderrColumns() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string ChangeText(const v1::Run& run) {
  std::string text = fmt::format("run {}: {}", ShortId(run.id()), StateName(run.state()));
  if (!run.agent().empty()) text += " on " + OneLine(run.agent());
  if (run.attempt() > 1) text += fmt::format(", attempt {} of {}", run.attempt(), run.attempts());
  if (!run.reason().empty()) text += ": " + OneLine(run.reason());
  return text;
}

// What stderr shows of the run. The stream's thread tells, and one of its own draws.
class Display {
 public:
  Display(const Session& session, const v1::Run& run)
      : session_(session), live_(StderrIsTerminal()) {
    SayOnInterrupt(run, live_);
    Take(run);
    if (live_) loop_.emplace("draw", kDrawEvery, [this] { Tick(); });
  }
  ~Display() {
    if (!live_) return;
    loop_->Stop();
    std::cerr << kClearLine << std::flush;
  }

  void Take(const v1::Run& run) {
    absl::MutexLock lock(&mutex_);
    const std::string change = ChangeText(run);
    if (change != last_change_ && !IsOver(run.state())) SayLocked(change);
    last_change_ = change;
    meter_.Take(run, session_.now());
    run_ = run;
    DrawLocked();
  }
  void Say(const std::string& text) {
    absl::MutexLock lock(&mutex_);
    SayLocked(text);
    DrawLocked();
  }
  v1::Run run() const {
    absl::MutexLock lock(&mutex_);
    return run_;
  }

 private:
  void Tick() {
    absl::MutexLock lock(&mutex_);
    DrawLocked();
  }
  void SayLocked(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::cerr << (live_ ? kClearLine : "") << text << "\n" << std::flush;
  }
  void DrawLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!live_) return;
    std::cerr << kClearLine << meter_.Line(session_.now(), StderrColumns() - 1) << std::flush;
  }

  const Session& session_;
  const bool live_;
  mutable absl::Mutex mutex_;
  v1::Run run_ ABSL_GUARDED_BY(mutex_);
  RunMeter meter_ ABSL_GUARDED_BY(mutex_);
  std::string last_change_ ABSL_GUARDED_BY(mutex_);
  std::optional<exec::PeriodicLoop> loop_;  // last: uses all the others
};

// Follows the run's log for muster's own notes, on a thread of its own. The wait does not depend on
// it: where the log cannot be read, there are no notes.
class Notes {
 public:
  Notes(Session& session, const std::string& id, Display& display)
      : session_(session), display_(display) {
    request_.set_id(id);
    request_.set_follow(true);
    thread_ = exec::Thread("notes", [this] { Follow(); });
  }
  // The log ends with the run; what is late is not waited for long.
  ~Notes() {
    if (IsOver(display_.run().state())) over_.WaitForNotificationWithTimeout(kLastNotes);
    stop_.Notify();
    {
      absl::MutexLock lock(&mutex_);
      if (running_ != nullptr) running_->TryCancel();
    }
    thread_.Join();
  }

 private:
  void Follow() {
    while (!stop_.HasBeenNotified() && ReadOnce().code() == absl::StatusCode::kUnavailable)
      stop_.WaitForNotificationWithTimeout(kConnectAgainAfter);
    over_.Notify();
  }
  Status ReadOnce() {
    return session_.TryStream([&](const auto& channel, grpc::ClientContext& context) {
      SetRunning(&context);
      const auto reader = v1::RunService::NewStub(channel)->RunLog(&context, request_);
      size_t seen = 0;
      v1::RunLogEntry entry;
      while (reader->Read(&entry)) {
        if (++seen > told_) Tell(entry);
        told_ = std::max(told_, seen);
      }
      const grpc::Status status = reader->Finish();
      SetRunning(nullptr);
      return status;
    });
  }
  void SetRunning(grpc::ClientContext* context) {
    absl::MutexLock lock(&mutex_);
    running_ = context;
    if (context != nullptr && stop_.HasBeenNotified()) context->TryCancel();
  }
  void Tell(const v1::RunLogEntry& entry) {
    if (entry.output().stream() != v1::RunOutput::STREAM_NOTE) return;
    for (const std::string_view line : Split(Trim(entry.output().text()), '\n'))
      display_.Say("# " + OneLine(line));
  }

  Session& session_;
  Display& display_;
  v1::RunLogRequest request_;
  size_t told_ = 0;  // entries; of the thread
  absl::Notification stop_;
  absl::Notification over_;
  absl::Mutex mutex_;
  grpc::ClientContext* running_ ABSL_GUARDED_BY(mutex_) = nullptr;
  exec::Thread thread_;  // last: uses all the others
};

Status WatchOnce(Session& session, const std::string& id, absl::Time deadline, Display& display) {
  v1::WatchRunRequest request;
  request.set_id(id);
  return session.TryStream([&](const auto& channel, grpc::ClientContext& context) {
    if (deadline < absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
    const auto reader = v1::RunService::NewStub(channel)->WatchRun(&context, request);
    v1::Run run;
    while (reader->Read(&run)) {
      display.Take(run);
      if (IsOver(run.state())) context.TryCancel();
    }
    return reader->Finish();
  });
}

// Whether another connection may do better. A stream that ends well before the run does was cut
// off.
bool MayTryAgain(const Status& status) {
  return status.ok() || status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kCancelled ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

void PauseUntil(absl::Time time, absl::Time now) {
  absl::Notification never;
  never.WaitForNotificationWithTimeout(std::max(time - now, absl::ZeroDuration()));
}

}  // namespace

int ExitCodeOf(v1::RunState state) {
  constexpr int kPartial = 8;
  switch (state) {
    case v1::RUN_STATE_SUCCEEDED: return 0;
    case v1::RUN_STATE_FAILED:
    case v1::RUN_STATE_TIMED_OUT:
    case v1::RUN_STATE_CANCELLED:
    case v1::RUN_STATE_MISSED: return 1;
    default: return kPartial;
  }
}

StatusOr<v1::Run> WaitForRun(Session& session, const v1::Run& run, absl::Time deadline) {
  Display display(session, run);
  const Notes notes(session, run.id(), display);
  bool away = false;
  while (!IsOver(display.run().state()) && session.now() < deadline) {
    const Status status = WatchOnce(session, run.id(), deadline, display);
    if (IsOver(display.run().state()) || session.now() >= deadline) break;
    if (!MayTryAgain(status)) return status;
    if (!away) display.Say("the control plane is away; connecting again");
    away = !status.ok();
    PauseUntil(std::min(deadline, session.now() + kConnectAgainAfter), session.now());
  }
  return display.run();
}

}  // namespace muster::ctl
