// fleet: thousands of simulated agents in one process, which speak the real protocol with
// certificates of their own, and the check of what became of their results.
#include <CLI/CLI.hpp>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <map>

#include "control-plane/store/store.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/net/context.h"
#include "lib/net/tls.h"
#include "lib/program/program.h"
#include "tests/bench/fleet/apply.h"
#include "tests/bench/fleet/bundle.h"
#include "tests/bench/fleet/check.h"
#include "tests/bench/fleet/enroll.h"
#include "tests/bench/fleet/fleet.h"
#include "tests/bench/fleet/greeter.h"
#include "tests/bench/fleet/journal.h"
#include "tests/bench/lib/options.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {
namespace {

struct RunFlags {
  std::string context, bundle;
  std::string every = "10s", failing = "1%", period = "1m", seconds = "60", warm_up = "10";
  std::string connect_over = "0", connect_within = "3m";
  ChecksOptions checks;
  FleetOptions fleet;
};

struct Flags {
  EnrollOptions enroll;
  RunFlags run;
  std::string journal, store;
  std::string greeter_data, greeter_listen;
  bool json = false, spec_change = false, unapplied = false;
};

int Exit(const Status& status) {
  if (!status.ok()) std::cerr << "error: " << Message(status) << "\n";
  return ExitCode(status);
}

int EnrollAll(const Flags& flags) {
  const StatusOr<Enrolled> enrolled = Enroll(flags.enroll);
  if (enrolled.ok()) {
    std::cout << fmt::format("{}: {} agents, {} of them new\n", flags.enroll.out,
                             enrolled->kept + enrolled->made, enrolled->made);
  }
  return Exit(enrolled.status());
}

// "10s", or plain seconds.
StatusOr<absl::Duration> ReadDuration(const std::string& text) {
  const bool bare = text.find_first_not_of("0123456789.") == std::string::npos;
  return ParseDuration(bare && text != "0" ? text + "s" : text);
}

StatusOr<double> ReadShare(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const double share = std::string_view(end) == "%" ? number / 100 : number;
  if (end == text.c_str() || (*end != '\0' && std::string_view(end) != "%") || share < 0 ||
      share > 1) {
    return InvalidArgument("--failing is a share like 1% or 0.01, not {}", text);
  }
  return share;
}

Status ReadRun(RunFlags& flags) {
  MUSTER_ASSIGN_OR_RETURN(flags.checks.every, ReadDuration(flags.every));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.failures.share, ReadShare(flags.failing));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.failures.period, ReadDuration(flags.period));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.measure, ReadDuration(flags.seconds));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.warm_up, ReadDuration(flags.warm_up));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.connect_over, ReadDuration(flags.connect_over));
  MUSTER_ASSIGN_OR_RETURN(flags.fleet.connect_within, ReadDuration(flags.connect_within));
  return OkStatus();
}

// SIGTERM and SIGINT end the run in order. Made before any other thread.
class EarlyEnd {
 public:
  EarlyEnd()
      : thread_("signals", [this] {
          signals_.Wait();
          stop_ = true;
        }) {}
  // The thread ends with a signal, if only with ours.
  ~EarlyEnd() { kill(getpid(), SIGTERM); }
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  std::atomic<bool> stop_ = false;
  StopSignals signals_;
  exec::Thread thread_;
};

Status RunAgents(const Flags& flags, Report& report) {
  RunFlags run = flags.run;
  MUSTER_RETURN_IF_ERROR(ReadRun(run));
  MUSTER_ASSIGN_OR_RETURN(const Bundle bundle, ReadBundle(run.bundle));
  if (run.fleet.agents == 0) run.fleet.agents = bundle.agents.size();
  if (bundle.agents.size() < run.fleet.agents) {
    return FailedPrecondition("{} holds {} agents: enroll {} first", run.bundle,
                              bundle.agents.size(), run.fleet.agents);
  }
  MUSTER_ASSIGN_OR_RETURN(const net::Context context, net::ReadContext(run.context));
  if (context.identity.roots_pem != bundle.roots_pem) {
    return FailedPrecondition("{} and {} are of different clusters", run.context, run.bundle);
  }
  net::Context cluster = context;
  run.fleet.learn_servers = run.fleet.servers.empty();
  if (!run.fleet.learn_servers) cluster.servers = run.fleet.servers;
  run.fleet.servers = cluster.servers;
  run.fleet.journal = flags.journal;
  const EarlyEnd early;
  if (!flags.unapplied) MUSTER_RETURN_IF_ERROR(ApplyChecks(cluster, run.checks));
  if (flags.spec_change) {
    run.fleet.change_specs = [cluster, checks = run.checks]() mutable {
      ++checks.checks;
      return ApplyChecks(cluster, checks);
    };
  }
  Fleet fleet(std::move(run.fleet), bundle, early.stop());
  return fleet.Run(report);
}

int RunFleet(const Flags& flags) {
  RaiseDescriptorLimit();
  Report report;
  const Status ran = RunAgents(flags, report);
  if (flags.json) {
    std::cout << nlohmann::json(report).dump() << "\n";
  } else if (report.agents > 0) {
    std::cout << Table(report);
  }
  return Exit(ran);
}

