// The host itself: load, memory, disk and clock, from /proc and the kernel.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "agent/probes/probes.h"
#include "agent/probes/proc.h"
#include "agent/probes/report.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

KernelClock ReadKernelClock() {
  timex facts{};  // modes 0: looks, sets nothing
  const int state = adjtimex(&facts);
  return {.largest_error = absl::Microseconds(facts.maxerror),
          .synchronised = state != TIME_ERROR && (facts.status & STA_UNSYNC) == 0};
}

template <typename Number>
Number Or(Number value, Number fallback) {
  return value == Number{} ? fallback : value;
}

absl::Duration OrDuration(bool set, const google::protobuf::Duration& value,
                          absl::Duration fallback) {
  return set ? wire::FromProto(value) : fallback;
}

v1::CheckStatus Grade(double value, double warning, double critical) {
  if (value >= critical) return v1::CHECK_STATUS_CRITICAL;
  return value >= warning ? v1::CHECK_STATUS_WARNING : v1::CHECK_STATUS_OK;
}

// "MemTotal:  8123 kB" in bytes; negative if the line is not there.
double MemoryLine(std::string_view text, std::string_view name) {
  for (std::string_view line : Split(text, '\n')) {
    if (!line.starts_with(name)) continue;
    line = Trim(line.substr(name.size()));
    int64_t kilobytes = -1;
    std::from_chars(line.data(), line.data() + line.size(), kilobytes);
    return static_cast<double>(kilobytes) * 1024;
  }
  return -1;
}

class HostProbe final : public Probe {
 public:
  HostProbe(v1::HostProbe spec, HostSources sources)
      : spec_(std::move(spec)), sources_(std::move(sources)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    switch (spec_.look_case()) {
      case v1::HostProbe::kLoad: return Load(report);
      case v1::HostProbe::kMemory: return Memory(report);
      case v1::HostProbe::kDisk: return Disk(report);
      case v1::HostProbe::kTime: return Time(report);
      case v1::HostProbe::LOOK_NOT_SET: break;
    }
    return report.Unknown("the host probe does not say what to look at");
  }

