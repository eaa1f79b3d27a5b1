#include "control-plane/decide/backup_retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kNow = *ParseTime("2026-11-28T12:00:00Z");

KeptBackup Backup(const std::string& id, absl::Duration age, bool verified = true) {
  return {.id = id, .taken_at = kNow - age, .system_identifier = "7", .verified = verified};
}

std::vector<std::string> Deleted(const RetentionFacts& facts) {
  std::vector<std::string> ids;
  for (const RetentionDecision& one : DecideRetention(facts))
    if (!one.keep) ids.push_back(one.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::string ReasonOf(const RetentionFacts& facts, const std::string& id) {
  for (const RetentionDecision& one : DecideRetention(facts))
    if (one.id == id) return one.reason;
  return "";
}

// One each day at noon: d0 is of today.
RetentionFacts Daily(int days) {
  RetentionFacts facts{.keep = {}, .backups = {}, .now = kNow};
  for (int i = 0; i < days; ++i)
    facts.backups.push_back(Backup(fmt::format("d{}", i), absl::Hours(24 * i)));
  return facts;
}

TEST(BackupRetention, KeepsEveryBackupWithoutRules) { EXPECT_THAT(Deleted(Daily(9)), IsEmpty()); }

TEST(BackupRetention, KeepsTheLast) {
  RetentionFacts facts = Daily(5);
  facts.keep.set_last(3);
  EXPECT_THAT(Deleted(facts), ElementsAre("d3", "d4"));
  EXPECT_EQ(ReasonOf(facts, "d2"), "one of the last 3");
  EXPECT_EQ(ReasonOf(facts, "d3"), "no rule names it");
}

TEST(BackupRetention, KeepsWhatAKeptOneNeedsAndWhatThatNeeds) {
  RetentionFacts facts = Daily(6);
  facts.keep.set_last(1);
  facts.backups[0].prior_id = "d2";
  facts.backups[2].prior_id = "d4";
  EXPECT_THAT(Deleted(facts), ElementsAre("d1", "d3", "d5"));
  EXPECT_EQ(ReasonOf(facts, "d2"), "needed by d0");
  EXPECT_EQ(ReasonOf(facts, "d4"), "needed by d0");
}

TEST(BackupRetention, RemovesAChainThatNobodyNeeds) {
  RetentionFacts facts = Daily(4);
  facts.keep.set_last(1);
  facts.backups[1].prior_id = "d2";
  facts.backups[2].prior_id = "gone";
  EXPECT_THAT(Deleted(facts), ElementsAre("d1", "d2", "d3"));
}

TEST(BackupRetention, NeverTakesAwayWhatAKeptOneNeeds) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const auto random = SeededRandom(seed);
    RetentionFacts facts = Daily(static_cast<int>(1 + random->Below(uint64_t{30})));
    facts.keep.set_last(static_cast<uint32_t>(1 + random->Below(uint64_t{5})));
    for (size_t i = 0; i + 1 < facts.backups.size(); ++i) {
      if (random->Below(uint64_t{3}) == 0) continue;
      const size_t older = i + 1 + random->Below(uint64_t{facts.backups.size() - i - 1});
      facts.backups[i].prior_id = facts.backups[older].id;
    }
    const std::vector<std::string> deleted = Deleted(facts);
    for (const KeptBackup& backup : facts.backups) {
      if (std::binary_search(deleted.begin(), deleted.end(), backup.id)) continue;
      ASSERT_FALSE(std::binary_search(deleted.begin(), deleted.end(), backup.prior_id))
          << "seed " << seed;
    }
  }
}

TEST(BackupRetention, KeepsTheNewestOfEachPeriodThatHasOne) {
  RetentionFacts facts = Daily(40);
  facts.backups.push_back(Backup("again", absl::Hours(3)));
  facts.keep.set_daily(2);
  facts.keep.set_weekly(2);
  facts.keep.set_monthly(2);
  // 28 November is a Saturday: the weeks before end on Sundays, the month before on d28.
  std::map<std::string, bool> kept;
  for (const RetentionDecision& one : DecideRetention(facts)) kept[one.id] = one.keep;
  for (const char* id : {"d0", "d1", "d6", "d28"}) EXPECT_TRUE(kept[id]) << id;
  EXPECT_EQ(std::count_if(kept.begin(), kept.end(), [](const auto& one) { return one.second; }), 4);
  EXPECT_FALSE(kept["again"]);
  EXPECT_EQ(ReasonOf(facts, "d28"), "the newest of its month");
}

TEST(BackupRetention, KeepsTheLastVerifiedBackupForEver) {
  RetentionFacts facts = Daily(1);
  facts.backups[0].taken_at = kNow - absl::Hours(24 * 4000);
  facts.keep.set_last(1);
  for (int i = 0; i < 20; ++i) {
    facts.backups.push_back(Backup(fmt::format("bad{}", i), absl::Hours(24 * i), false));
  }
  EXPECT_THAT(Deleted(facts), IsEmpty());
}

TEST(BackupRetention, RemovesNothingAfterAFailure) {
  RetentionFacts facts = Daily(9);
  facts.keep.set_last(1);
  facts.newest_run_failed = true;
  EXPECT_THAT(Deleted(facts), IsEmpty());
  EXPECT_THAT(ReasonOf(facts, "d8"), HasSubstr("the newest run failed"));
}

