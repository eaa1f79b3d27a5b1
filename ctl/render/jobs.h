// What people read of jobs and their runs. Pure, but for tzdata; any thread may call.
#pragma once

#include <string>
#include <vector>

#include "ctl/render/table.h"
#include "muster/v1/job.pb.h"
#include "muster/v1/run_service.pb.h"

namespace muster::ctl {

// "SUCCEEDED", "TIMED_OUT".
std::string StateName(v1::RunState state);
// Whether nothing can come of it any more.
bool IsOver(v1::RunState state);
// By which tables and hints call a run: the first eight hex digits.
std::string ShortId(const std::string& id);
// "1,204 of 5,000 rows", "1.5 of 10.0 GiB", "41%"; without a total, what is done. Empty for
// nothing.
std::string AmountText(const v1::RunProgress& progress);
// "57.2 MiB", "1204 rows".
std::string CountText(double count, const std::string& unit);

// The rows of `get runs` and `get jobs`, from the JSON of a Run and a Job.
Json RunRow(const Json& run, const TableStyle& style);
Json JobRow(const Json& job, const TableStyle& style);

// Everything of one run, with what happened to it.
std::string DescribeRunText(const v1::GetRunResponse& response, const TableStyle& style);
// What a job does and when, its next runs in its own time zone, and its last ones.
std::string DescribeJobText(const v1::JobSpec& spec, const v1::Job& job,
                            const std::vector<v1::Run>& last, const TableStyle& style);

}  // namespace muster::ctl
