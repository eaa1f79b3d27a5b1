// RunService: jobs and runs, as operators see and steer them.
//
// Who waits for a run, or follows its log, follows the store (followers.h), a page at a time.
#pragma once

#include <functional>

#include "control-plane/rpc/followers.h"
#include "control-plane/rpc/gate.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::control {

class RunService final : public v1::RunService::CallbackService {
 public:
  // All must outlive the gRPC server. `on_change`: there is something for the leader or an agent.
  RunService(Store& store, Gate& gate, const Clock& clock, std::function<void()> on_change);
  ~RunService() override;

  grpc::ServerUnaryReactor* StartRun(grpc::CallbackServerContext* context,
                                     const v1::StartRunRequest* request,
                                     v1::StartRunResponse* response) override;
  grpc::ServerUnaryReactor* CancelRun(grpc::CallbackServerContext* context,
                                      const v1::CancelRunRequest* request,
                                      v1::CancelRunResponse* response) override;
  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context,
                                     const v1::ListRunsRequest* request,
                                     v1::ListRunsResponse* response) override;
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context,
                                   const v1::GetRunRequest* request,
                                   v1::GetRunResponse* response) override;
  grpc::ServerWriteReactor<v1::RunLogEntry>* RunLog(grpc::CallbackServerContext* context,
                                                    const v1::RunLogRequest* request) override;
  grpc::ServerWriteReactor<v1::Run>* WatchRun(grpc::CallbackServerContext* context,
                                              const v1::WatchRunRequest* request) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context,
                                     const v1::PauseJobRequest* request,
                                     v1::PauseJobResponse* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const v1::ResumeJobRequest* request,
                                      v1::ResumeJobResponse* response) override;
  grpc::ServerUnaryReactor* Backfill(grpc::CallbackServerContext* context,
                                     const v1::BackfillRequest* request,
                                     v1::BackfillResponse* response) override;

  // There may be something new for those who wait.
  void RunsChanged() { followers_.Wake(); }

 private:
  Status Start(const net::Identity& caller, const v1::StartRunRequest& request,
               v1::StartRunResponse& response);
  Status Cancel(const net::Identity& caller, const v1::CancelRunRequest& request,
                v1::CancelRunResponse& response);
  Status Pause(const net::Identity& caller, const v1::PauseJobRequest& request);
  Status Resume(const net::Identity& caller, const v1::ResumeJobRequest& request);
  Status Fill(const net::Identity& caller, const v1::BackfillRequest& request,
              v1::BackfillResponse& response);

  Store& store_;
  Gate& gate_;
  const Clock& clock_;
  const std::function<void()> on_change_;
  exec::Pool pool_;
  Followers followers_;
};

}  // namespace muster::control
