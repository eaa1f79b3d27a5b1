// muster-agent: join a host to a control plane, and run there.
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "agent/app.h"
#include "agent/reports/exec.h"
#include "lib/net/tls.h"
#include "lib/program/program.h"

namespace {

using muster::Status;
namespace agent = muster::agent;

int Fail(const Status& status) {
  std::fprintf(stderr, "muster-agent: %s\n", std::string(muster::Message(status)).c_str());
  return muster::ExitCode(status);
}

int RunJoin(const agent::JoinOptions& options) {
  const muster::StatusOr<std::string> joined = agent::Join(options);
  if (!joined.ok()) return Fail(joined.status());
  std::fputs(joined->c_str(), stdout);
  return 0;
}

int RunAgent(const agent::RunOptions& options) {
  const muster::StopSignals signals;
  const muster::StatusOr<agent::Config> config = agent::ReadSettings(options);
  if (!config.ok()) return Fail(config.status());
  muster::StartLog("muster-agent", config->log_level);
  auto app = agent::App::Start(options, *config);
  if (!app.ok()) return Fail(app.status());
  muster::LogInfo("stopping", {{"signal", signals.Wait()}});
  if (!(*app)->Stop()) {
    // A probe or a run has not returned. All that was found is in the log: nothing is left to wait
    // for.
    muster::LogWarning("a probe or a run has not returned: ending without it");
    _exit(0);
  }
  app->reset();
  return 0;
}

// Not for exec, whose command inherits signals and environment as they are.
void Prepare() {
  muster::net::PrepareTls();
  signal(SIGPIPE, SIG_IGN);  // a server that hangs up is an error to tell, not the end of us
}

// `muster-agent exec … -- COMMAND`: what stands behind the -- is none of ours to read.
int EndOfOurs(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "exec") return argc;
  for (int i = 2; i < argc; ++i)
    if (std::string_view(argv[i]) == "--") return i;
  return argc;
}

int RunExec(agent::ExecOptions options, bool tells_output) {
  if (options.command.empty()) {
    std::fputs("muster-agent: exec: the command stands behind --, as in: -- /usr/bin/report\n",
               stderr);
    return 2;
  }
  using Output = agent::HostCommand::Output;
  options.output = tells_output ? Output::kReadToo : Output::kPassOn;
  return agent::Exec(options);
}

int Main(int argc, char** argv) {
  const int ours = EndOfOurs(argc, argv);
  CLI::App cli("muster-agent: runs the checks of one host and tells a control plane");
  cli.require_subcommand(1);

  agent::JoinOptions join;
  CLI::App* join_command = cli.add_subcommand("join", "trade a join string for a certificate");
  join_command->add_option("--data", join.data, "folder of the agent")->required();
  join_command->add_option("--server", join.server, "HOST:PORT of the enrolment port")->required();
  join_command->add_option("--token-file", join.token_file, "file with the join string, - is stdin")
      ->required();
  join_command->add_flag("--force", join.force, "replace the identity that is there");

  agent::RunOptions run;
  CLI::App* run_command = cli.add_subcommand("run", "run until SIGTERM");
  run_command->add_option("--data", run.data, "folder of the agent")->required();
  run_command->add_option("--config", run.config_file, "settings file (YAML)");
  run_command->add_option("--policy", run.policy_file, "what this host allows");
  run_command->add_option("--log-level", run.log_level, "debug, info, warning or error");

  agent::ExecOptions exec;
  bool no_output = false;
  CLI::App* exec_command = cli.add_subcommand(
      "exec", "run the command behind --, and tell the agent of it: for cron and timers");
  exec_command->add_option("--data", exec.data, "folder of the agent")->required();
  exec_command->add_option("--job", exec.job, "the job that it is a run of")->required();
  exec_command->add_flag("--no-output", no_output, "tell nothing of what it writes");

  CLI::App* version_command = cli.add_subcommand("version", "print the version");
  try {
    cli.parse(ours, argv);
  } catch (const CLI::ParseError& error) {
    return cli.exit(error) == 0 ? 0 : 2;
  }
  if (version_command->parsed()) {
    std::puts("muster-agent " MUSTER_VERSION);
    return 0;
  }
  if (exec_command->parsed()) {
    exec.command.assign(argv + std::min(ours + 1, argc), argv + argc);
    return RunExec(std::move(exec), !no_output);
  }
  Prepare();
  if (join_command->parsed()) return RunJoin(join);
  return RunAgent(run);
}

}  // namespace

int main(int argc, char** argv) {
  muster::LeaveLockOrderToTests();
  mallopt(M_ARENA_MAX, 2);
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muster-agent: %s\n", error.what());
    return 1;
  }
}
