#include <iostream>

#include "ctl/commands/commands.h"

namespace muster::ctl {
namespace {

using Words = std::vector<std::string>;

Words CommandsOf(const CLI::App& app) {
  Words words;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    words.push_back(command->get_name());
  }
  return words;
}

Words FlagsOf(const CLI::App& app) {
  Words words;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  return words;
}

std::string Joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// Calls `take` with the path of every command ("token create") and the command.
void Walk(const CLI::App& app, const std::string& path,
          const std::function<void(const std::string&, const CLI::App&)>& take) {
  take(path, app);
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    Walk(*command, path.empty() ? command->get_name() : path + " " + command->get_name(), take);
  }
}

Words WordsAfter(const CLI::App& root, const std::string& path, const CLI::App& command) {
  Words words = CommandsOf(command);
  if (path == "get") {
    for (const char* kind : {"agents", "states", "alerts", "checks", "receivers", "operators",
                             "replicas", "transitions", "audit"})
      words.emplace_back(kind);
  }
  if (path == "describe") {
    for (const char* kind : {"check", "agent", "receiver", "alert", "replica"})
      words.emplace_back(kind);
  }
  if (path == "delete") {
    for (const char* kind : {"check", "receiver", "replica"}) words.emplace_back(kind);
  }
  for (const std::string& flag : FlagsOf(command)) words.push_back(flag);
  if (&command != &root) {
    for (const std::string& flag : FlagsOf(root)) words.push_back(flag);
  }
  return words;
}

std::string Bash(const CLI::App& app) {
  std::string cases;
  Walk(app, "", [&](const std::string& path, const CLI::App& command) {
    cases +=
        fmt::format("    \"{}\") words=\"{}\" ;;\n", path, Joined(WordsAfter(app, path, command)));
  });
  return fmt::format(R"bash(# bash completion for musterctl: source <(musterctl completion bash)
_musterctl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" words="" word i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word="${{COMP_WORDS[i]}}"
    case "$word" in
      -*) ;;
      *) case " {} " in *" ${{path:+$path }}$word "*|*" ${{path:+$path/}}$word "*) path="${{path:+$path }}$word" ;; esac ;;
    esac
  done
  case "${{COMP_WORDS[COMP_CWORD-1]}}" in
    -f|--file|--context|--out) COMPREPLY=($(compgen -f -- "$current")); return ;;
    -o|--output) COMPREPLY=($(compgen -W "table wide json yaml name" -- "$current")); return ;;
  esac
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _musterctl musterctl
)bash",
                     [&] {
                       std::string paths;
                       Walk(app, "", [&](const std::string& path, const CLI::App&) {
                         std::string one = path;
                         for (char& c : one) c = c == ' ' ? '/' : c;
                         if (!one.empty()) paths += (paths.empty() ? "" : " ") + one;
                       });
                       return paths;
                     }(),
                     cases);
}

std::string Zsh(const CLI::App& app) {
  return "#compdef musterctl\n# zsh completion for musterctl: source <(musterctl completion zsh)\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         Bash(app);
}

std::string Fish(const CLI::App& app) {
  std::string text =
      "# fish completion for musterctl: musterctl completion fish | source\ncomplete -c musterctl "
      "-f\n";
  const std::string all = Joined(CommandsOf(app));
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    text += fmt::format(
        "complete -c musterctl -n 'not __fish_seen_subcommand_from {}' -a {} -d '{}'\n", all,
        command->get_name(), CLI::detail::find_and_replace(command->get_description(), "'", "\\'"));
    for (const std::string& word : WordsAfter(app, command->get_name(), *command)) {
      text += word.starts_with("--")
                  ? fmt::format("complete -c musterctl -n '__fish_seen_subcommand_from {}' -l {}\n",
                                command->get_name(), word.substr(2))
                  : fmt::format("complete -c musterctl -n '__fish_seen_subcommand_from {}' -a {}\n",
                                command->get_name(), word);
    }
  }
  return text;
}

}  // namespace

std::string CompletionScript(const CLI::App& app, const std::string& shell) {
  if (shell == "zsh") return Zsh(app);
  if (shell == "fish") return Fish(app);
  return Bash(app);
}

void AddCompletion(Cli& cli) {
  CLI::App* completion =
      cli.app.add_subcommand("completion", "a script that completes commands in your shell");
  auto shell = std::make_shared<std::string>();
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&cli, shell] { std::cout << CompletionScript(cli.app, *shell); });
}

}  // namespace muster::ctl
