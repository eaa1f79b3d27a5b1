#include <iostream>

#include <absl/synchronization/notification.h>

#include "ctl/commands/commands.h"
#include "ctl/commands/run_ids.h"
#include "ctl/render/run_log.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

struct LogRequest {
  std::string run;
  bool follow = false;
  bool timestamps = false;
  uint32_t attempt = 0;  // 0 is all
};

// Prints what comes, once: a stream that begins again tells all of it again.
class LogPrinter {
 public:
  LogPrinter(const Session& session, const LogRequest& request)
      : json_(session.json()),
        attempt_(request.attempt),
        text_({.timestamps = request.timestamps, .colour = StdoutHasColour()}) {}

  void Begin() { seen_ = 0; }
  void Take(const v1::RunLogEntry& entry) {
    if (++seen_ <= printed_) return;
    printed_ = seen_;
    if (attempt_ != 0 && entry.attempt() != attempt_) return;
    std::cout << (json_ ? LineText(ToJson(entry)) : text_.Take(entry)) << std::flush;
  }
  // Of the run's last attempt, which alone the run counts.
  void End(const v1::Run& run) {
    if (json_ || (attempt_ != 0 && run.attempt() != attempt_)) return;
    std::cout << text_.Rest(run.attempt(), run.dropped_lines());
  }

 private:
  const bool json_;
  const uint32_t attempt_;
  RunLogText text_;
  size_t seen_ = 0;     // entries of this stream
  size_t printed_ = 0;  // the most of any
};

Status ReadOnce(Session& session, const v1::RunLogRequest& request, LogPrinter& printer) {
  return session.TryStream([&](const auto& channel, grpc::ClientContext& context) {
    const auto reader = v1::RunService::NewStub(channel)->RunLog(&context, request);
    printer.Begin();
    v1::RunLogEntry entry;
    while (reader->Read(&entry)) printer.Take(entry);
    return reader->Finish();
  });
}

Status ReadAll(Session& session, const v1::RunLogRequest& request, LogPrinter& printer) {
  bool ever = false;
  while (true) {
    const Status status = ReadOnce(session, request, printer);
    const bool away = status.code() == absl::StatusCode::kUnavailable;
    if (!away || !request.follow()) return status;
    if (!ever) std::cerr << "the control plane is away; connecting again\n";
    ever = true;
    absl::Notification never;
    never.WaitForNotificationWithTimeout(absl::Seconds(1));
  }
}

Status Logs(Session& session, const LogRequest& wanted) {
  v1::RunLogRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_id(), ResolveRun(session, wanted.run));
  request.set_follow(wanted.follow);
  LogPrinter printer(session, wanted);
  MUSTER_RETURN_IF_ERROR(ReadAll(session, request, printer));
  v1::GetRunRequest get;
  get.set_id(request.id());
  v1::GetRunResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->GetRun(&context, get, &response);
  }));
  printer.End(response.run());
  return OkStatus();
}

}  // namespace

void AddLogs(Cli& cli) {
  CLI::App* logs = cli.app.add_subcommand("logs", "what a run wrote");
  auto request = std::make_shared<LogRequest>();
  logs->add_option("run", request->run, "id, how it begins, or JOB/latest")->required();
  logs->add_flag("-f,--follow", request->follow, "go on until the run is over");
  logs->add_option("--attempt", request->attempt, "only this attempt");
  logs->add_flag("--timestamps", request->timestamps, "when each line came, in UTC");
  logs->callback(
      [&cli, request] { cli.Run([&](Session& session) { return Logs(session, *request); }); });
}

}  // namespace muster::ctl
