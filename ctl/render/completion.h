// Completion scripts for bash, zsh and fish, from the tree of commands. Pure; any thread may call.
#pragma once

#include <string>
#include <vector>

namespace muster::ctl {

struct Flag {
  std::string name;  // "--agent", "-f"
  std::string help;
};
struct Command {
  std::string name;
  std::string help;
  std::vector<Flag> flags;
  std::vector<Command> commands;
  std::vector<std::string> words;  // what its first argument may be
};

std::string BashCompletion(const Command& root);
std::string ZshCompletion(const Command& root);
std::string FishCompletion(const Command& root);

}  // namespace muster::ctl
