#include <iostream>

#include "ctl/commands/commands.h"
#include "ctl/commands/run_ids.h"
#include "ctl/commands/run_start.h"
#include "ctl/render/jobs.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

Status Run(Session& session, const std::string& job, const WaitFlags& wait, int& exit_code) {
  v1::StartRunRequest request;
  request.set_job(job);
  request.set_request_id(RandomUuid());
  v1::StartRunResponse response;
  MUSTER_RETURN_IF_ERROR(
      AskForRun(session, wait, job, [&](const auto& channel, grpc::ClientContext& context) {
        return v1::RunService::NewStub(channel)->StartRun(&context, request, &response);
      }));
  return FinishRun(session, response.run(), wait, exit_code);
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
  run->add_option("job", *job, "name of the job")->required();
  const auto wait = AddWaitFlags(*run);
  run->callback([&cli, job, wait] {
    Take(*wait, cli.flags);
    cli.Run([&](Session& session) { return Run(session, *job, *wait, cli.exit_code); });
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
