#include <algorithm>
#include <iostream>

#include "ctl/commands/commands.h"
#include "ctl/commands/run_ids.h"
#include "ctl/render/jobs.h"
#include "muster/v1/run_service.grpc.pb.h"

namespace muster::ctl {
namespace {

constexpr size_t kLastRuns = 5;

template <typename Items>
Json Jsons(const Items& items) {
  Json jsons = Json::array();
  for (const auto& item : items) jsons.push_back(ToJson(item));
  return jsons;
}

// "failed", "TIMED_OUT" and "timed-out" alike.
StatusOr<v1::RunState> StateOf(const std::string& text) {
  std::string name = text;
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  v1::RunState state = v1::RUN_STATE_UNSPECIFIED;
  if (v1::RunState_Parse("RUN_STATE_" + name, &state) && state != v1::RUN_STATE_UNSPECIFIED)
    return state;
  std::string known;
  for (int i = v1::RunState_MIN + 1; i <= v1::RunState_MAX; ++i)
    known += (known.empty() ? "" : ", ") + StateName(static_cast<v1::RunState>(i));
  return InvalidArgument("\"{}\" is no state of a run; there are {}", text, known);
}

StatusOr<v1::GetRunResponse> GetRun(Session& session, const std::string& run) {
  v1::GetRunRequest request;
  MUSTER_ASSIGN_OR_RETURN(*request.mutable_id(), ResolveRun(session, run));
  v1::GetRunResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::RunService::NewStub(channel)->GetRun(&context, request, &response);
  }));
  return response;
}

}  // namespace

Status GetRuns(Session& session, const std::string& run, const RunFilter& filter) {
  if (!run.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const v1::GetRunResponse response, GetRun(session, run));
    session.PrintList(Json::array({ToJson(response.run())}), "runs");
    return OkStatus();
  }
  v1::ListRunsRequest request;
  request.set_job(filter.job);
  request.set_agent(filter.agent);
  for (const std::string& text : filter.states) {
    MUSTER_ASSIGN_OR_RETURN(const v1::RunState state, StateOf(text));
    request.add_state(state);
  }
  MUSTER_ASSIGN_OR_RETURN(const SomeRuns some, ListRuns(session, request, filter.limit));
  session.PrintList(Jsons(some.runs), "runs");
  if (some.more) {
    std::cerr << fmt::format("these are the newest {}; there are more: --limit 0 lists all\n",
                             some.runs.size());
  }
  return OkStatus();
}

Status GetJobs(Session& session, const std::string& name) {
  // As `apply -f` takes them, like every kind that is applied.
  if (session.flags().output == "yaml") return GetSpecs(session, "Job", name);
  MUSTER_ASSIGN_OR_RETURN(const auto jobs, AllJobs(session, name));
  if (jobs.empty() && !name.empty()) return NotFound("there is no job named {}", name);
  session.PrintList(Jsons(jobs), "jobs");
  return OkStatus();
}

Status DescribeRun(Session& session, const std::string& run) {
  MUSTER_ASSIGN_OR_RETURN(const v1::GetRunResponse response, GetRun(session, run));
  if (!session.structured()) {
    std::cout << DescribeRunText(response, session.style());
    return OkStatus();
  }
  Json json = ToJson(response.run());
  json["trail"] = Jsons(response.trail());
  session.PrintOne(json);
  return OkStatus();
}

Status DescribeJob(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const auto specs, AllSpecs(session, "Job", name));
  MUSTER_ASSIGN_OR_RETURN(const auto jobs, AllJobs(session, name));
  if (specs.empty() || jobs.empty()) return NotFound("there is no job named {}", name);
  v1::ListRunsRequest request;
  request.set_job(name);
  MUSTER_ASSIGN_OR_RETURN(const SomeRuns last, ListRuns(session, request, kLastRuns));
  if (!session.structured()) {
    std::cout << DescribeJobText(specs.front().document().job(), jobs.front(), last.runs,
                                 session.style());
    return OkStatus();
  }
  Json json = SpecJson(specs.front());
  json.update(ToJson(jobs.front()));
  json["runs"] = Jsons(last.runs);
  session.PrintOne(json);
  return OkStatus();
}

}  // namespace muster::ctl
