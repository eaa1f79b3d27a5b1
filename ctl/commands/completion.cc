#include "ctl/render/completion.h"

#include "ctl/commands/commands.h"

namespace muster::ctl {
namespace {

std::vector<std::string> FirstWords(const std::string& name) {
  if (name == "describe") return {"agent", "alert", "check", "receiver"};
  if (name == "delete") return {"check", "receiver"};
  if (name == "completion") return {"bash", "fish", "zsh"};
  std::vector<std::string> kinds;
  if (name == "get")
    for (const Kind& kind : Kinds()) kinds.emplace_back(kind.plural);
  return kinds;
}

std::vector<Flag> FlagsOf(const CLI::App& app) {
  std::vector<Flag> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_snames()) flags.push_back({"-" + name, option->get_description()});
    for (const std::string& name : option->get_lnames()) flags.push_back({"--" + name, option->get_description()});
  }
  return flags;
}

Command Tree(const CLI::App& app) {
  Command command = {app.get_name(), app.get_description(), FlagsOf(app), {}, FirstWords(app.get_name())};
  for (const CLI::App* part : app.get_subcommands([](const CLI::App*) { return true; }))
    command.commands.push_back(Tree(*part));
  return command;
}

StatusOr<int> Complete(Session& session, const CLI::App& app, const std::string& shell) {
  const Command root = Tree(app);
  if (shell == "bash") Print(BashCompletion(root));
  else if (shell == "zsh") Print(ZshCompletion(root));
  else if (shell == "fish") Print(FishCompletion(root));
  else return session.Usage(fmt::format("no shell {}: bash, zsh or fish", shell));
  return 0;
}

}  // namespace

void AddCompletion(CLI::App& app, Session& session) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "The completion script of a shell: bash, zsh or fish");
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  command->callback([&session, &app, shell] {
    session.command = [&session, &app, shell] { return Complete(session, app, *shell); };
  });
}

}  // namespace muster::ctl
