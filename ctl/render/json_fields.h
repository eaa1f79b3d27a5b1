// Fields of a JSON object, where they may be missing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <absl/time/time.h>

#include "ctl/render/json.h"

namespace muster::ctl {

std::string TextAt(const Json& json, const char* key);
uint64_t NumberAt(const Json& json, const char* key);
std::optional<absl::Time> TimeAt(const Json& json, const char* key);

// To the second: "2026-11-28T02:00:00Z".
std::string SecondText(absl::Time time);
// "3m12s"; clocks that differ give no span below nothing.
std::string SpanText(absl::Duration span);
// "Name:      orders", with what goes over several lines indented alike; nothing for no text.
std::string Fact(std::string_view name, std::string_view text);

}  // namespace muster::ctl
