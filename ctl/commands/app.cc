#include "ctl/commands/app.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "ctl/commands/commands.h"

namespace muster::ctl {
namespace {

void AddGlobals(CLI::App& app, Globals& globals) {
  static const std::map<std::string, Output> outputs = {{"table", Output::kTable}, {"wide", Output::kWide},
      {"json", Output::kJson}, {"yaml", Output::kYaml}, {"name", Output::kName}};
  app.add_option("--context", globals.context, "The context file (MUSTER_CONTEXT)");
  app.add_option("--server", globals.server, "HOST:PORT instead of the context's servers (MUSTER_SERVER)");
  app.add_option("--timeout", globals.timeout, "How long to wait for the control plane")->default_str("10s");
  app.add_option("-o,--output", globals.output, "table, wide, json, yaml or name")
      ->transform(CLI::Transformer(outputs).description(""))
      ->check(CLI::IsMember(std::vector<Output>{Output::kTable, Output::kWide, Output::kJson, Output::kYaml,
                                                Output::kName}).description(""))
      ->type_name("FORM");
  app.add_flag("--no-input", globals.no_input, "Never ask");
}

// Global flags are understood after the command too.
void FallThrough(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    command->fallthrough();
    FallThrough(*command);
  }
}

// Nothing is half done by a command of ours when it ends here; stdout is flushed line by line where it streams.
void EndInterrupted(int) { _exit(kExitInterrupted); }

void PrepareSignals() {
  struct sigaction action = {};
  action.sa_handler = EndInterrupted;
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

int Fail(const Session& session, const Status& status) {
  Complain(fmt::format("error: {}\n", Message(status)));
  if (session.usage_error) return kExitUsage;
  const std::string_view next = NextStep(status);
  if (!next.empty()) Complain(fmt::format("next: {}\n", next));
  return ExitCode(status);
}

int Finish(int code) {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (!written) Complain("error: the output could not be written\n");
  return written ? code : kExitFailed;
}

int Run(Session& session) {
  const StatusOr<int> code = session.command();
  return Finish(code.ok() ? *code : Fail(session, code.status()));
}

}  // namespace

std::unique_ptr<CLI::App> MakeApp(Session& session) {
  auto app = std::make_unique<CLI::App>("Drives a muster control plane", "musterctl");
  app->require_subcommand(1);
  AddGlobals(*app, session.globals);
  AddToken(*app, session);
  AddGet(*app, session);
  AddDelete(*app, session);
  AddSpecs(*app, session);
  FallThrough(*app);
  return app;
}

int Main(int argc, char** argv) {
  PrepareSignals();
  Session session(SystemClock());
  const auto app = MakeApp(session);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? Finish(0) : kExitUsage;
  }
  return Run(session);
}

}  // namespace muster::ctl
