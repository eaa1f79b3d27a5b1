#include "control-plane/decide/backup_retention.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include <absl/time/civil_time.h>
#include <fmt/format.h>

#include "lib/base/text.h"
#include "lib/wire/backup_ids.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

bool HasRules(const v1::BackupKeep& keep) {
  return keep.last() + uint64_t{keep.hourly()} + keep.daily() + keep.weekly() + keep.monthly() +
             keep.yearly() >
         0;
}

// The hour, day, week … that a moment is in, as one number.
using Period = std::function<int64_t(absl::Time)>;

template <typename Civil>
int64_t PeriodOf(absl::Time time) {
  return absl::ToInt64Hours(
      absl::FromCivil(Civil(absl::ToCivilSecond(time, absl::UTCTimeZone())), absl::UTCTimeZone()) -
      absl::UnixEpoch());
}

int64_t WeekOf(absl::Time time) {
  const absl::CivilDay day(absl::ToCivilSecond(time, absl::UTCTimeZone()));
  const absl::CivilDay monday = absl::PrevWeekday(day + 1, absl::Weekday::monday);
  return PeriodOf<absl::CivilDay>(absl::FromCivil(monday, absl::UTCTimeZone()));
}

class Retention {
 public:
  explicit Retention(const RetentionFacts& facts) : facts_(facts), backups_(facts.backups) {
    std::sort(backups_.begin(), backups_.end(), [](const KeptBackup& a, const KeptBackup& b) {
      return a.taken_at != b.taken_at ? a.taken_at > b.taken_at : a.id < b.id;
    });
    for (const KeptBackup& backup : backups_)
      if (backup.verified) verified_.push_back(&backup);
    // Of the server that is backed up now, in the repository of now; others are for people.
    if (!verified_.empty()) {
      std::erase_if(verified_, [newest = verified_.front()](const auto* one) {
        return one->system_identifier != newest->system_identifier ||
               one->repository_id != newest->repository_id;
      });
    }
    NameByRules();
  }

  std::vector<RetentionDecision> Decide() const {
    std::vector<RetentionDecision> decisions;
    for (const KeptBackup& backup : backups_) {
      std::optional<std::string> reason = WhyKept(backup);
      const bool keep = reason.has_value();
      decisions.push_back({backup.id, keep, keep ? *std::move(reason) : WhyDeleted(backup)});
    }
    KeepChains(decisions);
    return decisions;
  }

 private:
  void NameByRules() {
    const v1::BackupKeep& keep = facts_.keep;
    for (size_t i = 0; i < verified_.size() && i < keep.last(); ++i)
      Name(*verified_[i], fmt::format("one of the last {}", keep.last()));
    NameByPeriod(keep.hourly(), "hour", PeriodOf<absl::CivilHour>);
    NameByPeriod(keep.daily(), "day", PeriodOf<absl::CivilDay>);
    NameByPeriod(keep.weekly(), "week", WeekOf);
    NameByPeriod(keep.monthly(), "month", PeriodOf<absl::CivilMonth>);
    NameByPeriod(keep.yearly(), "year", PeriodOf<absl::CivilYear>);
  }

  // The newest of each of so many periods that have one.
  void NameByPeriod(uint32_t most, const char* name, const Period& period) {
    std::optional<int64_t> last;
    uint32_t named = 0;
    for (const KeptBackup* backup : verified_) {
      if (named == most) return;
      const int64_t here = period(backup->taken_at);
      if (last == here) continue;
      last = here;
      ++named;
      Name(*backup, fmt::format("the newest of its {}", name));
    }
  }

  // One that builds upon others is worth nothing without them. Decisions are in the order of the
  // backups.
  void KeepChains(std::vector<RetentionDecision>& decisions) const {
    std::map<std::string_view, size_t> index;
    for (size_t i = 0; i < backups_.size(); ++i) index[backups_[i].id] = i;
    for (size_t i = 0; i < backups_.size(); ++i) {
      if (!decisions[i].keep) continue;
      auto prior = index.find(backups_[i].prior_id);
      while (prior != index.end() && !decisions[prior->second].keep) {
        RetentionDecision& needed = decisions[prior->second];
        needed = {needed.id, true, "needed by " + backups_[i].id};
        prior = index.find(backups_[prior->second].prior_id);
      }
    }
  }

  void Name(const KeptBackup& backup, std::string why) { named_.emplace(&backup, std::move(why)); }

  std::optional<std::string> WhyKept(const KeptBackup& backup) const {
    if (!backup.held_because.empty()) return "held: " + backup.held_because;
    if (facts_.newest_run_failed)
      return "the newest run failed: nothing is removed after a failure";
    if (!HasRules(facts_.keep)) return "no rule of keep is set";
    if (verified_.empty()) return "none of the backups is verified";
    const KeptBackup& newest = *verified_.front();
    if (backup.system_identifier != newest.system_identifier) {
      return "of another server than the newest verified one: remove it by hand";
    }
    if (backup.repository_id != newest.repository_id) {
      return "in another repository than the newest verified one: remove it by hand";
    }
    if (backup.taken_at >= newest.taken_at) return "as new as the newest verified one, or newer";
    const size_t least = std::max(1U, facts_.keep.verified());
    const auto rank = std::find(verified_.begin(), verified_.end(), &backup) - verified_.begin();
    if (static_cast<size_t>(rank) < std::min(least, verified_.size())) {
      return fmt::format("one of the {} newest verified ones", least);
    }
    const absl::Duration age = facts_.now - backup.taken_at;
    if (age < wire::FromProto(facts_.keep.minimum_age())) {
      return fmt::format("younger than {}",
                         DurationText(wire::FromProto(facts_.keep.minimum_age())));
    }
    const auto named = named_.find(&backup);
    return named == named_.end() ? std::nullopt : std::optional(named->second);
  }

  std::string WhyDeleted(const KeptBackup& backup) const {
    if (backup.verified) return "no rule names it";
    if (backup.has_problem) return "it is not to be relied upon, and a newer one is verified";
    return "it was never verified, and a newer one is";
  }

  const RetentionFacts& facts_;
  std::vector<KeptBackup> backups_;          // newest first
  std::vector<const KeptBackup*> verified_;  // of the newest one's server, newest first
  std::map<const KeptBackup*, std::string> named_;
};

}  // namespace

namespace {

std::string PriorOf(const v1::Backup& backup) {
  if (backup.prior_id().empty()) return "";
  return wire::BackupKey(backup.prior_id(), backup.repository_id());
}

}  // namespace

RetentionFacts RetentionOf(const v1::BackupKeep& keep, const std::vector<BackupRow>& backups,
                           v1::RunState newest_run, absl::Time now) {
  RetentionFacts facts{.keep = keep, .backups = {}, .now = now};
  facts.newest_run_failed =
      newest_run != v1::RUN_STATE_SUCCEEDED && newest_run != v1::RUN_STATE_UNSPECIFIED;
  for (const BackupRow& row : backups) {
    facts.backups.push_back({.id = row.id(),
                             .taken_at = wire::FromProto(row.backup.taken_at()),
                             .system_identifier = row.backup.system_identifier(),
                             .repository_id = row.backup.repository_id(),
                             .verified = IsVerified(row),
                             .has_problem = !row.backup.problem().empty(),
                             .held_because = row.held_because,
                             .prior_id = PriorOf(row.backup)});
  }
  return facts;
}

std::vector<RetentionDecision> DecideRetention(const RetentionFacts& facts) {
  return Retention(facts).Decide();
}

}  // namespace muster::control
