// A Nagios plugin: exit code 0 to 3 is the status, the first line the summary, perfdata the
// metrics.
#include <csignal>
#include <cstring>

#include "agent/probes/perfdata.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/run_program.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

const char* StatusWord(int exit_code) {
  switch (exit_code) {
    case 0: return "OK";
    case 1: return "WARNING";
    case 2: return "CRITICAL";
    default: return "UNKNOWN";
  }
}

class PluginProbe final : public Probe {
 public:
  PluginProbe(const v1::PluginProbe& spec, Policy policy)
      : argv_(spec.command().begin(), spec.command().end()), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    // Links may have moved since the probe was made.
    if (const Status status = policy_.AllowProgram(argv_[0]); !status.ok()) {
      return report.Failed(status);
    }
    report.Begin("run", "running " + argv_[0]);
    const StatusOr<ProgramEnd> end = RunToEnd(argv_, context);
    if (!end.ok()) return report.Unknown(std::string(Message(end.status())));
    report.End();
    report.Received(end->output);
    if (!end->errors.empty()) report.Note("stderr: " + end->errors);
    if (end->cut) report.Note("output beyond 64 KiB was dropped");
    return Judge(*end, report);
  }

 private:
  ProbeResult Judge(const ProgramEnd& end, Report& report) const {
    if (end.timed_out) return report.TimedOut();
    if (end.signal != 0) {
      return report.Unknown(fmt::format("{} was ended by signal {} ({})", argv_[0], end.signal,
                                        strsignal(end.signal)));
    }
    const PluginOutput output = ParsePluginOutput(end.output);
    for (const Perf& figure : output.figures)
      report.AddMetric(figure.label, figure.value, figure.unit);
    if (end.exit_code > 3) {
      return report.Unknown(fmt::format(
          "{} ended with code {}, a plugin ends with 0 to 3: {}", argv_[0], end.exit_code,
          output.summary.empty() ? OneLine(end.errors) : output.summary));
    }
    const std::string summary = output.summary.empty() ? fmt::format("{} (the plugin said nothing)",
                                                                     StatusWord(end.exit_code))
                                                       : output.summary;
    switch (end.exit_code) {
      case 0: return report.Ok(summary);
      case 1: return report.Warning(summary);
      case 2: return report.Critical(summary);
      default: return report.Unknown(summary);
    }
  }

  const std::vector<std::string> argv_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakePluginProbe(const v1::PluginProbe& spec, const Policy& policy) {
  if (spec.command().empty()) return InvalidArgument("a plugin probe needs a command");
  for (const std::string& argument : spec.command()) {
    if (argument.find('\0') == std::string::npos) continue;
    return InvalidArgument("an argument of a plugin must not hold a zero byte");
  }
  MUSTER_RETURN_IF_ERROR(policy.AllowProgram(spec.command(0)));
  return std::make_unique<PluginProbe>(spec, policy);
}

}  // namespace muster::agent
