#include "control-plane/decide/backup_health.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr size_t kUsualOf = 7;
constexpr size_t kFewestUsual = 3;
// Smaller differences say nothing.
constexpr uint64_t kSlack = 1 << 20;
constexpr size_t kShownDigits = 8;

uint64_t Usual(const std::vector<const BackupRow*>& backups) {
  std::vector<uint64_t> sizes;
  for (size_t i = 1; i < backups.size() && sizes.size() < kUsualOf; ++i) {
    if (IsVerified(*backups[i])) sizes.push_back(backups[i]->backup.source_bytes());
  }
  if (sizes.size() < kFewestUsual) return 0;
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  return *middle;
}

std::string Called(const std::string& id, absl::Time at) {
  return fmt::format("{} of {}", id.substr(0, kShownDigits), TimeText(at));
}

std::string MegabytesText(uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string TooOld(const BackupSummary& summary, absl::Duration within) {
  const std::string wanted =
      fmt::format("no verified backup is younger than {}: ", DurationText(within));
  if (summary.verified == 0) return wanted + "there is none";
  return wanted + fmt::format("the newest is of {}", TimeText(summary.verified_at));
}

bool IsUnusual(const BackupSummary& summary) {
  if (summary.usual_bytes == 0) return false;
  const uint64_t less = std::min(summary.source_bytes, summary.usual_bytes);
  const uint64_t more = std::max(summary.source_bytes, summary.usual_bytes);
  return more - less > kSlack && less < more / 2;
}

}  // namespace

BackupSummary SummaryOf(const std::vector<const BackupRow*>& backups) {
  BackupSummary summary;
  for (const BackupRow* row : backups) {
    const v1::Backup& backup = row->backup;
    const absl::Time at = wire::FromProto(backup.taken_at());
    ++summary.kept;
    if (IsVerified(*row)) {
      if (summary.verified++ == 0) summary.verified_at = at;
    }
    if (summary.restore_took == absl::ZeroDuration() && backup.has_restore_took()) {
      summary.restore_took = wire::FromProto(backup.restore_took());
    }
    if (summary.bad.empty() && !backup.problem().empty()) {
      summary.bad = row->id();
      summary.bad_at = at;
      summary.problem = backup.problem();
    }
  }
  if (backups.empty()) return summary;
  const v1::Backup& newest = backups.front()->backup;
  summary.newest = backups.front()->id();
  summary.newest_at = wire::FromProto(newest.taken_at());
  summary.source_bytes = newest.source_bytes();
  summary.stored_bytes = newest.stored_bytes();
  summary.usual_bytes = Usual(backups);
  return summary;
}

std::map<std::string, BackupSummary> Summaries(const std::vector<BackupRow>& backups) {
  std::map<std::string, std::vector<const BackupRow*>> of;
  for (const BackupRow& row : backups) of[row.job].push_back(&row);
  std::map<std::string, BackupSummary> summaries;
  for (const auto& [job, rows] : of) summaries[job] = SummaryOf(rows);
  return summaries;
}

BackupHealth JudgeBackups(const BackupFacts& facts, absl::Time now) {
  const BackupSummary& summary = facts.summary;
  if (facts.task.has_verified_within()) {
    const absl::Duration within = wire::FromProto(facts.task.verified_within());
    if (now > std::max(summary.verified_at, facts.since) + within) {
      return {v1::SEVERITY_CRITICAL, TooOld(summary, within)};
    }
  }
  if (!summary.bad.empty()) {
    return {summary.bad_at > summary.verified_at ? v1::SEVERITY_CRITICAL : v1::SEVERITY_WARNING,
            fmt::format("the backup {} must not be relied upon: {}",
                        Called(summary.bad, summary.bad_at), summary.problem)};
  }
  if (IsUnusual(summary)) {
    return {v1::SEVERITY_WARNING,
            fmt::format("the backup {} is of {}, and {} are usual",
                        Called(summary.newest, summary.newest_at),
                        MegabytesText(summary.source_bytes), MegabytesText(summary.usual_bytes))};
  }
  if (!facts.keep_problem.empty()) {
    return {v1::SEVERITY_WARNING,
            fmt::format("old backups could not be removed: {}", facts.keep_problem)};
  }
  return {};
}

}  // namespace muster::control
