#include "agent/jobs/run_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lib/base/file.h"
#include "lib/testing/servers.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

using State = RunJournal::State;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::RunEvent EndOf(const AttemptKey& key, absl::Time at = kNow, const std::string& reason = "x") {
  v1::RunEvent event;
  event.set_run_id(key.run_id);
  event.set_fence(key.fence);
  *event.mutable_at() = wire::ToProto(at);
  event.mutable_ended()->set_reason(reason);
  return event;
}

class Journal : public ::testing::Test {
 protected:
  Journal() { Reopen(); }
  // As after a kill: nothing is said to the old one.
  void Reopen() {
    journal_.reset();
    StatusOr<std::unique_ptr<RunJournal>> journal = RunJournal::Open(path());
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);
  }
  std::string path() const { return folder_.File("runs.db"); }
  void Tell(const AttemptKey& key, absl::Time at = kNow) {
    ASSERT_TRUE(journal_->End(EndOf(key, at), {"epoch", 1}).ok());
    ASSERT_TRUE(journal_->Told(key, {"epoch", 2}).ok());
  }

  testing::TempFolder folder_;
  std::unique_ptr<RunJournal> journal_;
};

TEST_F(Journal, BeginsAnAttemptOnceAndNeverAnOlderOne) {
  ASSERT_TRUE(journal_->Begin({"a", 5}, kNow).ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(absl::IsFailedPrecondition(journal_->Begin({"a", 5}, kNow)));
    EXPECT_TRUE(absl::IsFailedPrecondition(journal_->Begin({"a", 4}, kNow)));
    EXPECT_EQ(journal_->Look({"a", 5}), State::kBegun);
    EXPECT_EQ(journal_->Look({"a", 4}), State::kOlder);
    EXPECT_EQ(journal_->Look({"a", 6}), State::kNew);
    EXPECT_EQ(journal_->Look({"b", 1}), State::kNew);
    EXPECT_EQ(journal_->Look({"", 1}), State::kNew);
    Reopen();
  }
  EXPECT_TRUE(journal_->Begin({"a", 6}, kNow).ok());
}

TEST_F(Journal, KnowsWhatIsOpenAfterEachStep) {
  const AttemptKey key{"a", 1};
  ASSERT_TRUE(journal_->Begin(key, kNow).ok());
  Reopen();
  ASSERT_EQ(journal_->left_open().size(), 1u);
  EXPECT_FALSE(journal_->left_open()[0].end);
  EXPECT_FALSE(journal_->left_open()[0].process);
  EXPECT_EQ(journal_->left_open()[0].at, kNow);

  ASSERT_TRUE(journal_->NoteProcess(key, {123, 456, "boot"}).ok());
  ASSERT_TRUE(journal_->NoteStep(key, "dumping").ok());
  Reopen();
  ASSERT_EQ(journal_->left_open().size(), 1u);
  EXPECT_EQ(journal_->left_open()[0].process->pid, 123);
  EXPECT_EQ(journal_->left_open()[0].process->started, 456u);
  EXPECT_EQ(journal_->left_open()[0].process->boot_id, "boot");
  EXPECT_EQ(journal_->left_open()[0].step, "dumping");

  ASSERT_TRUE(journal_->End(EndOf(key), {"epoch", 7}).ok());
  Reopen();
  ASSERT_EQ(journal_->left_open().size(), 1u);
  EXPECT_EQ(journal_->left_open()[0].end->ended().reason(), "x");
  EXPECT_EQ(journal_->left_open()[0].log.epoch, "epoch");
  EXPECT_EQ(journal_->left_open()[0].log.written, 7u);

  ASSERT_TRUE(journal_->Told(key, {"epoch", 8}).ok());
  Reopen();
  EXPECT_TRUE(journal_->left_open().empty());
  EXPECT_EQ(journal_->Look(key), State::kTold);
  EXPECT_EQ(journal_->Read(key)->log.written, 8u);
}

