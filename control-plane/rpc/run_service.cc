#include "control-plane/rpc/run_service.h"

#include <optional>

#include "control-plane/decide/job_schedule.h"
#include "control-plane/rpc/manual_run.h"
#include "control-plane/rpc/out_stream.h"
#include "control-plane/rpc/run_reader.h"
#include "lib/base/hash.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr uint32_t kLogPage = 200;

Status CheckMusterRuns(const SpecRow& job) {
  if (!job.document.job().has_reported()) return OkStatus();
  const std::string& name = job.document.metadata().name();
  return FailedPrecondition(
      "{0} is run by its host, which tells of it: run it there, with muster-agent exec --job {0}",
      name);
}

bool IsOver(const v1::Run& run) {
  return run.state() != v1::RUN_STATE_QUEUED && run.state() != v1::RUN_STATE_RUNNING;
}

// A stream about one run, which `Read` reads a page of.
template <typename Message, typename Derived>
class RunStream : public OutStream<Message, Derived>, public Follower {
 public:
  RunStream(Followers& followers, RunStore& runs, std::string id)
      : followers_(followers), runs_(runs), id_(std::move(id)) {}

  void Start(Gate& gate, grpc::CallbackServerContext& context, std::string_view method) {
    if (this->Begin(gate, context, method)) followers_.Enter(this->shared_from_this());
  }
  void Drained() { followers_.Wake(); }
  void Gone() { followers_.Leave(this); }

  void Look() override {
    if (this->Ended() || this->Queued() > 0) return;
    const Status status = static_cast<Derived*>(this)->Read();
    if (!status.ok()) this->End(status);
  }

 protected:
  Followers& followers_;
  RunStore& runs_;
  const std::string id_;
};

// Sends the run each time that it is another, until it is over.
class WatchRunStream final : public RunStream<v1::Run, WatchRunStream> {
 public:
  using RunStream::RunStream;

  Status Read() {
    MUSTER_ASSIGN_OR_RETURN(v1::Run run, FindRun(runs_, id_));
    const bool over = IsOver(run);
    std::string bytes = run.SerializeAsString();
    if (bytes != told_) Put(std::move(run));
    told_ = std::move(bytes);
    if (over) End(OkStatus());
    return OkStatus();
  }

 private:
  std::string told_;  // owned by whoever looks
};

class RunLogStream final : public RunStream<v1::RunLogEntry, RunLogStream> {
 public:
  RunLogStream(Followers& followers, RunStore& runs, const v1::RunLogRequest& request)
      : RunStream(followers, runs, request.id()), follow_(request.follow()) {}

  Status Read() {
    // Whether it is over is read first: what it wrote is stored before its end.
    MUSTER_ASSIGN_OR_RETURN(const v1::Run run, FindRun(runs_, id_));
    MUSTER_ASSIGN_OR_RETURN(std::vector<OutputRow> rows, runs_.Output(id_, after_, kLogPage));
    for (OutputRow& row : rows) {
      v1::RunLogEntry entry;
      entry.set_attempt(static_cast<uint32_t>(row.fence));
      *entry.mutable_at() = wire::ToProto(row.at);
      entry.mutable_output()->set_stream(row.stream);
      entry.mutable_output()->set_first_line(row.first_line);
      *entry.mutable_output()->mutable_text() = row.text;
      Put(std::move(entry));
      after_ = std::move(row);
    }
    const bool goes_on = follow_ && !IsOver(run);
    if (rows.size() < kLogPage && !goes_on) End(OkStatus());
    return OkStatus();
  }

 private:
  const bool follow_;
  OutputRow after_;  // owned by whoever looks
};

}  // namespace

RunService::RunService(Store& store, Gate& gate, const Clock& clock,
                       std::function<void()> on_change)
    : store_(store),
      gate_(gate),
      clock_(clock),
      on_change_(std::move(on_change)),
      pool_("run-reads", 2, 1000),
      followers_("runs", pool_) {}

RunService::~RunService() {
  followers_.Stop();
  pool_.Stop();
}

grpc::ServerUnaryReactor* RunService::StartRun(grpc::CallbackServerContext* context,
                                               const v1::StartRunRequest* request,
                                               v1::StartRunResponse* response) {
  return gate_.Serve(
      context, "muster.v1.RunService.StartRun",
      [=, this](const net::Identity& caller) { return Start(caller, *request, *response); });
}

