#include <iostream>
#include <map>

#include "ctl/commands/commands.h"
#include "ctl/render/history.h"
#include "lib/base/text.h"
#include "lib/spec/spec.h"
#include "lib/wire/time.h"
#include "muster/v1/alert_service.grpc.pb.h"
#include "muster/v1/identity.grpc.pb.h"
#include "muster/v1/state_service.grpc.pb.h"
#include "muster/v1/system_service.grpc.pb.h"

namespace muster::ctl {
namespace {

template <typename Items>
Json Jsons(const Items& items) {
  Json jsons = Json::array();
  for (const auto& item : items) jsons.push_back(ToJson(item));
  return jsons;
}

template <typename Item, typename Key>
Status Keep(std::vector<Item>& items, const std::string& name, const char* kind, Key key) {
  if (name.empty()) return OkStatus();
  std::erase_if(items, [&](const Item& item) { return key(item) != name; });
  return items.empty() ? NotFound("there is no {} named {}", kind, name) : OkStatus();
}

Status GetAgents(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const auto agents, AllAgents(session, name));
  session.PrintList(Jsons(agents), "agents");
  return OkStatus();
}

Status GetStates(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const auto states, AllStates(session, name, ""));
  session.PrintList(Jsons(states), "states");
  return OkStatus();
}

Status GetAlerts(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(auto alerts, AllAlerts(session));
  MUSTER_RETURN_IF_ERROR(
      Keep(alerts, name, "alert", [](const v1::Alert& alert) { return alert.id(); }));
  session.PrintList(Jsons(alerts), "alerts");
  return OkStatus();
}

Status GetOperators(Session& session, const std::string& name) {
  v1::ListOperatorsResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::IdentityService::NewStub(channel)->ListOperators(&context, {}, &response);
  }));
  std::vector<v1::Operator> operators(response.items().begin(), response.items().end());
  MUSTER_RETURN_IF_ERROR(
      Keep(operators, name, "operator", [](const v1::Operator& one) { return one.name(); }));
  session.PrintList(Jsons(operators), "operators");
  return OkStatus();
}

StatusOr<std::vector<v1::Replica>> Replicas(Session& session, const std::string& id) {
  v1::ListReplicasResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::SystemService::NewStub(channel)->ListReplicas(&context, {}, &response);
  }));
  std::vector<v1::Replica> replicas(response.items().begin(), response.items().end());
  MUSTER_RETURN_IF_ERROR(
      Keep(replicas, id, "replica", [](const v1::Replica& one) { return one.id(); }));
  return replicas;
}

Status GetReplicas(Session& session, const std::string& id) {
  MUSTER_ASSIGN_OR_RETURN(const auto replicas, Replicas(session, id));
  session.PrintList(Jsons(replicas), "replicas");
  return OkStatus();
}

Status DescribeReplica(Session& session, const std::string& id) {
  MUSTER_ASSIGN_OR_RETURN(const auto replicas, Replicas(session, id));
  session.PrintOne(ToJson(replicas.front()));
  return OkStatus();
}

Status GetTransitions(Session& session, const std::string& check) {
  v1::ListTransitionsRequest request;
  request.set_check(check);
  v1::ListTransitionsResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::StateService::NewStub(channel)->ListTransitions(&context, request, &response);
  }));
  const std::vector<v1::Transition> transitions(response.items().begin(), response.items().end());
  session.PrintList(Jsons(transitions), "transitions");
  return OkStatus();
}

Status GetAudit(Session& session, const std::string&) {
  std::vector<v1::AuditEntry> entries;
  v1::ListAuditRequest request;
  request.set_limit(1000);
  while (true) {
    v1::ListAuditResponse response;
    MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
      return v1::IdentityService::NewStub(channel)->ListAudit(&context, request, &response);
    }));
    entries.insert(entries.end(), response.items().begin(), response.items().end());
    if (response.items_size() < 1000) break;
    request.set_after(entries.back().sequence());
  }
  session.PrintList(Jsons(entries), "audit");
  return OkStatus();
}

using Getter = Status (*)(Session&, const std::string&);