StatusOr<Verdict> Judge(const Flags& flags) {
  MUSTER_ASSIGN_OR_RETURN(const JournalContents journal, ReadJournal(flags.journal));
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<control::Store> store,
                          control::Store::Open(flags.store));
  return CheckStore(*store, journal);
}

int CheckJournal(const Flags& flags) {
  const StatusOr<Verdict> verdict = Judge(flags);
  if (!verdict.ok()) return Exit(verdict.status());
  std::cout << (flags.json ? nlohmann::json(*verdict).dump() + "\n" : Table(*verdict));
  return verdict->good() ? 0 : 1;
}

void AddEnroll(CLI::App& app, EnrollOptions& options) {
  CLI::App* const enroll = app.add_subcommand(
      "enroll", "certificates for many agents, from the control plane's own authority");
  enroll->add_option("--data", options.data, "the control plane's folder")->required();
  enroll->add_option("--store", options.store, "its store's URL, if it is not in the folder");
  enroll->add_option("--agents", options.agents, "how many the bundle is to hold")->required();
  enroll->add_option("--prefix", options.prefix, "of their names")->capture_default_str();
  enroll->add_option("--out", options.out, "the bundle; what it holds is kept")->required();
}

void AddRun(CLI::App& app, Flags& flags) {
  RunFlags& run = flags.run;
  CLI::App* const sub = app.add_subcommand("run", "connect them all, and measure");
  sub->add_option("--context", run.context, "an admin's, to apply the checks")->required();
  sub->add_option("--bundle", run.bundle, "what enroll made")->required();
  sub->add_option("--servers", run.fleet.servers,
                  "HOST:PORT of each control plane, and no others; default is the context's, and "
                  "those that the control plane names")
      ->delimiter(',');
  sub->add_option("--agents", run.fleet.agents, "the first of the bundle; default is all");
  sub->add_option("--checks", run.checks.checks, "checks an agent; 0: idle")
      ->check(CLI::Range(0, 998))
      ->capture_default_str();
  sub->add_option("--every", run.every, "of each check")->capture_default_str();
  sub->add_option("--confirm", run.checks.failures, "failures in a row until believed")
      ->capture_default_str();
  sub->add_option("--failing", run.failing, "share of the checks that fail and mend")
      ->capture_default_str();
  sub->add_option("--period", run.period, "in which such a check fails once and mends once")
      ->capture_default_str();
  sub->add_option("--seconds", run.seconds, "how long is measured")->capture_default_str();
  sub->add_option("--warm-up", run.warm_up, "before that")->capture_default_str();
  sub->add_option("--dialling", run.fleet.most_dialling,
                  "agents that dial at once; the others wait for their turn")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  sub->add_option("--connect-over", run.connect_over, "spread the first connects over so long")
      ->capture_default_str();
  sub->add_option("--connect-within", run.connect_within, "until all must be welcomed")
      ->capture_default_str();
  sub->add_flag("--unapplied", flags.unapplied, "apply nothing: the server only greets");
  sub->add_flag("--spec-change", flags.spec_change,
                "then add a check to all, and measure when it reaches them");
  sub->add_flag("--reconnect-storm", run.fleet.reconnect_storm,
                "then cut all at once, and measure how they come back");
  sub->add_option("--journal", flags.journal, "append what is generated and acknowledged");
  sub->add_option("--plane-pid", run.fleet.plane, "the control plane's process, to measure it");
  sub->add_flag("--json", flags.json, "one JSON object instead of a table");
}

void AddCheck(CLI::App& app, Flags& flags) {
  CLI::App* const check = app.add_subcommand(
      "check", "hold the store against a journal; exit 1 if anything is lost or wrong");
  check->add_option("--journal", flags.journal, "what run wrote")->required();
  check->add_option("--store", flags.store, "the store's URL")->required();
  check->add_flag("--json", flags.json, "one JSON object instead of text");
}

int Greet(const Flags& flags) {
  RaiseDescriptorLimit();
  const EarlyEnd early;
  return Exit(ServeGreeter(flags.greeter_data, flags.greeter_listen, early.stop()));
}

void AddGreet(CLI::App& app, Flags& flags) {
  CLI::App* const greet = app.add_subcommand(
      "greet", "a server that greets agents and keeps nothing, to compare with, until SIGTERM");
  greet->add_option("--data", flags.greeter_data, "the control plane's folder")->required();
  greet->add_option("--listen", flags.greeter_listen, "HOST:PORT")->required();
}

int Run(int argc, char** argv) {
  LeaveLockOrderToTests();
  net::PrepareTls();
  // Of thousands of connections some fail: they are counted, not told one by one.
  setenv("GRPC_VERBOSITY", "NONE", 1);
  Flags flags;
  CLI::App app{"fleet: simulated agents for a control plane, and the check of what it stored"};
  app.require_subcommand(1);
  AddEnroll(app, flags.enroll);
  AddRun(app, flags);
  AddCheck(app, flags);
  AddGreet(app, flags);
  if (const int code = ReadCommandLine(app, argc, argv); code >= 0) return code;
  StartLog("fleet", LogLevel::kWarning);
  if (app.got_subcommand("enroll")) return EnrollAll(flags);
  if (app.got_subcommand("greet")) return Greet(flags);
  return app.got_subcommand("run") ? RunFleet(flags) : CheckJournal(flags);
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) { return muster::bench::Run(argc, argv); }