 private:
  ProbeResult Load(Report& report) {
    report.Begin("read", "reading the load");
    const StatusOr<std::string> text = ReadProc(sources_.proc + "/loadavg");
    if (!text.ok()) return report.Unknown(std::string(Message(text.status())));
    report.Received(*text);
    const std::vector<std::string_view> parts = Split(*text, ' ');
    double load = -1;
    if (parts.size() > 1) std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), load);
    if (load < 0) return report.Unknown(sources_.proc + "/loadavg cannot be read as a load");
    const double cpus = static_cast<double>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
    report.AddMetric("load5", load, "");
    report.AddMetric("load5_per_cpu", load / cpus, "");
    const v1::CheckStatus grade = Grade(load / cpus, Or(spec_.load().warning_per_cpu(), 2.0),
                                        Or(spec_.load().critical_per_cpu(), 4.0));
    if (grade == v1::CHECK_STATUS_OK) return report.Ok("load is low enough");
    return report.Finish(grade,
                         fmt::format("load of 5 minutes is {:.2f} on {} processors", load, cpus));
  }

  ProbeResult Memory(Report& report) {
    report.Begin("read", "reading the memory");
    const StatusOr<std::string> text = ReadProc(sources_.proc + "/meminfo");
    if (!text.ok()) return report.Unknown(std::string(Message(text.status())));
    report.Received(*text);
    const double total = MemoryLine(*text, "MemTotal:");
    const double available = MemoryLine(*text, "MemAvailable:");
    if (total <= 0 || available < 0)
      return report.Unknown(sources_.proc + "/meminfo has no MemAvailable");
    const double percent = 100 * (total - available) / total;
    report.AddMetric("memory_used_percent", percent, "%");
    report.AddMetric("memory_available", available, "B");
    const v1::CheckStatus grade = Grade(percent, Or(spec_.memory().warning_percent(), 90U),
                                        Or(spec_.memory().critical_percent(), 97U));
    if (grade == v1::CHECK_STATUS_OK) return report.Ok("memory is available");
    return report.Finish(grade, fmt::format("{:.1f} % of memory is in use", percent));
  }

  ProbeResult Disk(Report& report) {
    const std::string path = spec_.disk().path().empty() ? "/" : spec_.disk().path();
    report.Begin("read", "looking at the disk of " + path);
    struct statvfs facts {};
    if (statvfs(path.c_str(), &facts) != 0) {
      return report.Unknown(
          fmt::format("cannot look at the disk of {}: {}", path, std::strerror(errno)));
    }
    // As df counts: what is kept for root counts neither as used nor as free.
    const double used = static_cast<double>(facts.f_blocks - facts.f_bfree);
    const double size = used + static_cast<double>(facts.f_bavail);
    const double blocks = size > 0 ? 100 * used / size : 0;
    const double inodes = facts.f_files > 0
                              ? 100.0 * static_cast<double>(facts.f_files - facts.f_ffree) /
                                    static_cast<double>(facts.f_files)
                              : 0;
    report.AddMetric("disk_used_percent", blocks, "%");
    report.AddMetric("disk_free",
                     static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize),
                     "B");
    report.AddMetric("inodes_used_percent", inodes, "%");
    const v1::CheckStatus grade =
        Grade(std::max(blocks, inodes), Or(spec_.disk().warning_percent(), 85U),
              Or(spec_.disk().critical_percent(), 95U));
    if (grade == v1::CHECK_STATUS_OK) return report.Ok(fmt::format("disk {} has room", path));
    report.Note(
        fmt::format("{}: {:.1f} % of blocks, {:.1f} % of inodes in use", path, blocks, inodes));
    return report.Finish(
        grade, fmt::format("disk {}: {:.1f} % of {} in use", path, std::max(blocks, inodes),
                           inodes > blocks ? "inodes" : "blocks"));
  }

  ProbeResult Time(Report& report) {
    report.Begin("read", "reading the kernel's clock");
    const KernelClock clock = sources_.clock ? sources_.clock() : ReadKernelClock();
    report.AddMetric("clock_error_at_most", absl::ToDoubleSeconds(clock.largest_error), "s");
    const v1::HostTime& spec = spec_.time();
    report.Note(fmt::format("largest error {}, {}", ShortDuration(clock.largest_error),
                            clock.synchronised ? "synchronised" : "not synchronised"));
    if (!clock.synchronised) {
      // The kernel's estimate grows without end then, and says nothing.
      if (spec.allow_unsynchronised()) return report.Ok("clock runs free, as allowed");
      return report.Critical(
          "no time service disciplines the clock: start chrony or systemd-timesyncd");
    }
    const double error = absl::ToDoubleSeconds(clock.largest_error);
    const absl::Duration warning =
        OrDuration(spec.has_warning(), spec.warning(), absl::Milliseconds(100));
    const absl::Duration critical =
        OrDuration(spec.has_critical(), spec.critical(), absl::Seconds(1));
    const v1::CheckStatus grade =
        Grade(error, absl::ToDoubleSeconds(warning), absl::ToDoubleSeconds(critical));
    if (grade == v1::CHECK_STATUS_OK) return report.Ok("clock is synchronised");
    return report.Finish(
        grade, fmt::format("the clock may be wrong by {}", ShortDuration(clock.largest_error)));
  }

  const v1::HostProbe spec_;
  const HostSources sources_;
};

}  // namespace

ProbeOr MakeHostProbe(const v1::HostProbe& spec, HostSources sources) {
  if (spec.look_case() == v1::HostProbe::LOOK_NOT_SET) {
    return InvalidArgument("a host probe needs one of load, memory, disk, time");
  }
  return std::make_unique<HostProbe>(spec, std::move(sources));
}

}  // namespace muster::agent
