#include "control-plane/ingest/committer.h"

#include <gtest/gtest.h>

#include <atomic>

#include "control-plane/store/store.h"
#include "lib/testing/servers.h"

namespace muster::control {
namespace {

using testing::Eventually;

// Batches of an agent that the store does not know: each is refused, in a commit like any other.
class CommitterTest : public ::testing::Test {
 protected:
  void Start(absl::Duration gather, size_t enough) {
    CommitterOptions options;
    options.gather = gather;
    options.enough = enough;
    committer_.emplace(store_->history(), SystemClock(), std::move(options), [] {});
  }
  void Submit(BatchCommit batch = {}) {
    batch.agent = "stranger";
    batch.first_sequence = batch.last_sequence = 1;
    ASSERT_TRUE(committer_->Submit(std::move(batch), [this](const Status&) { ++done_; }).ok());
  }
  bool Done(int batches) {
    return Eventually([&] { return done_ == batches; });
  }
  uint64_t commits() const { return committer_->counts().commits; }

  testing::TempFolder folder_;
  std::unique_ptr<Store> store_ = *Store::Open("sqlite:" + folder_.File("muster.db"));
  std::atomic<int> done_ = 0;
  std::optional<Committer> committer_;
};

TEST_F(CommitterTest, GathersWhatIsNoNewsUntilThereIsEnough) {
  Start(absl::Hours(1), 3);
  Submit();
  Submit();
  testing::Pause(absl::Milliseconds(100));
  EXPECT_EQ(done_, 0);
  Submit();
  EXPECT_TRUE(Done(3));
  EXPECT_EQ(commits(), 1U);
}

TEST_F(CommitterTest, WaitsForNoLongerThanItMay) {
  Start(absl::Milliseconds(20), 1000);
  Submit();
  EXPECT_TRUE(Done(1));
}

TEST_F(CommitterTest, NewsWaitForNobody) {
  Start(absl::Hours(1), 1000);
  Submit();
  BatchCommit transition;
  transition.transitions.emplace_back();
  Submit(std::move(transition));
  EXPECT_TRUE(Done(2)) << "with what was there before it";
  BatchCommit run;
  run.run_events.emplace_back();
  Submit(std::move(run));
  EXPECT_TRUE(Done(3));
  BatchCommit gap;
  gap.gaps.emplace_back();
  Submit(std::move(gap));
  EXPECT_TRUE(Done(4));
  Submit();
  testing::Pause(absl::Milliseconds(100));
  EXPECT_EQ(done_, 4) << "what came of news is no news of this one";
}

TEST_F(CommitterTest, EndsWhileItGathers) {
  Start(absl::Hours(1), 1000);
  Submit();
  committer_->Stop();
  EXPECT_EQ(done_, 0) << "the agent keeps it";
}

}  // namespace
}  // namespace muster::control
