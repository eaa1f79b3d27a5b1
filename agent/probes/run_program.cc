#include "agent/probes/run_program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include <poll.h>

#include "agent/probes/report.h"
#include "lib/exec/program.h"

namespace muster::agent {
namespace {

constexpr size_t kMostAtOnce = 64 << 10;

// Keeps the first `most` bytes. What one call reads is bounded: a program that never stops talking
// must not keep us from the clock.
void Drain(exec::Fd& fd, std::string& text, bool& cut, size_t most) {
  (void)exec::ReadSome(fd, kMostAtOnce, [&](std::string_view bytes) {
    const size_t kept = std::min(bytes.size(), most - std::min(most, text.size()));
    text.append(bytes.data(), kept);
    cut = cut || kept < bytes.size();
  });
}

// Until the process has ended (not yet reaped) or the deadline; whether it has ended.
bool Listen(exec::Program& program, ProgramEnd& end, const ProbeContext& context, size_t most) {
  while (true) {
    const int left = LeftMilliseconds(context);
    std::array<pollfd, 3> fds = {pollfd{program.pidfd(), POLLIN, 0},
                                 pollfd{program.out().get(), POLLIN, 0},
                                 pollfd{program.err().get(), POLLIN, 0}};
    const int ready = poll(fds.data(), fds.size(), left);
    Drain(program.out(), end.output, end.cut, most);
    Drain(program.err(), end.errors, end.cut, most);
    if (ready > 0 && fds[0].revents != 0) return true;
    if (left == 0) return false;
  }
}

void AskToEnd(const exec::Program& program, absl::Duration grace) {
  program.Signal(SIGTERM);
  pollfd fd{program.pidfd(), POLLIN, 0};
  while (poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(grace))) < 0 && errno == EINTR) {
  }
}

}  // namespace

StatusOr<ProgramEnd> RunToEnd(const std::vector<std::string>& argv, const ProbeContext& context,
                              const ProgramOptions& options) {
  exec::ProgramSpec spec;
  spec.argv = argv;
  spec.environment = {std::string(exec::ProgramPath()), "LC_ALL=C.UTF-8"};
  MUSTER_ASSIGN_OR_RETURN(exec::Program program, exec::Program::Start(spec));
  ProgramEnd end;
  end.timed_out = !Listen(program, end, context, options.most_output);
  if (end.timed_out) AskToEnd(program, options.grace);
  const exec::ProgramStatus status = program.Reap();
  Drain(program.out(), end.output, end.cut, options.most_output);
  Drain(program.err(), end.errors, end.cut, options.most_output);
  end.exit_code = status.exit_code;
  end.signal = status.signal;
  return end;
}

}  // namespace muster::agent