grpc::ServerUnaryReactor* RunService::CancelRun(grpc::CallbackServerContext* context,
                                                const v1::CancelRunRequest* request,
                                                v1::CancelRunResponse* response) {
  return gate_.Serve(
      context, "muster.v1.RunService.CancelRun",
      [=, this](const net::Identity& caller) { return Cancel(caller, *request, *response); });
}

grpc::ServerUnaryReactor* RunService::ListRuns(grpc::CallbackServerContext* context,
                                               const v1::ListRunsRequest* request,
                                               v1::ListRunsResponse* response) {
  return gate_.Serve(context, "muster.v1.RunService.ListRuns", [=, this](const net::Identity&) {
    return control::ListRuns(store_, *request, *response);
  });
}

grpc::ServerUnaryReactor* RunService::GetRun(grpc::CallbackServerContext* context,
                                             const v1::GetRunRequest* request,
                                             v1::GetRunResponse* response) {
  return gate_.Serve(context, "muster.v1.RunService.GetRun", [=, this](const net::Identity&) {
    return control::GetRun(store_.runs(), *request, *response);
  });
}

grpc::ServerWriteReactor<v1::RunLogEntry>* RunService::RunLog(grpc::CallbackServerContext* context,
                                                              const v1::RunLogRequest* request) {
  const auto stream = std::make_shared<RunLogStream>(followers_, store_.runs(), *request);
  stream->Start(gate_, *context, "muster.v1.RunService.RunLog");
  return stream.get();
}

grpc::ServerWriteReactor<v1::Run>* RunService::WatchRun(grpc::CallbackServerContext* context,
                                                        const v1::WatchRunRequest* request) {
  const auto stream = std::make_shared<WatchRunStream>(followers_, store_.runs(), request->id());
  stream->Start(gate_, *context, "muster.v1.RunService.WatchRun");
  return stream.get();
}

grpc::ServerUnaryReactor* RunService::ListJobs(grpc::CallbackServerContext* context,
                                               const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return gate_.Serve(context, "muster.v1.RunService.ListJobs", [=, this](const net::Identity&) {
    return control::ListJobs(store_, *request, clock_.Now(), *response);
  });
}

grpc::ServerUnaryReactor* RunService::PauseJob(grpc::CallbackServerContext* context,
                                               const v1::PauseJobRequest* request,
                                               v1::PauseJobResponse*) {
  return gate_.Serve(context, "muster.v1.RunService.PauseJob",
                     [=, this](const net::Identity& caller) { return Pause(caller, *request); });
}

grpc::ServerUnaryReactor* RunService::ResumeJob(grpc::CallbackServerContext* context,
                                                const v1::ResumeJobRequest* request,
                                                v1::ResumeJobResponse*) {
  return gate_.Serve(context, "muster.v1.RunService.ResumeJob",
                     [=, this](const net::Identity& caller) { return Resume(caller, *request); });
}

grpc::ServerUnaryReactor* RunService::Backfill(grpc::CallbackServerContext* context,
                                               const v1::BackfillRequest* request,
                                               v1::BackfillResponse* response) {
  return gate_.Serve(
      context, "muster.v1.RunService.Backfill",
      [=, this](const net::Identity& caller) { return Fill(caller, *request, *response); });
}

Status RunService::Start(const net::Identity& caller, const v1::StartRunRequest& request,
                         v1::StartRunResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const SpecRow job, FindJob(store_, request.job()));
  MUSTER_RETURN_IF_ERROR(CheckMusterRuns(job));
  MUSTER_ASSIGN_OR_RETURN(RunRow run, ManualRun(caller,
                                                {.job = request.job(),
                                                 .action = "",
                                                 .request_id = request.request_id(),
                                                 .spec = job.document.job()},
                                                clock_.Now()));
  const AuditNote note =
      NoteOf(caller, "run.start", fmt::format("job/{}", request.job()), "run " + run.id, run.slot);
  MUSTER_ASSIGN_OR_RETURN(const RunRow started, store_.runs().Start(std::move(run), note));
  *response.mutable_run() = RunMessage(started);
  on_change_();
  return OkStatus();
}

