// Group commit on each database: one batch that no store would take keeps no other waiting.
#include "control-plane/ingest/committer.h"

#include "lib/base/clock.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

// What became of each batch, by agent.
class Outcomes {
 public:
  Committer::Done For(const std::string& agent) {
    return [this, agent](Status status) {
      absl::MutexLock lock(&mutex_);
      of_[agent] = std::move(status);
    };
  }
  // Waits until so many were told.
  std::map<std::string, Status> Await(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto told = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return of_.size() >= count; };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&told), absl::Seconds(30)));
    return of_;
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, Status> of_ ABSL_GUARDED_BY(mutex_);
};

class CommitterConformance : public StoreTest {};
MUSTER_ON_EVERY_BACKEND(CommitterConformance);

TEST_P(CommitterConformance, ABatchThatCannotBeStoredGoesBackAlone) {
  std::map<std::string, BatchCommit> batches;
  for (const std::string agent : {"web-1", "web-2", "web-3"}) {
    Enrol(agent);
    const uint64_t epoch = OpenSession(agent).epoch;
    ASSERT_TRUE(store_->history().Commit({Batch(agent, epoch, 1)}, now_)->front().ok());
    batches[agent] = Batch(agent, epoch, 6);
  }
  // Its transition's number is taken.
  batches["web-2"].transitions = {Transition("web-2", 1, v1::CHECK_STATUS_CRITICAL)};
  ASSERT_TRUE(store_->database()
                  .Write([](sql::Transaction& t) {
                    return t
                        .Execute(
                            "INSERT INTO transitions (id, agent, check_id, from_status, "
                            "to_status, hard, at, recorded_at, summary, reason) "
                            "VALUES (1, 'x', 1, 1, 1, 1, 1, 1, '', '')")
                        .status();
                  })
                  .ok());
  Outcomes outcomes;
  Committer committer(store_->history(), SystemClock(), {}, [] {});
  for (auto& [agent, batch] : batches) {
    ASSERT_TRUE(committer.Submit(std::move(batch), outcomes.For(agent)).ok());
  }
  const std::map<std::string, Status> told = outcomes.Await(3);
  EXPECT_TRUE(told.at("web-1").ok()) << Text(told.at("web-1"));
  EXPECT_TRUE(told.at("web-3").ok()) << Text(told.at("web-3"));
  EXPECT_EQ(CodeOf(told.at("web-2")), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(committer.health().ok());
  EXPECT_EQ(committer.counts().refused, 1U);
  EXPECT_EQ(store_->sessions().Find("web-2").value()->committed_sequence, 5U);
  EXPECT_EQ(store_->sessions().Find("web-3").value()->committed_sequence, 10U);
}

}  // namespace
}  // namespace muster::control
