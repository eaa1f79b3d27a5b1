#include "agent/tasks/backup/wal_end.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::agent::backup {
namespace {

constexpr std::string_view kRecord = ", lsn: ";
constexpr std::string_view kDescription = ", desc: ";
constexpr std::string_view kZone = " UTC";
constexpr std::string_view kMoment = "recovery_target_time";

// What follows the word, up to the mark; empty if it is not there.
std::string_view Behind(std::string_view line, std::string_view word, std::string_view mark) {
  const size_t at = line.find(word);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = line.substr(at + word.size());
  return rest.substr(0, rest.find(mark));
}

// The first of "2026-11-29 13:42:27.123456 UTC" in the text.
std::optional<absl::Time> FirstTime(std::string_view text) {
  constexpr size_t kSize = sizeof("2026-11-29 13:42:27.123456") - 1;
  const size_t zone = text.find(kZone);
  if (zone == std::string_view::npos || zone < kSize) return std::nullopt;
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%d %H:%M:%E*S", std::string(text.substr(zone - kSize, kSize)),
                       absl::UTCTimeZone(), &time, &error)) {
    return std::nullopt;
  }
  return time;
}

}  // namespace

void WalEnd::Take(std::string_view bytes) {
  rest_ += bytes;
  size_t begin = 0;
  for (size_t end = 0; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    TakeLine(std::string_view(rest_).substr(begin, end - begin));
  }
  rest_.erase(0, begin);
}

void WalEnd::TakeLine(std::string_view line) {
  const std::string_view record = Behind(line, kRecord, ",");
  if (!line.starts_with("rmgr: ") || record.empty()) return;
  last_record_ = record;
  const std::string_view what = Behind(line, kDescription, ";");
  if (!line.starts_with("rmgr: Transaction ") ||
      (!what.starts_with("COMMIT") && !what.starts_with("ABORT"))) {
    return;
  }
  const std::optional<absl::Time> at = FirstTime(what);
  // Those of two transactions that end together may stand the other way round.
  if (at) last_end_ = std::max(last_end_.value_or(*at), *at);
}

std::optional<std::string> RecoverToRecord(std::string_view settings, std::string_view record) {
  std::string text;
  bool found = false;
  for (const std::string_view line : Split(settings, '\n')) {
    if (line.starts_with(kMoment)) {
      if (!found) text += fmt::format("recovery_target_lsn = '{}'\n", record);
      found = true;
    } else {
      text.append(line).append("\n");
    }
  }
  // The text ended a line already.
  if (settings.ends_with('\n')) text.pop_back();
  return found ? std::optional(text) : std::nullopt;
}

}  // namespace muster::agent::backup
