#include "lib/base/text.h"

#include <array>
#include <charconv>
#include <cmath>

#include <absl/strings/escaping.h>
#include <absl/time/time.h>
#include <re2/re2.h>

namespace muster {
namespace {

struct Unit {
  std::string_view name;
  absl::Duration length;
};

const std::array<Unit, 7>& Units() {
  static const std::array<Unit, 7> units = {{{"d", absl::Hours(24)},
                                             {"h", absl::Hours(1)},
                                             {"m", absl::Minutes(1)},
                                             {"s", absl::Seconds(1)},
                                             {"ms", absl::Milliseconds(1)},
                                             {"us", absl::Microseconds(1)},
                                             {"ns", absl::Nanoseconds(1)}}};
  return units;
}

Status NotADuration(std::string_view text) {
  return InvalidArgument("\"{}\" is not a duration; write 500ms, 10s, 1m30s, 2h or 7d", text);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Length of the UTF-8 character at the front of `text`, 0 if it is not valid.
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

std::string Clean(std::string_view text, std::string_view kept_controls) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    const char c = text[0];
    if (length == 0) {
      clean += "\xEF\xBF\xBD";
    } else if (length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)) {
      clean += kept_controls.find(c) != std::string_view::npos ? c : ' ';
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return clean;
}

}  // namespace

StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  if (text == "0") return absl::ZeroDuration();
  if (text.empty()) return NotADuration(text);
  absl::Duration total = absl::ZeroDuration();
  std::string_view rest = text;
  while (!rest.empty()) {
    size_t digits = 0;
    while (digits < rest.size() && (IsDigit(rest[digits]) || rest[digits] == '.')) ++digits;
    double amount = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + digits, amount);
    if (digits == 0 || error != std::errc() || end != rest.data() + digits)
      return NotADuration(text);
    rest.remove_prefix(digits);
    size_t letters = 0;
    while (letters < rest.size() && !IsDigit(rest[letters]) && rest[letters] != '.') ++letters;
    const std::string_view name = rest.substr(0, letters);
    rest.remove_prefix(letters);
    const Unit* unit = nullptr;
    for (const Unit& candidate : Units()) {
      if (candidate.name == name) unit = &candidate;
    }
    if (unit == nullptr || amount * absl::ToDoubleSeconds(unit->length) > 3e9)
      return NotADuration(text);
    total += amount == std::floor(amount) ? static_cast<int64_t>(amount) * unit->length
                                          : amount * unit->length;
  }
  return total;
}

std::string DurationText(absl::Duration duration) {
  if (duration == absl::ZeroDuration()) return "0s";
  std::string text;
  if (duration < absl::ZeroDuration()) {
    text = "-";
    duration = -duration;
  }
  if (duration == absl::InfiniteDuration()) return text + "forever";
  for (const Unit& unit : Units()) {
    const int64_t count = absl::IDivDuration(duration, unit.length, &duration);
    if (count > 0) text += fmt::format("{}{}", count, unit.name);
  }
  return text;
}

std::string ShortDuration(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) return "-" + ShortDuration(-duration);
  if (duration == absl::InfiniteDuration()) return "forever";
  std::string text;
  int parts = 0;
  for (const Unit& unit : Units()) {
    const int64_t count = absl::IDivDuration(duration, unit.length, &duration);
    if (parts > 0) {
      const bool fine = unit.length < absl::Seconds(1);
      if (count > 0 && !fine) text += fmt::format("{}{}", count, unit.name);
      break;
    }
    if (count == 0) continue;
    text = fmt::format("{}{}", count, unit.name);
    ++parts;
  }
  return text.empty() ? "0s" : text;
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

StatusOr<absl::Time> ParseTime(std::string_view text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, AbslView(text), &time, &error)) {
    return InvalidArgument("\"{}\" is not a time; write 2026-11-23T10:00:00Z", text);
  }
  return time;
}

std::string HexEncode(std::string_view bytes) { return absl::BytesToHexString(AbslView(bytes)); }

StatusOr<std::string> HexDecode(std::string_view text) {
  std::string bytes;
  if (text.size() % 2 != 0) return InvalidArgument("hex text has an odd number of digits");
  for (const char c : text) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return InvalidArgument("hex text holds a character that is not a hex digit");
    }
  }
  return absl::HexStringToBytes(AbslView(text));
}

std::string Base64UrlEncode(std::string_view bytes) {
  std::string text;
  absl::WebSafeBase64Escape(AbslView(bytes), &text);
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

StatusOr<std::string> Base64UrlDecode(std::string_view text) {
  std::string bytes;
  for (const char c : text) {
    const bool good = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    if (!good) return InvalidArgument("text holds a character that is not base64url");
  }
  if (!absl::WebSafeBase64Unescape(AbslView(text), &bytes)) {
    return InvalidArgument("text is not base64url");
  }
  return bytes;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

uint64_t LeadingNumber(std::string_view text) {
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string_view Truncate(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

std::string OneLine(std::string_view text) { return Clean(text, ""); }
std::string CleanText(std::string_view text) { return Clean(text, "\n\t"); }

StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto wrong = [&] { return InvalidArgument("\"{}\" is not HOST:PORT", text); };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  uint32_t port = 0;
  const auto [end, error] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || error != std::errc() || end != port_text.data() + port_text.size() ||
      port > 65535) {
    return wrong();
  }
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return wrong();
  }
  return HostPort{std::string(host), static_cast<uint16_t>(port)};
}

std::string FormatHostPort(const HostPort& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", address.host, address.port)
            : fmt::format("{}:{}", address.host, address.port);
}

bool IsPlainYaml(std::string_view text) {
  static const RE2& plain = *new RE2(
      "[A-Za-z0-9/][A-Za-z0-9_./@+-]*(://[A-Za-z0-9_./@+=&?-]+)?|"
      "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z");
  // Booleans, null and numbers of any base.
  static const RE2& special = *new RE2(
      "(?i)true|false|yes|no|on|off|y|n|null|nan|inf|[-+]?(0[xob])?[0-9a-f._]*[0-9][0-9a-f._]*|"
      "[-+]?[0-9][0-9._]*(e[-+]?[0-9]*)?");
  const re2::StringPiece piece(text.data(), text.size());
  return RE2::FullMatch(piece, plain) && !RE2::FullMatch(piece, special);
}

}  // namespace muster
