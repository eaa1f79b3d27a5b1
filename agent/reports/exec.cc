#include "agent/reports/exec.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "agent/reports/output_tail.h"
#include "agent/reports/report_writer.h"
#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kTellWithin = absl::Seconds(10);
constexpr int kNotThere = 127;
constexpr int kNotStarted = 126;
constexpr int kSignalled = 128;

// What we open must not become the command's stdin, stdout or stderr.
void KeepStandardStreams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

v1::RunEnded NeverBegan(const std::string& program, int problem) {
  v1::RunEnded ended;
  ended.set_outcome(v1::RUN_OUTCOME_NEVER_BEGAN);
  ended.set_reason(fmt::format("{} cannot be started: {}", program, std::strerror(problem)));
  ended.set_exit_code(problem == ENOENT ? kNotThere : kNotStarted);
  return ended;
}

v1::RunEnded EndOf(int status) {
  v1::RunEnded ended;
  ended.set_outcome(v1::RUN_OUTCOME_FAILED);
  if (WIFSIGNALED(status)) {
    ended.set_signal(WTERMSIG(status));
    ended.set_exit_code(-1);
    ended.set_reason(
        fmt::format("ended by signal {} ({})", ended.signal(), sigabbrev_np(ended.signal())));
    return ended;
  }
  ended.set_exit_code(WEXITSTATUS(status));
  ended.set_reason(fmt::format("exit code {}", ended.exit_code()));
  if (ended.exit_code() == 0) ended.set_outcome(v1::RUN_OUTCOME_SUCCEEDED);
  return ended;
}

int CodeOf(const v1::RunEnded& ended) {
  return ended.signal() > 0 ? kSignalled + ended.signal() : ended.exit_code();
}

void Say(const std::string& what) { std::fprintf(stderr, "muster-agent exec: %s\n", what.c_str()); }

}  // namespace

int Exec(const ExecOptions& options) {
  KeepStandardStreams();
  const Clock& clock = SystemClock();
  const absl::Duration began = clock.Uptime();
  Report report{
      .run_id = RandomUuid(), .job = options.job, .what = options.command[0], .began = clock.Now()};
  HostCommand command;
  const int problem = command.Start(options.command, options.output);
  auto writer = std::make_unique<ReportWriter>(options.data, report);
  OutputTail tail;
  if (problem == 0) {
    report.ended =
        EndOf(command.Wait([&tail](v1::RunOutput::Stream stream, std::string_view bytes) {
          tail.Take(stream, bytes);
        }));
  } else {
    report.ended = NeverBegan(options.command[0], problem);
    Say(report.ended->reason());
  }
  report.ended_at = clock.Now();
  *report.ended->mutable_took() = wire::ToProto(clock.Uptime() - began);
  report.output = tail.Finish();
  report.ended->set_dropped_lines(tail.dropped_lines());
  const int code = CodeOf(*report.ended);
  const Status told = writer->Finish(report, kTellWithin);
  if (!told.ok()) Say(fmt::format("job {} is not reported: {}", options.job, Message(told)));
  command.LeaveOutput();
  if (absl::IsDeadlineExceeded(told)) _exit(code);  // its thread hangs with the disk
  return code;
}

}  // namespace muster::agent
