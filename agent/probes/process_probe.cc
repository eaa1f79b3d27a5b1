// Processes: by the name of their program, by systemd unit, or by pid file.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>

#include "agent/probes/probes.h"
#include "agent/probes/proc.h"
#include "agent/probes/report.h"
#include "agent/probes/run_program.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

std::optional<int> ReadPid(std::string_view text) {
  int pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc() || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

// Zombies are no processes. The state follows the name, which may itself hold a bracket.
bool Lives(const std::string& folder) {
  const StatusOr<std::string> stat = ReadProc(folder + "/stat");
  if (!stat.ok()) return false;
  const size_t bracket = stat->rfind(')');
  if (bracket == std::string::npos || bracket + 2 >= stat->size()) return false;
  const char state = (*stat)[bracket + 2];
  return state != 'Z' && state != 'X';
}

bool IsNamed(const std::string& folder, std::string_view name) {
  const StatusOr<std::string> comm = ReadProc(folder + "/comm");
  if (comm.ok() && Trim(*comm) == name) return true;
  const StatusOr<std::string> command = ReadProc(folder + "/cmdline");
  if (!command.ok()) return false;
  const std::string_view program = std::string_view(*command).substr(0, command->find('\0'));
  const size_t slash = program.rfind('/');
  return !program.empty() &&
         program.substr(slash == std::string_view::npos ? 0 : slash + 1) == name;
}

std::map<std::string, std::string, std::less<>> Properties(std::string_view text) {
  std::map<std::string, std::string, std::less<>> properties;
  for (const std::string_view line : Split(text, '\n')) {
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    properties[std::string(line.substr(0, equals))] = std::string(Trim(line.substr(equals + 1)));
  }
  return properties;
}

class ProcessProbe final : public Probe {
 public:
  ProcessProbe(v1::ProcessProbe spec, Policy policy, ProcessSources sources)
      : spec_(std::move(spec)), policy_(std::move(policy)), sources_(std::move(sources)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    switch (spec_.which_case()) {
      case v1::ProcessProbe::kName: return ByName(context, report);
      case v1::ProcessProbe::kUnit: return ByUnit(context, report);
      case v1::ProcessProbe::kPidFile: return ByPidFile(report);
      case v1::ProcessProbe::WHICH_NOT_SET: break;
    }
    return report.Unknown("the process probe does not say which process");
  }

 private:
  ProbeResult ByName(const ProbeContext& context, Report& report) {
    report.Begin("scan", "scanning " + sources_.proc);
    uint32_t count = 0;
    std::error_code error;
    for (std::filesystem::directory_iterator at(sources_.proc, error), end; !error && at != end;
         at.increment(error)) {
      if (context.Left() <= absl::ZeroDuration()) return report.TimedOut();
      const std::string& folder = at->path().native();
      if (!ReadPid(at->path().filename().native())) continue;
      if (!IsNamed(folder, spec_.name()) || !Lives(folder)) continue;
      ++count;
      report.Note(fmt::format("process {}", at->path().filename().native()));
    }
    if (error)
      return report.Unknown(fmt::format("cannot read {}: {}", sources_.proc, error.message()));
    report.AddMetric("processes", count, "");
    const uint32_t at_least = spec_.at_least() == 0 ? 1 : spec_.at_least();
    if (count < at_least) {
      return report.Critical(fmt::format("{} processes are named {}, expected at least {}", count,
                                         spec_.name(), at_least));
    }
    if (spec_.at_most() != 0 && count > spec_.at_most()) {
      return report.Critical(fmt::format("{} processes are named {}, expected at most {}", count,
                                         spec_.name(), spec_.at_most()));
    }
    return report.Ok(spec_.name() + " runs");
  }

  ProbeResult ByUnit(const ProbeContext& context, Report& report) {
    report.Begin("systemctl", "asking systemd of " + spec_.unit());
    const StatusOr<ProgramEnd> end =
        RunToEnd({sources_.systemctl, "show", "-p", "LoadState,ActiveState,SubState,NRestarts",
                  "--", spec_.unit()},
                 context);
    if (!end.ok()) return report.Unknown(std::string(Message(end.status())));
    report.Received(end->output);
    if (!end->errors.empty()) report.Note(end->errors);
    if (end->timed_out) return report.TimedOut();
    auto properties = Properties(end->output);
    const std::string active = properties["ActiveState"];
    if (end->exit_code != 0 || active.empty()) {
      return report.Unknown(fmt::format("systemctl knows nothing of {}: {}", spec_.unit(),
                                        Trim(OneLine(end->errors))));
    }
    double restarts = 0;
    const std::string& text = properties["NRestarts"];
    std::from_chars(text.data(), text.data() + text.size(), restarts);
    report.AddMetric("restarts", restarts, "c");
    if (properties["LoadState"] == "not-found") {
      return report.Critical(fmt::format("there is no unit {}", spec_.unit()));
    }
    if (active == "active") return report.Ok(fmt::format("{} is active", spec_.unit()));
    return report.Critical(
        fmt::format("{} is {} ({})", spec_.unit(), active, properties["SubState"]));
  }

  ProbeResult ByPidFile(Report& report) {
    report.Begin("read", "reading " + spec_.pid_file());
    if (const Status status = policy_.AllowPath(spec_.pid_file()); !status.ok()) {
      return report.Failed(status);
    }
    const StatusOr<std::string> text = ReadProc(spec_.pid_file());
    if (!text.ok()) return report.Critical(std::string(Message(text.status())));
    const std::optional<int> pid = ReadPid(Trim(*text));
    if (!pid) return report.Critical(fmt::format("{} holds no process id", spec_.pid_file()));
    if (!Lives(fmt::format("{}/{}", sources_.proc, *pid))) {
      return report.Critical(fmt::format("process {} of {} does not run", *pid, spec_.pid_file()));
    }
    return report.Ok(fmt::format("the process of {} runs", spec_.pid_file()));
  }

  const v1::ProcessProbe spec_;
  const Policy policy_;
  const ProcessSources sources_;
};

}  // namespace

ProbeOr MakeProcessProbe(const v1::ProcessProbe& spec, const Policy& policy,
                         ProcessSources sources) {
  switch (spec.which_case()) {
    case v1::ProcessProbe::kName:
    case v1::ProcessProbe::kUnit: break;
    case v1::ProcessProbe::kPidFile:
      MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.pid_file()));
      break;
    case v1::ProcessProbe::WHICH_NOT_SET:
      return InvalidArgument("a process probe needs one of name, unit, pid_file");
  }
  return std::make_unique<ProcessProbe>(spec, policy, std::move(sources));
}

}  // namespace muster::agent
