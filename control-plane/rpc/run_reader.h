// Runs and jobs as the API shows them.
#pragma once

#include "control-plane/store/store.h"
#include "muster/v1/run_service.pb.h"

namespace muster::control {

v1::Run RunMessage(const RunRow& row);
v1::Run MissedMessage(const MissedRow& row);

// The job's document. NotFound names it.
StatusOr<SpecRow> FindJob(Store& store, const std::string& name);

// A run, or missed slots. NotFound names it.
StatusOr<v1::Run> FindRun(RunStore& runs, const std::string& id);

Status ListRuns(Store& store, const v1::ListRunsRequest& request, v1::ListRunsResponse& response);
Status GetRun(RunStore& runs, const v1::GetRunRequest& request, v1::GetRunResponse& response);
Status ListJobs(Store& store, const v1::ListJobsRequest& request, absl::Time now,
                v1::ListJobsResponse& response);

}  // namespace muster::control
