#include "ctl/render/completion.h"

#include <functional>

#include "lib/base/status.h"

namespace muster::ctl {
namespace {

// Calls for every command with its path: "", "get", "token create".
void Walk(const Command& command, const std::string& path,
          const std::function<void(const std::string&, const Command&)>& visit) {
  visit(path, command);
  for (const Command& part : command.commands)
    Walk(part, path.empty() ? part.name : path + " " + part.name, visit);
}

std::string WordsOf(const Command& command, const Command& root) {
  std::string words;
  const auto add = [&words](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
  for (const Command& part : command.commands) add(part.name);
  for (const std::string& word : command.words) add(word);
  for (const Flag& flag : command.flags) add(flag.name);
  if (&command != &root)
    for (const Flag& flag : root.flags) add(flag.name);
  return words;
}

std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The command that stands on the line so far, then what may follow it. Works in bash and zsh.
std::string Cases(const Command& root) {
  std::string cases;
  Walk(root, "", [&](const std::string& path, const Command& command) {
    cases += fmt::format("    {}) words={} ;;\n", Quoted(path), Quoted(WordsOf(command, root)));
  });
  return cases;
}

std::string Paths(const Command& root) {
  std::string paths;
  Walk(root, "", [&](const std::string& path, const Command&) {
    if (!path.empty()) paths += (paths.empty() ? "" : "|") + Quoted(path);
  });
  return paths;
}

constexpr char kBash[] = R"(# bash completion for musterctl
_musterctl() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" path='' next words word i
  case "$prev" in
    -f|--file|--context|--out) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    -o|--output) COMPREPLY=($(compgen -W 'table wide json yaml name' -- "$cur")); return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    next="${{path:+$path }}$word"
    case "$next" in
      {0}) path="$next" ;;
    esac
  done
  case "$path" in
{1}  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -F _musterctl musterctl
)";

constexpr char kZsh[] = R"(#compdef musterctl
_musterctl() {{
  local path_now='' next word
  local -i i
  case "${{words[CURRENT-1]}}" in
    -f|--file|--context|--out) _files; return ;;
    -o|--output) compadd -- table wide json yaml name; return ;;
  esac
  for ((i = 2; i < CURRENT; i++)); do
    word="${{words[i]}}"
    next="${{path_now:+$path_now }}$word"
    case "$next" in
      {0}) path_now="$next" ;;
    esac
  done
  local words_of=''
  case "$path_now" in
{1}  esac
  compadd -- ${{=words_of}}
}}
if [[ "${{funcstack[1]}}" == _musterctl ]]; then
  _musterctl "$@"
else
  compdef _musterctl musterctl
fi
)";

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

// True for fish when the words of `path`, and of nothing below it, have been given.
std::string FishCondition(const std::string& path, const Command& command) {
  if (path.empty()) return "__fish_use_subcommand";
  const std::string seen = "__fish_seen_subcommand_from ";
  std::string condition = seen + Replaced(path, " ", "; and " + seen);
  if (command.commands.empty()) return condition;
  condition += "; and not __fish_seen_subcommand_from";
  for (const Command& part : command.commands) condition += " " + part.name;
  return condition;
}

std::string FishFlag(const Flag& flag) {
  const bool is_long = flag.name.starts_with("--");
  return fmt::format("-{} {}", is_long ? "l" : "s", flag.name.substr(is_long ? 2 : 1));
}

std::string FishQuoted(const std::string& text) {
  return "'" + Replaced(Replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string FishLines(const std::string& path, const Command& command) {
  const std::string when = fmt::format("complete -c musterctl -n {}", FishQuoted(FishCondition(path, command)));
  std::string lines;
  for (const Command& part : command.commands)
    lines += fmt::format("{} -a {} -d {}\n", when, part.name, FishQuoted(part.help));
  for (const std::string& word : command.words) lines += fmt::format("{} -a {}\n", when, word);
  for (const Flag& flag : command.flags) {
    const std::string scope = path.empty() ? "complete -c musterctl" : when;
    lines += fmt::format("{} {} -d {}\n", scope, FishFlag(flag), FishQuoted(flag.help));
  }
  return lines;
}

}  // namespace

std::string BashCompletion(const Command& root) { return fmt::format(kBash, Paths(root), Cases(root)); }

std::string ZshCompletion(const Command& root) {
  return fmt::format(kZsh, Paths(root), Replaced(Cases(root), ") words=", ") words_of="));
}

std::string FishCompletion(const Command& root) {
  std::string text = "# fish completion for musterctl\n"
                     "complete -c musterctl -n 'not __fish_seen_subcommand_from apply diff' -f\n";
  Walk(root, "", [&](const std::string& path, const Command& command) { text += FishLines(path, command); });
  return text;
}

}  // namespace muster::ctl
