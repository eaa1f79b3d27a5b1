// A file: there or not, how old, how large.
#include <cerrno>
#include <cstring>

#include <sys/stat.h>

#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

class FileProbe final : public Probe {
 public:
  FileProbe(v1::FileProbe spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    report.Begin("stat", "looking at " + spec_.path());
    if (const Status status = policy_.AllowPath(spec_.path()); !status.ok())
      return report.Failed(status);
    struct stat facts {};
    if (stat(spec_.path().c_str(), &facts) == 0) return Judge(facts, context, report);
    if (errno != ENOENT && errno != ENOTDIR) {
      return report.Unknown(
          fmt::format("cannot look at {}: {}", spec_.path(), std::strerror(errno)));
    }
    if (spec_.absent()) return report.Ok(spec_.path() + " is absent");
    return report.Critical(spec_.path() + " does not exist");
  }

 private:
  ProbeResult Judge(const struct stat& facts, const ProbeContext& context, Report& report) const {
    const absl::Time modified = absl::TimeFromTimespec(facts.st_mtim);
    const absl::Duration age = context.clock.Now() - modified;
    report.AddMetric("age", absl::ToDoubleSeconds(age), "s");
    report.AddMetric("size", static_cast<double>(facts.st_size), "B");
    report.Note(
        fmt::format("{}: {} bytes, modified {}", spec_.path(), facts.st_size, TimeText(modified)));
    if (spec_.absent()) return report.Critical(spec_.path() + " exists, and must not");
    if (static_cast<uint64_t>(facts.st_size) < spec_.bytes_at_least()) {
      return report.Critical(fmt::format("{} has {} bytes, expected at least {}", spec_.path(),
                                         facts.st_size, spec_.bytes_at_least()));
    }
    if (spec_.has_critical_age() && age > wire::FromProto(spec_.critical_age())) {
      return report.Critical(TooOld(age, wire::FromProto(spec_.critical_age())));
    }
    if (spec_.has_warning_age() && age > wire::FromProto(spec_.warning_age())) {
      return report.Warning(TooOld(age, wire::FromProto(spec_.warning_age())));
    }
    return report.Ok(spec_.path() + " is as expected");
  }

  std::string TooOld(absl::Duration age, absl::Duration limit) const {
    return fmt::format("{} is {} old, more than {}", spec_.path(), ShortDuration(age),
                       DurationText(limit));
  }

  const v1::FileProbe spec_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeFileProbe(const v1::FileProbe& spec, const Policy& policy) {
  MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.path()));
  return std::make_unique<FileProbe>(spec, policy);
}

}  // namespace muster::agent
