// Text forms of times, durations and bytes, as operators write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster {

// "1h30m", "500ms", "1.5s", "2d". Units: ns us ms s m h d; parts add up. Refuses an empty text, a
// bare number other than 0, and anything that overflows.
StatusOr<absl::Duration> ParseDuration(std::string_view text);
// The shortest such text that reads back the same: "1h30m", "500ms", "0s".
std::string DurationText(absl::Duration duration);
// For people: at most two units, "3d4h", "12m5s", "850ms".
std::string ShortDuration(absl::Duration duration);

// RFC 3339 in UTC with as many fractional digits as are there: "2026-11-23T10:00:00.25Z".
std::string TimeText(absl::Time time);
StatusOr<absl::Time> ParseTime(std::string_view text);

std::string HexEncode(std::string_view bytes);
StatusOr<std::string> HexDecode(std::string_view text);
// RFC 4648 section 5, no padding.
std::string Base64UrlEncode(std::string_view bytes);
StatusOr<std::string> Base64UrlDecode(std::string_view text);

std::vector<std::string_view> Split(std::string_view text, char separator);
std::string_view Trim(std::string_view text);
// The decimal number that the text begins with; 0 if it begins with none.
uint64_t LeadingNumber(std::string_view text);
// The first `bytes` bytes, cut back to a whole UTF-8 character. Not longer.
std::string_view Truncate(std::string_view text, size_t bytes);
// The text as valid UTF-8 on one line: control characters become spaces, bad bytes U+FFFD.
std::string OneLine(std::string_view text);
// As OneLine, but keeps \n and \t.
std::string CleanText(std::string_view text);

// Whether the text can stand in YAML without quotes: no reader of YAML 1.1 or 1.2 takes it for
// anything but this text.
bool IsPlainYaml(std::string_view text);

struct HostPort {
  std::string host;
  uint16_t port = 0;
};
// "host:443", "[::1]:443", ":443" (empty host).
StatusOr<HostPort> ParseHostPort(std::string_view text);
std::string FormatHostPort(const HostPort& address);

}  // namespace muster
