#include "lib/wire/backup_ids.h"

#include <algorithm>

namespace muster::wire {
namespace {

constexpr size_t kHexDigits = 64;
constexpr size_t kTimeDigits = 15;  // "20261128-020000"
constexpr size_t kMostStanza = 63;
constexpr size_t kMostSystem = 20;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool AreDigits(std::string_view text) { return std::all_of(text.begin(), text.end(), IsDigit); }

bool IsTimeOf(std::string_view text, std::string_view kinds) {
  return text.size() == kTimeDigits + 1 && AreDigits(text.substr(0, 8)) && text[8] == '-' &&
         AreDigits(text.substr(9, 6)) && kinds.find(text.back()) != std::string_view::npos;
}

bool IsStanza(std::string_view text) {
  return !text.empty() && text.size() <= kMostStanza &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                  c == '-' || c == '.';
         });
}

}  // namespace

bool IsHexId(std::string_view text) {
  return text.size() == kHexDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsBackupLabel(std::string_view text) {
  if (!IsTimeOf(text.substr(0, kTimeDigits + 1), "F")) return false;
  text.remove_prefix(kTimeDigits + 1);
  return text.empty() || (text[0] == '_' && IsTimeOf(text.substr(1), "DI"));
}

bool IsSnapshotId(std::string_view text) { return IsHexId(text) || IsBackupLabel(text); }

bool IsRepositoryId(std::string_view text) {
  if (IsHexId(text)) return true;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || !IsStanza(text.substr(0, colon))) return false;
  const std::string_view system = text.substr(colon + 1);
  return !system.empty() && system.size() <= kMostSystem && AreDigits(system);
}

std::string BackupKey(std::string_view snapshot_id, std::string_view repository_id) {
  std::string key(snapshot_id);
  if (IsBackupLabel(snapshot_id)) key.append("@").append(repository_id);
  return key;
}

bool IsBackupKey(std::string_view text) {
  if (IsHexId(text)) return true;
  const size_t at = text.find('@');
  return at != std::string_view::npos && IsBackupLabel(text.substr(0, at)) &&
         IsRepositoryId(text.substr(at + 1));
}

std::string_view SnapshotOf(std::string_view key) { return key.substr(0, key.find('@')); }

}  // namespace muster::wire