// Singular, plural and short forms, as kubectl takes them.
const std::map<std::string, Getter>& Getters() {
  static const auto& getters = *new std::map<std::string, Getter>{
      {"agents", GetAgents},
      {"states", GetStates},
      {"alerts", GetAlerts},
      {"operators", GetOperators},
      {"replicas", GetReplicas},
      {"transitions", GetTransitions},
      {"audit", GetAudit},
      {"checks",
       [](Session& session, const std::string& name) { return GetSpecs(session, "Check", name); }},
      {"receivers", [](Session& session,
                       const std::string& name) { return GetSpecs(session, "Receiver", name); }},
      {"jobs", GetJobs},
      {"specs",
       [](Session& session, const std::string& name) { return GetSpecs(session, "", name); }},
  };
  return getters;
}

StatusOr<Getter> FindGetter(const std::string& kind) {
  for (const auto& [name, getter] : Getters()) {
    if (kind == name || kind + "s" == name) return getter;
  }
  std::string known = "runs";
  for (const auto& [name, getter] : Getters()) known += ", " + name;
  return InvalidArgument("there is no kind \"{}\"; there are {}", kind, known);
}

Status DescribeCheck(Session& session, const std::string& check) {
  MUSTER_ASSIGN_OR_RETURN(const auto specs, AllSpecs(session, "Check", check));
  if (specs.empty()) return NotFound("there is no check named {}", check);
  MUSTER_ASSIGN_OR_RETURN(const auto states, AllStates(session, check, ""));
  Json json = SpecJson(specs.front());
  json["states"] = Jsons(states);
  session.PrintOne(json);
  return OkStatus();
}

Status DescribeAgent(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const auto agents, AllAgents(session, name));
  MUSTER_ASSIGN_OR_RETURN(const auto states, AllStates(session, "", name));
  Json json = ToJson(agents.front());
  json["states"] = Jsons(states);
  session.PrintOne(json);
  return OkStatus();
}

Status Explain(Session& session, const std::string& id) {
  MUSTER_ASSIGN_OR_RETURN(const auto alerts, AllAlerts(session));
  std::string whole = id;
  for (const v1::Alert& alert : alerts) {
    if (alert.id().starts_with(id)) whole = alert.id();  // as the table shortens it
  }
  v1::ExplainAlertRequest request;
  request.set_id(whole);
  v1::ExplainAlertResponse response;
  MUSTER_RETURN_IF_ERROR(session.Try([&](const auto& channel, grpc::ClientContext& context) {
    return v1::AlertService::NewStub(channel)->ExplainAlert(&context, request, &response);
  }));
  session.PrintOne(ToJson(response));
  return OkStatus();
}

Status Describe(Session& session, const std::string& kind, const std::string& name) {
  if (kind == "check" || kind == "checks" || kind == "state" || kind == "states")
    return DescribeCheck(session, name);
  if (kind == "agent" || kind == "agents") return DescribeAgent(session, name);
  if (kind == "alert" || kind == "alerts") return Explain(session, name);
  if (kind == "replica" || kind == "replicas") return DescribeReplica(session, name);
  if (kind == "run" || kind == "runs") return DescribeRun(session, name);
  if (kind == "job" || kind == "jobs") return DescribeJob(session, name);
  if (kind == "receiver" || kind == "receivers") {
    MUSTER_ASSIGN_OR_RETURN(const auto specs, AllSpecs(session, "Receiver", name));
    if (specs.empty()) return NotFound("there is no receiver named {}", name);
    session.PrintOne(SpecJson(specs.front()));
    return OkStatus();
  }
  return InvalidArgument(
      "there is no kind \"{}\" to describe; there are check, job, run, agent, receiver, alert, "
      "replica",
      kind);
}

Status History(Session& session, const std::string& check, const std::string& agent,
               const std::string& since, uint32_t limit) {
  MUSTER_ASSIGN_OR_RETURN(const absl::Duration back, ParseDuration(since));
  v1::HistoryRequest request;
  request.set_check(check);
  request.set_agent(agent);
  *request.mutable_since() = wire::ToProto(session.now() - back);
  request.set_limit(limit);
  if (!session.json()) std::cout << HistoryHeader();
  MUSTER_RETURN_IF_ERROR(session.TryStream([&](const auto& channel, grpc::ClientContext& context) {
    const auto reader = v1::StateService::NewStub(channel)->History(&context, request);
    v1::HistoryEntry entry;
    while (reader->Read(&entry)) {
      std::cout << (session.json() ? LineText(HistoryJson(entry))
                                   : HistoryLine(entry, StdoutHasColour()));
    }
    return reader->Finish();
  }));
  return OkStatus();
}

}  // namespace

