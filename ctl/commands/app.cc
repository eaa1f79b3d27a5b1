#include "ctl/commands/app.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "ctl/commands/commands.h"

namespace muster::ctl {
namespace {

bool ReadOutput(const std::string& form, Output& output) {
  static const std::map<std::string, Output> outputs = {{"table", Output::kTable}, {"wide", Output::kWide},
      {"json", Output::kJson}, {"yaml", Output::kYaml}, {"name", Output::kName}};
  const auto found = outputs.find(form);
  if (found != outputs.end()) output = found->second;
  return found != outputs.end();
}

void AddGlobals(CLI::App& app, Globals& globals) {
  app.add_option("--context", globals.context, "The context file (MUSTER_CONTEXT)");
  app.add_option("--server", globals.server, "HOST:PORT instead of the context's servers (MUSTER_SERVER)");
  app.add_option("--timeout", globals.timeout, "How long to wait for the control plane")->default_str("10s");
  const auto take = [&globals](const std::string& form) {
    if (!ReadOutput(form, globals.output))
      throw CLI::ValidationError("-o " + form, "one of table, wide, json, yaml, name");
  };
  app.add_option_function<std::string>("-o,--output", take, "table, wide, json, yaml or name");
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
  AddDescribe(*app, session);
  AddDelete(*app, session);
  AddSpecs(*app, session);
  AddHistory(*app, session);
  AddAlert(*app, session);
  AddAgent(*app, session);
  AddOperator(*app, session);
  AddWatch(*app, session);
  AddSystem(*app, session);
  AddCompletion(*app, session);
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
