#include "ctl/commands/fetch.h"

#include "lib/spec/spec.h"
#include "muster/v1/alert_service.grpc.pb.h"
#include "muster/v1/identity.grpc.pb.h"
#include "muster/v1/spec_service.grpc.pb.h"
#include "muster/v1/state_service.grpc.pb.h"

namespace muster::ctl {
namespace {

template <typename Response>
void Append(const Response& response, Json& items) {
  for (const auto& item : response.items()) items.push_back(ToJson(item));
}

// Follows the pages to the end; `take` is given each.
template <typename Service, typename Response, typename Request, typename Method, typename Take>
Status EachPage(Session& session, Method method, Request request, const Take& take) {
  while (true) {
    Response response;
    MUSTER_RETURN_IF_ERROR(session.Call<Service>(method, request, response));
    take(response);
    if (response.next_page_token().empty()) return OkStatus();
    request.set_page_token(response.next_page_token());
  }
}

// The document's name and kind stand beside it, where scripts look for them.
Json SpecJson(const v1::StoredSpec& spec) {
  Json json = {{"kind", spec.document().kind()}, {"name", spec.document().metadata().name()}};
  json.update(ToJson(spec));
  return json;
}

}  // namespace

StatusOr<Json> FetchAgents(Session& session, const std::string& name) {
  Json items = Json::array();
  v1::ListAgentsRequest request;
  request.set_name(name);
  MUSTER_RETURN_IF_ERROR((EachPage<v1::IdentityService, v1::ListAgentsResponse>(
      session, &v1::IdentityService::Stub::ListAgents, request, [&](const auto& page) { Append(page, items); })));
  return items;
}

StatusOr<Json> FetchSpecs(Session& session, const std::string& spec_kind, const std::string& name,
                          std::string* documents) {
  Json items = Json::array();
  v1::ListSpecsRequest request;
  request.set_kind(spec_kind);
  request.set_name(name);
  const auto take = [&](const v1::ListSpecsResponse& page) {
    for (const v1::StoredSpec& spec : page.items()) {
      items.push_back(SpecJson(spec));
      if (documents == nullptr) continue;
      if (!documents->empty()) *documents += "---\n";
      *documents += spec::FormatYaml(spec.document());
    }
  };
  MUSTER_RETURN_IF_ERROR((EachPage<v1::SpecService, v1::ListSpecsResponse>(
      session, &v1::SpecService::Stub::ListSpecs, request, take)));
  return items;
}

StatusOr<Json> FetchStates(Session& session, const std::string& check, const std::string& agent) {
  Json items = Json::array();
  v1::ListStatesRequest request;
  request.set_check(check);
  request.set_agent(agent);
  MUSTER_RETURN_IF_ERROR((EachPage<v1::StateService, v1::ListStatesResponse>(
      session, &v1::StateService::Stub::ListStates, request, [&](const auto& page) { Append(page, items); })));
  return items;
}

StatusOr<Json> FetchAlerts(Session& session) {
  Json items = Json::array();
  MUSTER_RETURN_IF_ERROR((EachPage<v1::AlertService, v1::ListAlertsResponse>(
      session, &v1::AlertService::Stub::ListAlerts, v1::ListAlertsRequest(),
      [&](const auto& page) { Append(page, items); })));
  return items;
}

StatusOr<Json> FetchOperators(Session& session) {
  Json items = Json::array();
  v1::ListOperatorsResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::IdentityService>(&v1::IdentityService::Stub::ListOperators,
                                                           v1::ListOperatorsRequest(), response));
  Append(response, items);
  return items;
}

StatusOr<Json> FetchTransitions(Session& session, const std::string& check) {
  Json items = Json::array();
  v1::ListTransitionsRequest request;
  request.set_check(check);
  v1::ListTransitionsResponse response;
  MUSTER_RETURN_IF_ERROR(
      session.Call<v1::StateService>(&v1::StateService::Stub::ListTransitions, request, response));
  Append(response, items);
  return items;
}

StatusOr<Json> FetchAudit(Session& session) {
  Json items = Json::array();
  v1::ListAuditRequest request;
  request.set_limit(1000);
  while (true) {
    v1::ListAuditResponse page;
    MUSTER_RETURN_IF_ERROR(
        session.Call<v1::IdentityService>(&v1::IdentityService::Stub::ListAudit, request, page));
    Append(page, items);
    if (page.items().empty()) return items;
    request.set_after(page.items(page.items_size() - 1).sequence());
  }
}

}  // namespace muster::ctl
