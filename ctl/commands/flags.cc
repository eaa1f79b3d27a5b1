#include "ctl/commands/flags.h"

#include "lib/base/text.h"

namespace muster::ctl {

CLI::App* Group(CLI::App& app, const std::string& name, const std::string& help) {
  CLI::App* group = app.add_subcommand(name, help);
  group->require_subcommand(1);
  return group;
}

StatusOr<absl::Duration> DurationFlag(Session& session, std::string_view flag, std::string_view text) {
  auto duration = ParseDuration(text);
  if (!duration.ok()) return session.Usage(fmt::format("{} {}: {}", flag, text, Message(duration.status())));
  return *duration;
}

StatusOr<absl::Time> SinceFlag(Session& session, std::string_view flag, std::string_view text) {
  if (const auto time = ParseTime(text); time.ok()) return *time;
  MUSTER_ASSIGN_OR_RETURN(const absl::Duration ago, DurationFlag(session, flag, text));
  return session.clock().Now() - ago;
}

void PutDuration(absl::Duration duration, google::protobuf::Duration& out) {
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(rest / absl::Nanoseconds(1)));
}

void PutTime(absl::Time time, google::protobuf::Timestamp& out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>((time - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1)));
}

}  // namespace muster::ctl