Json SpecJson(const v1::StoredSpec& stored) {
  const v1::Document& document = stored.document();
  Json json = {{"apiVersion", document.api_version()},
               {"kind", document.kind()},
               {"name", document.metadata().name()}};
  json["metadata"] = ToJson(document.metadata());
  json["spec"] = ToJson(spec::SpecOf(document));
  json["generation"] = stored.generation();
  json["hash"] = stored.hash();
  json["changedAt"] = TimeText(wire::FromProto(stored.changed_at()));
  json["changedBy"] = stored.changed_by();
  return json;
}

Status GetSpecs(Session& session, const std::string& kind, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const auto specs, AllSpecs(session, kind, name));
  if (specs.empty() && !name.empty())
    return NotFound("there is no {} named {}", kind.empty() ? "spec" : kind, name);
  if (session.flags().output == "yaml") {
    // As `apply -f` takes them.
    for (size_t i = 0; i < specs.size(); ++i) {
      std::cout << (i == 0 ? "" : "---\n") << spec::FormatYaml(specs[i].document());
    }
    return OkStatus();
  }
  Json items = Json::array();
  for (const v1::StoredSpec& spec : specs) items.push_back(SpecJson(spec));
  session.PrintList(items, kind.empty() ? "specs" : kind);
  return OkStatus();
}

void AddGet(Cli& cli) {
  CLI::App* get = cli.app.add_subcommand("get",
                                         "list agents, states, alerts, checks, jobs, runs, "
                                         "receivers, operators, replicas, transitions, audit");
  auto kind = std::make_shared<std::string>();
  auto name = std::make_shared<std::string>();
  auto filter = std::make_shared<RunFilter>();
  get->add_option("kind", *kind, "what to list")->required();
  get->add_option("name", *name, "only this one");
  get->add_option("--job", filter->job, "only runs of this job");
  get->add_option("--agent", filter->agent, "only runs on this agent");
  get->add_option("--state", filter->states, "only runs in this state; repeatable")
      ->allow_extra_args(false);
  get->add_option("--limit", filter->limit, "at most so many runs; 0 is all")
      ->capture_default_str();
  get->callback([&cli, get, kind, name, filter] {
    cli.Run([&](Session& session) -> Status {
      if (*kind == "run" || *kind == "runs") return GetRuns(session, *name, *filter);
      for (const char* flag : {"--job", "--agent", "--state", "--limit"}) {
        if (get->count(flag) > 0) return InvalidArgument("{} goes with: get runs", flag);
      }
      MUSTER_ASSIGN_OR_RETURN(const Getter getter, FindGetter(*kind));
      return getter(session, *name);
    });
  });
}

void AddDescribe(Cli& cli) {
  CLI::App* describe = cli.app.add_subcommand(
      "describe", "all that is known of one check, job, run, agent, receiver, alert or replica");
  auto kind = std::make_shared<std::string>();
  auto name = std::make_shared<std::string>();
  describe->add_option("kind", *kind, "check, job, run, agent, receiver, alert or replica")
      ->required();
  describe->add_option("name", *name, "which")->required();
  describe->callback([&cli, kind, name] {
    cli.Run([&](Session& session) { return Describe(session, *kind, *name); });
  });
}

void AddHistory(Cli& cli) {
  CLI::App* history =
      cli.app.add_subcommand("history", "the results of a check on an agent, oldest first");
  auto check = std::make_shared<std::string>();
  auto agent = std::make_shared<std::string>();
  auto since = std::make_shared<std::string>("1h");
  auto limit = std::make_shared<uint32_t>(0);
  history->add_option("check", *check, "name of the check")->required();
  history->add_option("--agent", *agent, "name of the agent")->required();
  history->add_option("--since", *since, "how far back")->capture_default_str();
  history->add_option("--limit", *limit, "at most so many; 0 is all");
  history->callback([&cli, check, agent, since, limit] {
    cli.Run([&](Session& session) { return History(session, *check, *agent, *since, *limit); });
  });
}

void AddAlert(Cli& cli) {
  CLI::App* alert = cli.app.add_subcommand("alert", "list alerts, or explain one");
  alert->require_subcommand(1);
  alert->add_subcommand("list", "as get alerts")->callback([&cli] {
    cli.Run([](Session& session) { return GetAlerts(session, ""); });
  });
  CLI::App* explain = alert->add_subcommand("explain", "why somebody was told, or not");
  auto id = std::make_shared<std::string>();
  explain->add_option("id", *id, "id, or how it begins")->required();
  explain->callback(
      [&cli, id] { cli.Run([&](Session& session) { return Explain(session, *id); }); });
}

}  // namespace muster::ctl
