// musterctl as a whole: the tree of commands, and what their outcomes are to the shell.
#pragma once

#include <memory>

#include <CLI/CLI.hpp>

#include "ctl/commands/session.h"

namespace muster::ctl {

// Owns the parsed command line; `session` must outlive it.
std::unique_ptr<CLI::App> MakeApp(Session& session);
int Main(int argc, char** argv);

}  // namespace muster::ctl
