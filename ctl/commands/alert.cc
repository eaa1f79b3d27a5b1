#include "ctl/commands/alert.h"

#include "ctl/commands/commands.h"
#include "ctl/commands/fetch.h"
#include "ctl/commands/flags.h"
#include "ctl/render/describe.h"
#include "muster/v1/alert_service.grpc.pb.h"

namespace muster::ctl {
namespace {

StatusOr<int> List(Session& session) {
  MUSTER_ASSIGN_OR_RETURN(const Json items, FetchAlerts(session));
  session.PrintItems(*FindKind("alerts"), items);
  return 0;
}

}  // namespace

StatusOr<int> ExplainAlert(Session& session, const std::string& id) {
  v1::ExplainAlertRequest request;
  request.set_id(id);
  v1::ExplainAlertResponse response;
  MUSTER_RETURN_IF_ERROR(session.Call<v1::AlertService>(&v1::AlertService::Stub::ExplainAlert, request, response));
  const Json json = ToJson(response);
  if (!session.PrintObject(json)) Print(AlertText(json, session.style()));
  return 0;
}

void AddAlert(CLI::App& app, Session& session) {
  CLI::App* group = Group(app, "alert", "Alerts: list them, explain one");
  group->add_subcommand("list", "Alerts that are open, or were resolved within the last day")
      ->callback([&session] { session.command = [&session] { return List(session); }; });
  auto id = std::make_shared<std::string>();
  CLI::App* explain = group->add_subcommand("explain", "Why someone was told, or not");
  explain->add_option("ID", *id, "The alert's id")->required();
  explain->callback([&session, id] { session.command = [&session, id] { return ExplainAlert(session, *id); }; });
}

}  // namespace muster::ctl
