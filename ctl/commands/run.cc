#include <iostream>

#include <absl/synchronization/notification.h>

#include "ctl/commands/commands.h"
#include "ctl/commands/run_ids.h"
#include "ctl/commands/run_wait.h"
#include "ctl/render/jobs.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

constexpr int kTimedOut = 6;
constexpr absl::Duration kAskAgainAfter = absl::Milliseconds(500);

// Asks again with the same request id for as long as --timeout where the connection broke, so that
// one run is started and not two.
StatusOr<v1::Run> StartRun(Session& session, const std::string& job) {
  v1::StartRunRequest request;
  request.set_job(job);
  request.set_request_id(RandomUuid());
  v1::StartRunResponse response;
  bool sent = false;
  const absl::Time until = session.now() + session.timeout();
  while (true) {
    const Status status = session.Try([&](const auto& channel, grpc::ClientContext& context) {
      sent = true;
      return v1::RunService::NewStub(channel)->StartRun(&context, request, &response);
    });
    if (status.ok()) return response.run();
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
                  fmt::format("{}; whether the run was started is not known: musterctl get runs "
                              "--job {}",
                              Message(status), job));
  }
}

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

Status Run(Session& session, const std::string& job, bool wait, absl::Duration longest,
           int& exit_code) {
  const absl::Time deadline = session.now() + longest;
  MUSTER_ASSIGN_OR_RETURN(v1::Run run, StartRun(session, job));
  if (wait) {
    MUSTER_ASSIGN_OR_RETURN(run, WaitForRun(session, run, deadline));
  }
  session.PrintItem(ToJson(run), "runs");
  std::cout << std::flush;
  if (wait || IsOver(run.state())) Explain(run);
  if (IsOver(run.state())) exit_code = ExitCodeOf(run.state());
  if (wait && !IsOver(run.state())) exit_code = kTimedOut;
  return OkStatus();
}

Status Cancel(Session& session, const std::string& run, bool terminate, const std::string& reason) {
  v1::CancelRunRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_id(), ResolveRun(session, run));
  request.set_terminate(terminate);
  request.set_reason(reason);
  v1::CancelRunResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->CancelRun(&context, request, &response);
  }));
  session.PrintItem(ToJson(response.run()), "runs");
  if (!IsOver(response.run().state())) {
    std::cerr << fmt::format("it was asked to end; see: musterctl describe run {}\n",
                             ShortId(request.id()));
  }
  return OkStatus();
}

}  // namespace

void AddRun(Cli& cli) {
  CLI::App* run = cli.app.add_subcommand("run", "run a job now, besides its schedule");
  auto job = std::make_shared<std::string>();
  auto wait = std::make_shared<bool>(false);
  auto timeout = std::make_shared<std::string>();
  run->add_option("job", *job, "name of the job")->required();
  run->add_flag("--wait", *wait, "until it is over; the exit code says how it ended");
  run->add_option("--timeout", *timeout, "with --wait: no longer than this; the run goes on");
  run->callback([&cli, job, wait, timeout] {
    if (!*wait && !timeout->empty()) cli.flags.timeout = *timeout;
    cli.Run([&](Session& session) -> Status {
      absl::Duration longest = absl::InfiniteDuration();
      if (*wait && !timeout->empty()) {
        MUSTER_ASSIGN_OR_RETURN(longest, ParseDuration(*timeout));
      }
      return Run(session, *job, *wait, longest, cli.exit_code);
    });
  });
}

void AddCancel(Cli& cli) {
  CLI::App* cancel = cli.app.add_subcommand("cancel", "ask a run to end");
  auto run = std::make_shared<std::string>();
  auto terminate = std::make_shared<bool>(false);
  auto reason = std::make_shared<std::string>();
  cancel->add_option("run", *run, "id, how it begins, or JOB/latest")->required();
  cancel->add_flag("--terminate", *terminate, "end it at once, without asking it");
  cancel->add_option("--reason", *reason, "told with the run, and for the audit trail");
  cancel->callback([&cli, run, terminate, reason] {
    cli.Run([&](Session& session) { return Cancel(session, *run, *terminate, *reason); });
  });
}

}  // namespace muster::ctl
