#include "ctl/render/json_fields.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::ctl {

std::optional<absl::Time> TimeAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return std::nullopt;
  const auto time = ParseTime(found->get<std::string>());
  return time.ok() ? std::optional(*time) : std::nullopt;
}

std::string TextAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || !found->is_string() ? "" : found->get<std::string>();
}

uint64_t NumberAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || !found->is_number() ? 0 : found->get<uint64_t>();
}

std::string SecondText(absl::Time time) {
  return TimeText(absl::FromUnixSeconds(absl::ToUnixSeconds(time)));
}

std::string SpanText(absl::Duration span) {
  if (span < absl::Seconds(1)) return ShortDuration(std::max(span, absl::ZeroDuration()));
  return ShortDuration(absl::Trunc(span, absl::Seconds(1)));
}

std::string Fact(std::string_view name, std::string_view text) {
  if (text.empty()) return "";
  return fmt::format("{:<11}{}\n", fmt::format("{}:", name), OneLine(text));
}

}  // namespace muster::ctl
