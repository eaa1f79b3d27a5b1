// A store that was failed over or restored: what was acknowledged since may be missing, and nothing
// that it gave out is given out again.
#include "control-plane/store/recovery.h"

#include "control-plane/decide/leadership.h"
#include "control-plane/store/columns.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using Code = absl::StatusCode;

class Recovery : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    Enrol("web-1");
    before_ = OpenSession("web-1");
    Store(Batch("web-1", before_.epoch, 1));
    epoch_ = store_->database().StoreEpoch().value_or("");
    store_.reset();
    GetParam().copy(folder_);
    Use(GetParam().again(folder_));
    EXPECT_EQ(store_->database().StoreEpoch().value_or(""), epoch_);
  }

  void Use(StatusOr<std::unique_ptr<control::Store>> opened) {
    ASSERT_TRUE(opened.ok()) << Text(opened.status());
    store_ = *std::move(opened);
  }
  // From here on the copy is the store.
  void FailOver() {
    store_.reset();
    Use(GetParam().restored(folder_));
  }

  Status Try(const BatchCommit& batch) {
    const auto outcome = store_->history().Commit({batch}, now_);
    return outcome.ok() ? outcome->at(0) : outcome.status();
  }
  void Store(const BatchCommit& batch) {
    const Status stored = Try(batch);
    EXPECT_TRUE(stored.ok()) << Text(stored);
  }
  BatchCommit WithTransition(BatchCommit batch) const {
    batch.states = {State(batch.agent, 1, v1::CHECK_STATUS_CRITICAL)};
    batch.transitions = {Transition(batch.agent, 1, v1::CHECK_STATUS_CRITICAL)};
    return batch;
  }

  uint32_t Apply(const std::string& name) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Check");
    document.mutable_metadata()->set_name(name);
    document.mutable_check()->mutable_probe()->mutable_http()->set_url("http://h/");
    const auto applied = store_->specs().Apply({document}, Note());
    EXPECT_TRUE(applied.ok()) << Text(applied.status());
    return store_->specs().CheckId(name).value_or(0);
  }

  std::vector<uint64_t> FirstSequences() {
    std::vector<uint64_t> first;
    EXPECT_TRUE(store_->history()
                    .ReadSegments("web-1", absl::UnixEpoch(), absl::InfiniteFuture(),
                                  [&](const Segment& segment) {
                                    first.push_back(segment.first_sequence);
                                    return true;
                                  })
                    .ok());
    return first;
  }

  OpenedSession before_;
  std::string epoch_;
};
INSTANTIATE_TEST_SUITE_P(On, Recovery, ::testing::ValuesIn(LastingBackends()), NameOf);

TEST_P(Recovery, BeginsANewEpochOnceAndTheAuditSaysSo) {
  FailOver();
  const std::string epoch = store_->database().StoreEpoch().value_or("");
  EXPECT_NE(epoch, epoch_);
  store_.reset();
  Use(GetParam().restored(folder_));
  EXPECT_EQ(store_->database().StoreEpoch().value_or(""), epoch);
  const auto entries = store_->audit().List(0, 100);
  ASSERT_TRUE(entries.ok());
  std::vector<AuditNote> recovered;
  for (const AuditRow& row : *entries) {
    if (row.note.action == "store.recovered") recovered.push_back(row.note);
  }
  ASSERT_EQ(recovered.size(), 1U);
  EXPECT_EQ(recovered[0].subject, epoch);
  EXPECT_THAT(recovered[0].detail, ::testing::HasSubstr(epoch_));
  EXPECT_TRUE(store_->audit().Verify().ok());
}

TEST_P(Recovery, NoSessionOfTheOldEpochWrites) {
  const OpenedSession lost = OpenSession("web-1");
  FailOver();
  EXPECT_EQ(CodeOf(Try(Batch("web-1", lost.epoch, 6))), Code::kAborted);
  EXPECT_EQ(CodeOf(Try(Batch("web-1", before_.epoch, 6))), Code::kAborted);
  EXPECT_GT(OpenSession("web-1").epoch, lost.epoch);
}

TEST_P(Recovery, ALogGoesOnFromTheCursorThatIsHereAndEachResultIsThereOnce) {
  Store(Batch("web-1", before_.epoch, 6));
  FailOver();
  const OpenedSession opened = OpenSession("web-1");
  EXPECT_EQ(opened.committed_sequence, 5U);
  Store(Batch("web-1", opened.epoch, 6));
  EXPECT_EQ(CodeOf(Try(Batch("web-1", opened.epoch, 6))), Code::kAborted);
  EXPECT_EQ(FirstSequences(), (std::vector<uint64_t>{1, 6}));
}

