#include <algorithm>

#include "ctl/commands/commands.h"
#include "muster/v1/alert_service.grpc.pb.h"
#include "muster/v1/identity.grpc.pb.h"
#include "muster/v1/run_service.grpc.pb.h"
#include "muster/v1/spec_service.grpc.pb.h"
#include "muster/v1/state_service.grpc.pb.h"

namespace muster::ctl {
namespace {

// Follows the pages of a list call to their end.
template <typename Item, typename Request, typename Response, typename Service, typename Method>
StatusOr<std::vector<Item>> Pages(Session& session, Request request, Method method) {
  std::vector<Item> items;
  do {
    Response response;
    MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
      response.Clear();
      const auto stub = Service::NewStub(channel);
      return (stub.get()->*method)(&context, request, &response);
    }));
    for (auto& item : *response.mutable_items()) items.push_back(std::move(item));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return items;
}

}  // namespace

StatusOr<std::vector<v1::State>> AllStates(Session& session, const std::string& check,
                                           const std::string& agent) {
  v1::ListStatesRequest request;
  request.set_check(check);
  request.set_agent(agent);
  return Pages<v1::State, v1::ListStatesRequest, v1::ListStatesResponse, v1::StateService>(
      session, request, &v1::StateService::Stub::ListStates);
}

StatusOr<std::vector<v1::Agent>> AllAgents(Session& session, const std::string& name) {
  v1::ListAgentsRequest request;
  request.set_name(name);
  return Pages<v1::Agent, v1::ListAgentsRequest, v1::ListAgentsResponse, v1::IdentityService>(
      session, request, &v1::IdentityService::Stub::ListAgents);
}

StatusOr<std::vector<v1::Alert>> AllAlerts(Session& session) {
  return Pages<v1::Alert, v1::ListAlertsRequest, v1::ListAlertsResponse, v1::AlertService>(
      session, {}, &v1::AlertService::Stub::ListAlerts);
}

StatusOr<SomeRuns> ListRuns(Session& session, v1::ListRunsRequest request, size_t limit) {
  constexpr size_t kLargestPage = 1000;
  SomeRuns some;
  do {
    const size_t wanted = limit == 0 ? kLargestPage : limit - some.runs.size();
    request.set_page_size(static_cast<uint32_t>(std::min(wanted, kLargestPage)));
    v1::ListRunsResponse response;
    MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
      response.Clear();
      return v1::RunService::NewStub(channel)->ListRuns(&context, request, &response);
    }));
    for (v1::Run& run : *response.mutable_items()) some.runs.push_back(std::move(run));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty() && (limit == 0 || some.runs.size() < limit));
  some.more = !request.page_token().empty();
  return some;
}

StatusOr<std::vector<v1::Job>> AllJobs(Session& session, const std::string& name) {
  v1::ListJobsRequest request;
  request.set_name(name);
  return Pages<v1::Job, v1::ListJobsRequest, v1::ListJobsResponse, v1::RunService>(
      session, request, &v1::RunService::Stub::ListJobs);
}

StatusOr<std::vector<v1::StoredSpec>> AllSpecs(Session& session, const std::string& kind,
                                               const std::string& name) {
  v1::ListSpecsRequest request;
  request.set_kind(kind);
  request.set_name(name);
  return Pages<v1::StoredSpec, v1::ListSpecsRequest, v1::ListSpecsResponse, v1::SpecService>(
      session, request, &v1::SpecService::Stub::ListSpecs);
}

}  // namespace muster::ctl
