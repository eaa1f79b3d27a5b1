#include "ctl/commands/alert.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/fetch.h"
#include "ctl/render/describe.h"

namespace muster::ctl {
namespace {

// The states that belong to it, below what it is.
void PrintWithStates(const Session& session, std::string_view text, const Json& object, const Json& states) {
  Json whole = object;
  whole["states"] = states;
  if (session.PrintObject(whole)) return;
  Print(text);
  Print(states.empty() ? "\nStates: none\n" : "\nStates:\n");
  if (!states.empty()) Print(TableText(FindKind("states")->columns, states, session.style()));
}

StatusOr<int> DescribeSpec(Session& session, const Kind& kind, const std::string& name) {
  const bool check = kind.singular == "check";
  std::string yaml;
  MUSTER_ASSIGN_OR_RETURN(const Json items, FetchSpecs(session, check ? "Check" : "Receiver", name, &yaml));
  if (items.empty()) return NotFound("no {} named {}", kind.singular, name);
  Json facts = items.front();
  facts.erase("document");
  const std::string text = FieldsText(facts) + "\n" + yaml;
  if (check) {
    MUSTER_ASSIGN_OR_RETURN(const Json states, FetchStates(session, name, ""));
    PrintWithStates(session, text, items.front(), states);
  } else if (!session.PrintObject(items.front())) {
    Print(text);
  }
  return 0;
}

StatusOr<int> DescribeAgent(Session& session, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const Json items, FetchAgents(session, name));
  if (items.empty()) return NotFound("no agent named {}", name);
  MUSTER_ASSIGN_OR_RETURN(const Json states, FetchStates(session, "", name));
  PrintWithStates(session, FieldsText(items.front()), items.front(), states);
  return 0;
}

StatusOr<int> Describe(Session& session, const std::string& word, const std::string& name) {
  const Kind* kind = FindKind(word);
  const std::string_view singular = kind == nullptr ? "" : kind->singular;
  if (singular == "check" || singular == "receiver") return DescribeSpec(session, *kind, name);
  if (singular == "agent") return DescribeAgent(session, name);
  if (singular == "alert") return ExplainAlert(session, name);
  return session.Usage(fmt::format("no kind {} to describe: check, agent, receiver or alert", word));
}

}  // namespace

void AddDescribe(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("describe", "One check, agent, receiver or alert in full");
  auto kind = std::make_shared<std::string>();
  auto name = std::make_shared<std::string>();
  command->add_option("KIND", *kind, "check, agent, receiver or alert")->required();
  command->add_option("NAME", *name, "Its name; an alert's id")->required();
  command->callback([&session, kind, name] {
    session.command = [&session, kind, name] { return Describe(session, *kind, *name); };
  });
}

}  // namespace muster::ctl
