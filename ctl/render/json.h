// Messages of the control plane as JSON for scripts. Pure; any thread may call.
//
// Keys are the protobuf JSON names. Plain fields are always present; a time or duration that is not
// set is null; any other message that is not set is left out. Enums lose their prefix: "CRITICAL",
// "DISK_FULL"; severities, roles and actions are in lower case, overlaps as in specs. Integers are
// numbers, times RFC 3339 in UTC, durations like "12ms", bytes hex.
#pragma once

#include <string>

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

namespace muster::ctl {

using Json = nlohmann::ordered_json;

Json ToJson(const google::protobuf::Message& message);
// On one line, or indented for people. Bytes that are not UTF-8 are replaced.
std::string LineText(const Json& value);
std::string IndentedText(const Json& value);
std::string YamlText(const Json& value);

}  // namespace muster::ctl