Status RunService::Cancel(const net::Identity& caller, const v1::CancelRunRequest& request,
                          v1::CancelRunResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(std::string reason, ReasonOf(request.reason()));
  reason =
      fmt::format("cancelled by {}{}{}", net::Text(caller), reason.empty() ? "" : ": ", reason);
  const RunStop stop = request.terminate() ? RunStop::kTerminate : RunStop::kCancel;
  const AuditNote note =
      NoteOf(caller, "run.cancel", fmt::format("run/{}", request.id()), reason, clock_.Now());
  MUSTER_ASSIGN_OR_RETURN(const RunRow stopped,
                          store_.runs().Stop(request.id(), stop, reason, note));
  *response.mutable_run() = RunMessage(stopped);
  on_change_();
  return OkStatus();
}

Status RunService::Pause(const net::Identity& caller, const v1::PauseJobRequest& request) {
  MUSTER_RETURN_IF_ERROR(FindJob(store_, request.job()).status());
  MUSTER_ASSIGN_OR_RETURN(const std::string reason, ReasonOf(request.reason()));
  PauseRow pause{
      .job = request.job(), .since = clock_.Now(), .reason = reason, .by = net::Text(caller)};
  if (request.has_until()) pause.until = wire::FromProto(request.until());
  if (pause.until <= pause.since) {
    return InvalidArgument("until: {} is over already", TimeText(pause.until));
  }
  const std::string detail = fmt::format(
      "until {}{}{}", pause.until == absl::InfiniteFuture() ? "resumed" : TimeText(pause.until),
      reason.empty() ? "" : ": ", reason);
  MUSTER_RETURN_IF_ERROR(store_.runs().Pause(
      pause, NoteOf(caller, "job.pause", fmt::format("job/{}", pause.job), detail, pause.since)));
  on_change_();
  return OkStatus();
}

Status RunService::Resume(const net::Identity& caller, const v1::ResumeJobRequest& request) {
  MUSTER_RETURN_IF_ERROR(FindJob(store_, request.job()).status());
  MUSTER_RETURN_IF_ERROR(store_.runs().Resume(
      request.job(),
      NoteOf(caller, "job.resume", fmt::format("job/{}", request.job()), "", clock_.Now())));
  on_change_();
  return OkStatus();
}

Status RunService::Fill(const net::Identity& caller, const v1::BackfillRequest& request,
                        v1::BackfillResponse& response) {
  MUSTER_ASSIGN_OR_RETURN(const SpecRow job, FindJob(store_, request.job()));
  MUSTER_RETURN_IF_ERROR(CheckMusterRuns(job));
  MUSTER_ASSIGN_OR_RETURN(std::optional<Schedule> schedule, ScheduleOf(job.document.job()));
  if (!schedule.has_value()) {
    return FailedPrecondition("{} has no schedule, so there is no slot to fill", request.job());
  }
  const absl::Time now = clock_.Now();
  const ScheduleFacts facts{.job = request.job(), .schedule = *std::move(schedule)};
  MUSTER_ASSIGN_OR_RETURN(const std::vector<DueRun> due,
                          control::Backfill(facts, wire::FromProto(request.from()),
                                            wire::FromProto(request.until()), now));
  std::vector<RunRow> runs;
  for (const DueRun& one : due) {
    runs.push_back({.id = one.id,
                    .job = request.job(),
                    .slot = one.slot,
                    .trigger = v1::RUN_TRIGGER_BACKFILL,
                    .asked_by = net::Text(caller),
                    .spec = job.document.job(),
                    .reason = fmt::format("backfill asked for by {}", net::Text(caller)),
                    .due_at = one.start_at});
  }
  const std::string detail =
      fmt::format("{} slots from {} to {}", runs.size(), TimeText(wire::FromProto(request.from())),
                  TimeText(wire::FromProto(request.until())));
  MUSTER_ASSIGN_OR_RETURN(
      const std::vector<RunRow> made,
      store_.runs().Backfill(
          runs, NoteOf(caller, "job.backfill", fmt::format("job/{}", request.job()), detail, now)));
  for (const RunRow& run : made) *response.add_items() = RunMessage(run);
  on_change_();
  return OkStatus();
}

}  // namespace muster::control
