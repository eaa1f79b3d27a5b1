#include "ctl/commands/cli.h"

#include <signal.h>
#include <unistd.h>

#include <iostream>

#include "ctl/commands/commands.h"
#include "lib/program/program.h"

namespace muster::ctl {
namespace {

constexpr int kUsage = 2;
constexpr int kInterrupted = 130;

std::string NextStep(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return "is muster-control running there? try: musterctl --server HOST:PORT version";
    case absl::StatusCode::kDeadlineExceeded:
      return "the answer took too long; try a longer --timeout";
    case absl::StatusCode::kUnauthenticated:
      return "the context's certificate is not accepted; ask an admin for another";
    default: return "";
  }
}

}  // namespace

void Cli::Run(const std::function<Status(Session&)>& body) {
  Session session(flags);
  Status status = session.Open();
  if (status.ok()) status = body(session);
  if (status.ok()) return;
  exit_code = ExitCode(status);
  std::cerr << "error: " << Message(status) << "\n";
  if (const std::string next = NextStep(status); !next.empty()) std::cerr << next << "\n";
}

int RunCli(int argc, char** argv) {
  signal(SIGPIPE, SIG_DFL);  // a reader that has seen enough ends us quietly
  // What the shell shows for an interrupted command; nothing of ours needs to be put in order.
  signal(SIGINT, [](int) { _exit(kInterrupted); });
  Cli cli;
  cli.app.require_subcommand(1);
  cli.app.fallthrough();
  cli.app.add_option("--context", cli.flags.context, "context file (MUSTER_CONTEXT)");
  cli.app.add_option("--server", cli.flags.server,
                     "HOST:PORT instead of the context's servers (MUSTER_SERVER)");
  cli.app.add_option("--timeout", cli.flags.timeout, "longest time for an answer")
      ->capture_default_str();
  cli.app.add_option("-o,--output", cli.flags.output, "table, wide, json, yaml or name")
      ->check(CLI::IsMember({"table", "wide", "json", "yaml", "name"}))
      ->capture_default_str();
  cli.app.add_flag("--no-input", cli.flags.no_input, "never ask");
  for (const auto add :
       {AddApply,  AddDiff,     AddGet,    AddDescribe, AddDelete, AddHistory, AddToken,
        AddAgent,  AddOperator, AddAlert,  AddRun,      AddLogs,   AddCancel,  AddPause,
        AddResume, AddBackfill, AddBackup, AddWatch,    AddDoctor, AddVersion, AddCompletion}) {
    add(cli);
  }
  try {
    cli.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return cli.app.exit(error) == 0 ? 0 : kUsage;
  }
  std::cout.flush();
  return cli.exit_code;
}

}  // namespace muster::ctl
