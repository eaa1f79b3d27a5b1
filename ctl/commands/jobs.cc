#include <iostream>

#include "ctl/commands/commands.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

void PrintPaused(const Session& session, const std::string& job, bool paused,
                 const std::optional<absl::Time>& until) {
  const Json end = until.has_value() ? Json(TimeText(*until)) : Json(nullptr);
  if (session.structured())
    return session.PrintOne({{"name", job}, {"paused", paused}, {"pausedUntil", end}});
  if (session.flags().output == "name") {
    std::cout << fmt::format("job/{}\n", job);
  } else if (!paused) {
    std::cout << fmt::format("job/{} resumed\n", job);
  } else {
    std::cout << fmt::format(
        "job/{} paused {}\n", job,
        until.has_value() ? "until " + TimeText(*until) : "until somebody resumes it");
  }
}

// Nothing: until it is resumed.
StatusOr<std::optional<absl::Time>> EndOf(const Session& session, const std::string& until,
                                          const std::string& span) {
  std::optional<absl::Time> end;
  if (!until.empty()) {
    MUSTER_ASSIGN_OR_RETURN(end, ParseTime(until));
  } else if (!span.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const absl::Duration duration, ParseDuration(span));
    end = absl::FromUnixSeconds(absl::ToUnixSeconds(session.now() + duration));
  }
  if (end.has_value() && *end <= session.now())
    return InvalidArgument("{} is in the past; a pause ends later than now", TimeText(*end));
  return end;
}

Status Pause(Session& session, const v1::PauseJobRequest& wanted, const std::string& until,
             const std::string& span) {
  MUSTER_ASSIGN_OR_RETURN(const std::optional<absl::Time> end, EndOf(session, until, span));
  v1::PauseJobRequest request = wanted;
  if (end.has_value()) *request.mutable_until() = wire::ToProto(*end);
  v1::PauseJobResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->PauseJob(&context, request, &response);
  }));
  PrintPaused(session, request.job(), true, end);
  return OkStatus();
}

Status Resume(Session& session, const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_job(job);
  v1::ResumeJobResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->ResumeJob(&context, request, &response);
  }));
  PrintPaused(session, job, false, std::nullopt);
  return OkStatus();
}

Status Backfill(Session& session, const std::string& job, const std::string& from,
                const std::string& until) {
  MUSTER_ASSIGN_OR_RETURN(const absl::Time first, ParseTime(from));
  MUSTER_ASSIGN_OR_RETURN(const absl::Time end, ParseTime(until));
  if (first >= end) return InvalidArgument("--from {} is not before --until {}", from, until);
  v1::BackfillRequest request;
  request.set_job(job);
  *request.mutable_from() = wire::ToProto(first);
  *request.mutable_until() = wire::ToProto(end);
  v1::BackfillResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->Backfill(&context, request, &response);
  }));
  Json items = Json::array();
  for (const v1::Run& run : response.items()) items.push_back(ToJson(run));
  if (items.empty() && !session.structured()) {
    std::cerr << "no new runs: there is no slot in that span, or each has a run\n";
    return OkStatus();
  }
  session.PrintList(items, "runs");
  return OkStatus();
}

}  // namespace

void AddPause(Cli& cli) {
  CLI::App* pause =
      cli.app.add_subcommand("pause", "let the slots of a job go by; runs that began go on");
  auto request = std::make_shared<v1::PauseJobRequest>();
  auto job = std::make_shared<std::string>();
  auto until = std::make_shared<std::string>();
  auto span = std::make_shared<std::string>();
  auto reason = std::make_shared<std::string>();
  pause->add_option("job", *job, "name of the job")->required();
  CLI::Option* end = pause->add_option("--until", *until, "when it ends: 2026-12-24T02:00:00Z");
  pause->add_option("--for", *span, "how long it lasts: 2h")->excludes(end);
  pause->add_option("--reason", *reason, "told with the slots that are missed");
  pause->callback([&cli, request, job, until, span, reason] {
    request->set_job(*job);
    request->set_reason(*reason);
    cli.Run([&](Session& session) { return Pause(session, *request, *until, *span); });
  });
}

void AddResume(Cli& cli) {
  CLI::App* resume = cli.app.add_subcommand("resume", "end the pause of a job");
  auto job = std::make_shared<std::string>();
  resume->add_option("job", *job, "name of the job")->required();
  resume->callback(
      [&cli, job] { cli.Run([&](Session& session) { return Resume(session, *job); }); });
}

void AddBackfill(Cli& cli) {
  CLI::App* backfill =
      cli.app.add_subcommand("backfill", "run a job for slots that went by without a run");
  auto job = std::make_shared<std::string>();
  auto from = std::make_shared<std::string>();
  auto until = std::make_shared<std::string>();
  backfill->add_option("job", *job, "name of the job")->required();
  backfill->add_option("--from", *from, "the first slot: 2026-12-24T02:00:00Z")->required();
  backfill->add_option("--until", *until, "slots before this time")->required();
  backfill->callback([&cli, job, from, until] {
    cli.Run([&](Session& session) { return Backfill(session, *job, *from, *until); });
  });
}

}  // namespace muster::ctl
