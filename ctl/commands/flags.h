// Helpers of the commands: flags to values, values to messages.
#pragma once

#include <CLI/CLI.hpp>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include "ctl/commands/session.h"

namespace muster::ctl {

// A command that only holds others.
CLI::App* Group(CLI::App& app, const std::string& name, const std::string& help);
// A usage error names the flag.
StatusOr<absl::Duration> DurationFlag(Session& session, std::string_view flag, std::string_view text);
// "1h" ago, or a time in RFC 3339.
StatusOr<absl::Time> SinceFlag(Session& session, std::string_view flag, std::string_view text);
void PutDuration(absl::Duration duration, google::protobuf::Duration& out);
void PutTime(absl::Time time, google::protobuf::Timestamp& out);

}  // namespace muster::ctl
