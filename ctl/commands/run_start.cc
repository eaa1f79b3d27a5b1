#include "ctl/commands/run_start.h"

#include <iostream>

#include <absl/synchronization/notification.h>

#include "ctl/commands/run_wait.h"
#include "ctl/render/jobs.h"
#include "lib/base/text.h"

namespace muster::ctl {
namespace {

constexpr int kTimedOut = 6;
constexpr absl::Duration kAskAgainAfter = absl::Milliseconds(500);

// What the answer alone does not say.
void Explain(const v1::Run& run) {
  const std::string id = ShortId(run.id());
  if (!IsOver(run.state())) {
    std::cerr << fmt::format(
        "error: run {} of {} is not over yet, and goes on\ngo on with: musterctl logs {} -f, or "
        "musterctl describe run {}\n",
        id, OneLine(run.job()), id, id);
    return;
  }
  if (run.state() == v1::RUN_STATE_SUCCEEDED) return;
  const std::string reason = run.reason().empty() ? "" : ": " + OneLine(run.reason());
  std::cerr << fmt::format("error: run {} of {} is {}{}\n", id, OneLine(run.job()),
                           StateName(run.state()), reason);
  if (run.state() == v1::RUN_STATE_UNKNOWN) {
    std::cerr << "it began, and nobody saw its end: look at what it did before you run it again\n";
  }
  std::cerr << fmt::format("see: musterctl logs {}, or musterctl describe run {}\n", id, id);
}

StatusOr<absl::Duration> LongestWait(const WaitFlags& wait) {
  if (!wait.wait || wait.timeout.empty()) return absl::InfiniteDuration();
  return ParseDuration(wait.timeout);
}

}  // namespace

Status AskForRun(Session& session, const WaitFlags& wait, const std::string& job,
                 const Session::Call& ask) {
  MUSTER_RETURN_IF_ERROR(LongestWait(wait).status());
  bool sent = false;
  const absl::Time until = session.now() + session.timeout();
  while (true) {
    const Status status = session.Try([&](const auto& channel, grpc::ClientContext& context) {
      sent = true;
      return ask(channel, context);
    });
    if (status.ok()) return status;
    const bool unreached = status.code() == absl::StatusCode::kUnavailable;
    if (unreached && sent && session.now() + kAskAgainAfter < until) {
      absl::Notification never;
      never.WaitForNotificationWithTimeout(kAskAgainAfter);
      continue;
    }
    const bool unclear =
        sent && (unreached || status.code() == absl::StatusCode::kDeadlineExceeded);
    if (!unclear) return status;
    return Status(status.code(),
                  fmt::format("{}; whether the run was started is not known: musterctl get runs{}",
                              Message(status), job.empty() ? "" : " --job " + job));
  }
}

std::shared_ptr<WaitFlags> AddWaitFlags(CLI::App& command) {
  auto flags = std::make_shared<WaitFlags>();
  command.add_flag("--wait", flags->wait, "until it is over; the exit code says how it ended");
  command.add_option("--timeout", flags->timeout,
                     "with --wait: no longer than this; the run goes on");
  return flags;
}

void Take(const WaitFlags& wait, Flags& flags) {
  if (!wait.wait && !wait.timeout.empty()) flags.timeout = wait.timeout;
}

Status FinishRun(Session& session, v1::Run run, const WaitFlags& wait, int& exit_code) {
  if (wait.wait) {
    MUSTER_ASSIGN_OR_RETURN(const absl::Duration longest, LongestWait(wait));
    MUSTER_ASSIGN_OR_RETURN(run, WaitForRun(session, run, session.now() + longest));
  }
  session.PrintItem(ToJson(run), "runs");
  std::cout << std::flush;
  if (wait.wait || IsOver(run.state())) Explain(run);
  if (IsOver(run.state())) exit_code = ExitCodeOf(run.state());
  if (wait.wait && !IsOver(run.state())) exit_code = kTimedOut;
  return OkStatus();
}

}  // namespace muster::ctl