TEST_F(Journal, TheFirstEndCounts) {
  const AttemptKey key{"a", 1};
  ASSERT_TRUE(journal_->End(EndOf(key, kNow, "first"), {"epoch", 1}).ok()) << "it never began";
  EXPECT_TRUE(absl::IsFailedPrecondition(journal_->Begin(key, kNow)));
  ASSERT_TRUE(journal_->End(EndOf(key, kNow, "second"), {"epoch", 2}).ok());
  EXPECT_EQ(journal_->Read(key)->end->ended().reason(), "first");
  Reopen();
  ASSERT_TRUE(journal_->End(EndOf(key, kNow, "third"), {"epoch", 3}).ok());
  EXPECT_EQ(journal_->Read(key)->end->ended().reason(), "first");
}

TEST_F(Journal, SaysWhetherAnEarlierAttemptIsOpen) {
  ASSERT_TRUE(journal_->Begin({"a", 1}, kNow).ok());
  EXPECT_TRUE(journal_->EarlierIsOpen({"a", 2}));
  EXPECT_FALSE(journal_->EarlierIsOpen({"a", 1}));
  EXPECT_FALSE(journal_->EarlierIsOpen({"b", 2}));
  ASSERT_TRUE(journal_->End(EndOf({"a", 1}), {"epoch", 1}).ok());
  EXPECT_FALSE(journal_->EarlierIsOpen({"a", 2}));
}

TEST_F(Journal, ForgetsWhatWasToldAWeekAgoAndIsNotAssigned) {
  const absl::Time long_ago = kNow - absl::Hours(24 * 8);
  Tell({"old", 1}, long_ago);
  Tell({"assigned", 1}, long_ago);
  Tell({"young", 1}, kNow - absl::Hours(24 * 6));
  ASSERT_TRUE(journal_->Begin({"begun", 1}, long_ago).ok());
  ASSERT_TRUE(journal_->End(EndOf({"ended", 1}, long_ago), {"epoch", 1}).ok());
  ASSERT_TRUE(journal_->Trim({"assigned"}, kNow).ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(journal_->Look({"old", 1}), State::kNew);
    EXPECT_EQ(journal_->Look({"assigned", 1}), State::kTold);
    EXPECT_EQ(journal_->Look({"young", 1}), State::kTold);
    EXPECT_EQ(journal_->Look({"begun", 1}), State::kBegun);
    EXPECT_EQ(journal_->Look({"ended", 1}), State::kEnded);
    Reopen();
  }
}

TEST_F(Journal, ForgetsTheOldestBeyondItsBoundButNothingThatIsOpenOrAssigned) {
  ASSERT_TRUE(journal_->Begin({"begun", 1}, kNow - absl::Hours(9)).ok());
  Tell({"assigned", 1}, kNow - absl::Hours(8));
  Tell({"older", 1}, kNow - absl::Hours(2));
  Tell({"newer", 1}, kNow - absl::Hours(1));
  ASSERT_TRUE(journal_->Trim({"assigned"}, kNow, 3).ok());
  EXPECT_EQ(journal_->Look({"older", 1}), State::kNew);
  EXPECT_EQ(journal_->Look({"newer", 1}), State::kTold);
  ASSERT_TRUE(journal_->Trim({"assigned"}, kNow, 0).ok());
  EXPECT_EQ(journal_->Look({"newer", 1}), State::kNew);
  EXPECT_EQ(journal_->Look({"assigned", 1}), State::kTold);
  EXPECT_EQ(journal_->Look({"begun", 1}), State::kBegun);
}

TEST_F(Journal, ADamagedFileIsMovedAsideAndTheLossIsRemembered) {
  EXPECT_FALSE(journal_->has_lost_memory());
  ASSERT_TRUE(journal_->Begin({"a", 1}, kNow).ok());
  journal_.reset();
  for (const char* suffix : {"-wal", "-shm"}) ::unlink((path() + suffix).c_str());
  std::ofstream(path()) << std::string(8192, 'x');
  Reopen();
  EXPECT_TRUE(FileExists(path() + ".damaged"));
  EXPECT_TRUE(journal_->has_lost_memory());
  EXPECT_EQ(journal_->Look({"a", 1}), State::kNew);
  Reopen();
  EXPECT_TRUE(journal_->has_lost_memory()) << "until somebody has seen to it";
  ASSERT_TRUE(journal_->Remember().ok());
  Reopen();
  EXPECT_FALSE(journal_->has_lost_memory());
}

}  // namespace
}  // namespace muster::agent