TEST_P(Recovery, ALogThatIsNotHereBeginsAnew) {
  const OpenedSession other = OpenSession("web-1", "log-2");
  BatchCommit batch = Batch("web-1", other.epoch, 1);
  batch.log_epoch = "log-2";
  Store(batch);
  FailOver();
  EXPECT_EQ(OpenSession("web-1", "log-2").committed_sequence, 0U);
}

TEST_P(Recovery, NumbersThatWereGivenOutAndLostAreNotGivenOutAgain) {
  const uint32_t lost_check = Apply("lost");
  Store(WithTransition(Batch("web-1", before_.epoch, 6)));
  const auto lost = store_->history().TransitionsAfter(0, 10);
  const uint64_t lost_revision = store_->history().StateRevision().value_or(0);
  const uint64_t lost_specs = store_->specs().Revision().value_or(0);
  ASSERT_TRUE(lost.ok() && lost->size() == 1);
  FailOver();
  EXPECT_GT(Apply("another"), lost_check);
  EXPECT_GT(Apply("lost"), lost_check);
  EXPECT_GT(store_->specs().Revision().value_or(0), lost_specs);
  const OpenedSession opened = OpenSession("web-1");
  Store(WithTransition(Batch("web-1", opened.epoch, 6)));
  const auto again = store_->history().TransitionsAfter(0, 10);
  ASSERT_TRUE(again.ok() && again->size() == 1);
  EXPECT_GT((*again)[0].id, (*lost)[0].id);
  EXPECT_GT(store_->history().StateRevision().value_or(0), lost_revision);
}

TEST_P(Recovery, TheAlertLoopGoesOnWhereItWas) {
  const uint64_t cursor = store_->alerts().Cursor().value_or(99);
  FailOver();
  EXPECT_EQ(store_->alerts().Cursor().value_or(98), cursor);
}

TEST_P(Recovery, NoLeaderOfTheLostTimeWrites) {
  const auto take = [&](const ReplicaRow& self) {
    const auto beat = store_->cluster().Heartbeat(
        self, [](const LeaseFacts& facts) { return DecideLease(facts, {}); });
    EXPECT_TRUE(beat.ok()) << Text(beat.status());
    return store_->cluster().Lease()->epoch;
  };
  const auto lost = store_->cluster().Start({"r-1", {}, "1.0"});
  ASSERT_TRUE(lost.ok());
  const LeaderEpoch lost_term = take(*lost);
  FailOver();
  const auto next = store_->cluster().Start({"r-2", {}, "1.0"});
  ASSERT_TRUE(next.ok());
  EXPECT_GT(take(*next), lost_term);
  const Status late =
      store_->database().Write([&](sql::Transaction& t) { return CheckLeader(t, lost_term); });
  EXPECT_TRUE(IsFenced(late)) << Text(late);
}

TEST_P(Recovery, AReplicaThatBeganAnewInTheLostTimeGoesOn) {
  ASSERT_TRUE(store_->cluster().Start({"r-1", {}, "1.0"}).ok());
  store_.reset();
  GetParam().copy(folder_);
  Use(GetParam().again(folder_));
  const auto self = store_->cluster().Start({"r-1", {}, "1.0"});
  ASSERT_TRUE(self.ok());
  FailOver();
  const auto beat = store_->cluster().Heartbeat(
      *self, [](const LeaseFacts& facts) { return DecideLease(facts, {}); });
  ASSERT_TRUE(beat.ok()) << Text(beat.status());
  EXPECT_TRUE(beat->was_lost);
}

TEST_P(Recovery, AnAgentWhoseJoiningWasLostIsTakenInAgain) {
  Enrol("web-2");
  const OpenedSession lost = OpenSession("web-2");
  FailOver();
  BatchCommit batch = Batch("web-2", lost.epoch, 1);
  EXPECT_EQ(CodeOf(Try(batch)), Code::kAborted);
  const OpenedSession opened = OpenSession("web-2");
  EXPECT_GT(opened.epoch, lost.epoch);
  EXPECT_EQ(opened.committed_sequence, 0U);
  batch.session_epoch = opened.epoch;
  Store(batch);
  EXPECT_TRUE(store_->audit().Verify().ok());
}

TEST_P(Recovery, ACounterThatItWouldNotMoveGivesOutNothing) {
  const Status refused = store_->database().Write(
      [](sql::Transaction& t) { return NextValue(t, "new_counter").status(); });
  EXPECT_EQ(CodeOf(refused), Code::kInternal);
}

}  // namespace
}  // namespace muster::control