TEST(BackupRetention, LeavesBackupsOfAnotherServerToPeople) {
  RetentionFacts facts = Daily(4);
  facts.keep.set_last(1);
  facts.backups[2].system_identifier = facts.backups[3].system_identifier = "6";
  EXPECT_THAT(Deleted(facts), ElementsAre("d1"));
  EXPECT_THAT(ReasonOf(facts, "d3"), HasSubstr("of another server"));
}

TEST(BackupRetention, LeavesBackupsInAnotherRepositoryToPeople) {
  RetentionFacts facts = Daily(4);
  facts.keep.set_last(1);
  facts.backups[1].repository_id = facts.backups[3].repository_id = "old";
  EXPECT_THAT(Deleted(facts), ElementsAre("d2"));
  EXPECT_THAT(ReasonOf(facts, "d3"), HasSubstr("in another repository"));
}

TEST(BackupRetention, CountsOnlyVerifiedBackups) {
  RetentionFacts facts = Daily(6);
  facts.keep.set_last(2);
  facts.backups[1].has_problem = true;
  facts.backups[1].verified = facts.backups[2].verified = false;
  EXPECT_THAT(Deleted(facts), ElementsAre("d1", "d2", "d4", "d5"));
  EXPECT_THAT(ReasonOf(facts, "d1"), HasSubstr("not to be relied upon"));
}

TEST(BackupRetention, KeepsWhatIsHeldOrYoung) {
  RetentionFacts facts = Daily(6);
  facts.keep.set_last(1);
  *facts.keep.mutable_minimum_age() = wire::ToProto(absl::Hours(49));
  facts.backups[4].held_because = "an audit";
  EXPECT_THAT(Deleted(facts), ElementsAre("d3", "d5"));
  EXPECT_EQ(ReasonOf(facts, "d4"), "held: an audit");
}

RetentionFacts Draw(Random& random) {
  RetentionFacts facts{.keep = {}, .backups = {}, .now = kNow};
  facts.keep.set_last(static_cast<uint32_t>(random.Below(uint64_t{4})));
  facts.keep.set_daily(static_cast<uint32_t>(random.Below(uint64_t{4})));
  facts.keep.set_weekly(static_cast<uint32_t>(random.Below(uint64_t{3})));
  facts.keep.set_yearly(static_cast<uint32_t>(random.Below(uint64_t{3})));
  facts.keep.set_verified(1 + static_cast<uint32_t>(random.Below(uint64_t{4})));
  *facts.keep.mutable_minimum_age() = wire::ToProto(random.Below(absl::Hours(100)));
  facts.newest_run_failed = random.Below(uint64_t{8}) == 0;
  const uint64_t many = random.Below(uint64_t{30});
  for (uint64_t i = 0; i < many; ++i) {
    KeptBackup backup = Backup(fmt::format("b{}", i), random.Below(absl::Hours(9000)),
                               random.Below(uint64_t{2}) == 0);
    backup.has_problem = !backup.verified && random.Below(uint64_t{3}) == 0;
    if (random.Below(uint64_t{6}) == 0) backup.system_identifier = "8";
    if (random.Below(uint64_t{9}) == 0) backup.held_because = "held";
    facts.backups.push_back(std::move(backup));
  }
  return facts;
}

TEST(BackupRetention, NeverGoesBelowTheVerifiedOnesNorTouchesWhatIsNewer) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    const auto random = SeededRandom(seed);
    const RetentionFacts facts = Draw(*random);
    const auto decisions = DecideRetention(facts);
    ASSERT_EQ(decisions.size(), facts.backups.size()) << "seed " << seed;
    std::map<std::string, bool> keep;
    for (const RetentionDecision& one : decisions) {
      keep[one.id] = one.keep;
      ASSERT_FALSE(one.reason.empty()) << "seed " << seed;
    }
    std::map<std::string, uint32_t> there;
    std::map<std::string, uint32_t> left;
    const KeptBackup* newest = nullptr;
    for (const KeptBackup& one : facts.backups) {
      if (!one.verified) continue;
      ++there[one.system_identifier];
      if (keep[one.id]) ++left[one.system_identifier];
      if (newest == nullptr || one.taken_at > newest->taken_at) newest = &one;
    }
    for (const auto& [server, count] : there)
      ASSERT_GE(left[server], std::min(count, facts.keep.verified())) << "seed " << seed;
    for (const KeptBackup& one : facts.backups) {
      if (keep[one.id]) continue;
      ASSERT_FALSE(facts.newest_run_failed) << "seed " << seed;
      ASSERT_NE(newest, nullptr) << "seed " << seed;
      ASSERT_LT(one.taken_at, newest->taken_at) << "seed " << seed;
      ASSERT_EQ(one.system_identifier, newest->system_identifier) << "seed " << seed;
      ASSERT_TRUE(one.held_because.empty()) << "seed " << seed;
      ASSERT_GE(kNow - one.taken_at, wire::FromProto(facts.keep.minimum_age())) << "seed " << seed;
    }
  }
}

// What is removed in two steps is what is removed at once.
TEST(BackupRetention, DecidesTheSameOfWhatItHasLeft) {
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    const auto random = SeededRandom(seed);
    RetentionFacts facts = Draw(*random);
    const std::vector<std::string> gone = Deleted(facts);
    std::erase_if(facts.backups, [&](const KeptBackup& one) {
      return std::find(gone.begin(), gone.end(), one.id) != gone.end();
    });
    ASSERT_THAT(Deleted(facts), IsEmpty()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace muster::control
