#include <algorithm>
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
    for (const char* kind : {"agents", "states", "alerts", "checks", "jobs", "runs", "receivers",
                             "operators", "replicas", "transitions", "audit"})
      words.emplace_back(kind);
  }
  if (path == "describe") {
    for (const char* kind : {"check", "job", "run", "agent", "receiver", "alert", "replica"})
      words.emplace_back(kind);
  }
  if (path == "delete") {
    for (const char* kind : {"check", "job", "receiver", "replica"}) words.emplace_back(kind);
  }
  for (const std::string& flag : FlagsOf(command)) words.push_back(flag);
  if (&command != &root) {
    for (const std::string& flag : FlagsOf(root))
      if (std::find(words.begin(), words.end(), flag) == words.end()) words.push_back(flag);
  }
  return words;
}

// The commands whose first argument is a name that the control plane knows, and of which kind.
constexpr std::pair<const char*, const char*> kNamed[] = {{"run", "job"},    {"pause", "job"},
                                                          {"resume", "job"}, {"backfill", "job"},
                                                          {"logs", "run"},   {"cancel", "run"}};
// How the names of a kind are asked for: in a moment, or there are none.
std::string AskForNames(std::string_view kind) {
  return fmt::format("musterctl get {}s -o name --timeout 2s --no-input{} 2>/dev/null", kind,
                     kind == "run" ? " --limit 50" : "");
}

std::string BashNames() {
  std::string cases;
  for (const auto& [command, kind] : kNamed)
    cases += fmt::format("    {}) names={} ;;\n", command, kind);
  return cases;
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
  local names=""
  case "$path" in
{}    get|describe|delete)
      case "${{COMP_WORDS[COMP_CWORD-1]}}" in
        job|jobs) names=job ;;
        run|runs) [ "$path" = delete ] || names=run ;;
      esac ;;
  esac
  [ "${{COMP_WORDS[COMP_CWORD-1]}}" = --job ] && names=job words=""
  case "$current" in
    -*) ;;
    *) case "$names" in
         job) words="$words $({} | sed 's,^job/,,')" ;;
         run) words="$words $({} | sed 's,^run/,,')" ;;
       esac ;;
  esac
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
                     cases, BashNames(), AskForNames("job"), AskForNames("run"));
}

std::string Zsh(const CLI::App& app) {
  return "#compdef musterctl\n# zsh completion for musterctl: source <(musterctl completion zsh)\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         Bash(app);
}

std::string FishNames() {
  const auto offer = [](const std::string& condition, std::string_view kind) {
    return fmt::format("complete -c musterctl -n '{}' -a '({} | string replace {}/ \"\")'\n",
                       condition, AskForNames(kind), kind);
  };
  std::string text;
  for (const auto& [command, kind] : kNamed)
    text += offer(fmt::format("__fish_seen_subcommand_from {}", command), kind);
  text += offer(
      "__fish_seen_subcommand_from get describe delete; and __fish_seen_subcommand_from job jobs",
      "job");
  return text + offer(
                    "__fish_seen_subcommand_from get describe; and __fish_seen_subcommand_from "
                    "run runs; and not __fish_seen_subcommand_from delete",
                    "run");
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
  return text + FishNames();
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
