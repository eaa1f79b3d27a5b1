// Structured logs on stderr, one line a fact: time, level, message, then key=value pairs (logfmt).
//
//   LogInfo("agent connected", {{"agent", name}, {"epoch", epoch}});
//
// Any thread may call. Values are quoted where they must be. Secrets have no way in: Field takes
// text, numbers, durations and statuses only.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct Field {
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, const Status& v) : key(k), value(Text(v)) {}
  Field(std::string_view k, absl::Duration v);
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Field(std::string_view k, Number v) : key(k), value(fmt::format("{}", v)) {}

  std::string_view key;
  std::string value;
};

using Fields = std::initializer_list<Field>;

// `program` stands in every line. Lines below `level` are dropped. Call once, before threads start.
void StartLog(std::string_view program, LogLevel level);
// "debug", "info", "warning", "error".
StatusOr<LogLevel> ParseLogLevel(std::string_view text);

void LogDebug(std::string_view message, Fields fields = {});
void LogInfo(std::string_view message, Fields fields = {});
void LogWarning(std::string_view message, Fields fields = {});
void LogError(std::string_view message, Fields fields = {});

}  // namespace muster
