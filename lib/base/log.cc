#include "lib/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "lib/base/text.h"

namespace muster {
namespace {

std::string Quoted(std::string_view value) {
  std::string quoted = "\"";
  for (const char c : OneLine(value)) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (const char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7F) return true;
  }
  return false;
}

void Write(spdlog::level::level_enum level, std::string_view message, Fields fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (logger == nullptr || !logger->should_log(level)) return;
  std::string line = "msg=" + Quoted(message);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    line += NeedsQuotes(field.value) ? Quoted(field.value) : field.value;
  }
  logger->log(level, "{}", line);
}

}  // namespace

Field::Field(std::string_view k, absl::Duration v) : key(k), value(DurationText(v)) {}

void StartLog(std::string_view program, LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>(std::string(program),
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("time=%Y-%m-%dT%H:%M:%S.%eZ level=%l program=%n %v",
                      spdlog::pattern_time_type::utc);
  switch (level) {
    case LogLevel::kDebug: logger->set_level(spdlog::level::debug); break;
    case LogLevel::kInfo: logger->set_level(spdlog::level::info); break;
    case LogLevel::kWarning: logger->set_level(spdlog::level::warn); break;
    case LogLevel::kError: logger->set_level(spdlog::level::err); break;
  }
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

StatusOr<LogLevel> ParseLogLevel(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return InvalidArgument("\"{}\" is not a log level; write debug, info, warning or error", text);
}

void LogDebug(std::string_view message, Fields fields) {
  Write(spdlog::level::debug, message, fields);
}
void LogInfo(std::string_view message, Fields fields) {
  Write(spdlog::level::info, message, fields);
}
void LogWarning(std::string_view message, Fields fields) {
  Write(spdlog::level::warn, message, fields);
}
void LogError(std::string_view message, Fields fields) {
  Write(spdlog::level::err, message, fields);
}

}  // namespace muster
