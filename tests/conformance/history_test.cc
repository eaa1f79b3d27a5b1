// The commit of records: exactly once, in order, and all of a batch or nothing.
#include <algorithm>
#include <atomic>

#include "control-plane/store/observations.h"
#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class HistoryConformance : public StoreTest {
 protected:
  HistoryStore& history() { return store_->history(); }

  std::vector<absl::StatusCode> Commit(const std::vector<BatchCommit>& batches) {
    const auto outcome = history().Commit(batches, now_);
    EXPECT_TRUE(outcome.ok()) << Text(outcome.status());
    std::vector<absl::StatusCode> codes;
    if (!outcome.ok()) return codes;
    for (const Status& status : *outcome) codes.push_back(status.code());
    return codes;
  }

  // The first sequences of an agent's segments, as they are read.
  std::vector<uint64_t> Segments(const std::string& agent, absl::Time since = absl::UnixEpoch(),
                                 absl::Time until = absl::FromUnixSeconds(2'000'000'000)) {
    std::vector<uint64_t> firsts;
    const Status read = history().ReadSegments(agent, since, until, [&](const Segment& segment) {
      EXPECT_EQ(segment.agent, agent);
      EXPECT_EQ(segment.payload, "payload-" + std::to_string(segment.first_sequence));
      firsts.push_back(segment.first_sequence);
      return true;
    });
    EXPECT_TRUE(read.ok()) << Text(read);
    return firsts;
  }

  uint64_t Cursor(const std::string& agent) {
    return (*store_->sessions().Find(agent))->committed_sequence;
  }

  BatchCommit FullBatch(const std::string& agent, uint64_t epoch, uint64_t first) {
    BatchCommit batch = Batch(agent, epoch, first);
    batch.states = {State(agent, 1, v1::CHECK_STATUS_CRITICAL)};
    batch.transitions = {Transition(agent, 1, v1::CHECK_STATUS_CRITICAL)};
    v1::Gap gap;
    gap.set_first(first);
    gap.set_last(first);
    gap.set_reason(v1::Gap::REASON_SPOOL_FULL);
    batch.gaps = {gap};
    return batch;
  }

  // Nothing of any batch: no segment, state, transition or gap, and the cursor at 0.
  void ExpectNothingOf(const std::string& agent) {
    EXPECT_THAT(Segments(agent), IsEmpty());
    EXPECT_THAT(*history().StatesOf(agent), IsEmpty());
    EXPECT_THAT(*history().TransitionsAfter(0, 10), IsEmpty());
    EXPECT_THAT(*store_->sessions().Gaps(agent, 10), IsEmpty());
    EXPECT_EQ(Cursor(agent), 0U);
  }
  // Aborted if it was left out.
  Status Apply(const CheckStateRow& state, const TransitionRow& transition) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<size_t> applied,
                            history().ApplyTransitions(epoch_, {{state, transition}}));
    return applied.empty() ? absl::AbortedError("left out") : OkStatus();
  }
};
MUSTER_ON_EVERY_BACKEND(HistoryConformance);

constexpr absl::StatusCode kOk = absl::StatusCode::kOk;
constexpr absl::StatusCode kAborted = absl::StatusCode::kAborted;

TEST_P(HistoryConformance, AnOlderSessionNeitherClosesNorCommits) {
  Enrol("web-1");
  const OpenedSession older = OpenSession("web-1");
  const OpenedSession newer = OpenSession("web-1");
  EXPECT_GT(newer.epoch, older.epoch);
  ASSERT_TRUE(store_->sessions().Close({{"web-1", older.epoch, now_, now_}}).ok());
  EXPECT_TRUE((*store_->sessions().Find("web-1"))->connected);
  EXPECT_THAT(Commit({FullBatch("web-1", older.epoch, 1)}), ElementsAre(kAborted));
  ExpectNothingOf("web-1");
  EXPECT_THAT(Commit({FullBatch("web-1", newer.epoch, 1)}), ElementsAre(kOk));
}

TEST_P(HistoryConformance, ABatchMovesTheCursorAndStoresAllOfItself) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  EXPECT_THAT(Commit({FullBatch("web-1", session.epoch, 1)}), ElementsAre(kOk));
  EXPECT_EQ(Cursor("web-1"), 5U);
  EXPECT_THAT(Segments("web-1"), ElementsAre(1));
  const std::vector<CheckStateRow> states = *history().StatesOf("web-1");
  ASSERT_THAT(states, SizeIs(1));
  EXPECT_EQ(states[0].status, v1::CHECK_STATUS_CRITICAL);
  EXPECT_EQ(states[0].summary, "what it said");
  EXPECT_EQ(states[0].last_failure_at, absl::InfinitePast());
  const std::vector<TransitionRow> transitions = *history().TransitionsAfter(0, 10);
  ASSERT_THAT(transitions, SizeIs(1));
  EXPECT_EQ(transitions[0].reason, "3 of 3");
  const std::vector<GapRow> gaps = *store_->sessions().Gaps("web-1", 10);
  ASSERT_THAT(gaps, SizeIs(1));
  EXPECT_EQ(gaps[0].gap.reason(), v1::Gap::REASON_SPOOL_FULL);
}

TEST_P(HistoryConformance, TheSameBatchAgainLeavesNothingDouble) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  const BatchCommit batch = FullBatch("web-1", session.epoch, 1);
  EXPECT_THAT(Commit({batch}), ElementsAre(kOk));
  const uint64_t revision = *history().StateRevision();
  EXPECT_THAT(Commit({batch}), ElementsAre(kAborted));
  EXPECT_THAT(Commit({batch, batch}), ElementsAre(kAborted, kAborted));
  EXPECT_THAT(Segments("web-1"), ElementsAre(1));
  EXPECT_THAT(*history().TransitionsAfter(0, 10), SizeIs(1));
  EXPECT_THAT(*store_->sessions().Gaps("web-1", 10), SizeIs(1));
  EXPECT_EQ(*history().StateRevision(), revision);
  EXPECT_EQ(Cursor("web-1"), 5U);
}

TEST_P(HistoryConformance, AWrongCursorLeavesNothing) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  EXPECT_THAT(Commit({FullBatch("web-1", session.epoch, 6)}), ElementsAre(kAborted));
  BatchCommit other_log = FullBatch("web-1", session.epoch, 1);
  other_log.log_epoch = "log-2";
  EXPECT_THAT(Commit({other_log}), ElementsAre(kAborted));
  ExpectNothingOf("web-1");
}

TEST_P(HistoryConformance, ABatchThatIsRefusedLeavesTheOthersStanding) {
  for (const char* agent : {"web-1", "web-2", "web-3"}) Enrol(agent);
  const uint64_t one = OpenSession("web-1").epoch;
  const uint64_t two = OpenSession("web-2").epoch;
  const uint64_t three = OpenSession("web-3").epoch;
  EXPECT_THAT(Commit({Batch("web-1", one, 1), FullBatch("web-2", two + 1, 1), Batch("nobody", 1, 1),
                      Batch("web-3", three, 1), Batch("web-1", one, 6), Batch("web-1", one, 16)}),
              ElementsAre(kOk, kAborted, kAborted, kOk, kOk, kAborted));
  EXPECT_THAT(Segments("web-1"), ElementsAre(1, 6));
  EXPECT_THAT(Segments("web-3"), ElementsAre(1));
  EXPECT_EQ(Cursor("web-1"), 10U);
  ExpectNothingOf("web-2");
}

TEST_P(HistoryConformance, ATransactionThatFailsLeavesNoBatch) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  // The second batch meets a transition that is there already, which is the store's own fault.
  ASSERT_TRUE(
      store_->database()
          .Write([](sql::Transaction& t) {
            return t
                .Execute(
                    "INSERT INTO transitions (id, agent, check_id, from_status, to_status, hard, "
                    "at, "
                    "recorded_at, summary, reason) VALUES (1, 'x', 1, 1, 1, 1, 1, 1, '', '')")
                .status();
          })
          .ok());
  EXPECT_FALSE(
      history()
          .Commit({Batch("web-1", session.epoch, 1), FullBatch("web-1", session.epoch, 6)}, now_)
          .ok());
  EXPECT_THAT(Segments("web-1"), IsEmpty());
  EXPECT_THAT(*history().StatesOf("web-1"), IsEmpty());
  EXPECT_EQ(Cursor("web-1"), 0U);
}

TEST_P(HistoryConformance, ManyWritersOfOneLogStoreEachRecordOnce) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  std::atomic<int> stored = 0;
  {
    std::vector<exec::Thread> writers;
    for (int i = 0; i < 6; ++i) {
      writers.emplace_back("writer", [&] {
        for (uint64_t first = 1; first <= 96; first += 5) {
          for (const absl::StatusCode code : Commit({Batch("web-1", session.epoch, first)})) {
            stored += code == kOk;
          }
        }
      });
    }
  }
  EXPECT_EQ(stored, 20);
  EXPECT_EQ(Cursor("web-1"), 100U);
  EXPECT_THAT(Segments("web-1"), SizeIs(20));
}

TEST_P(HistoryConformance, ALogKeepsItsCursorAndANewOneBeginsAtNothing) {
  Enrol("web-1");
  EXPECT_THAT(Commit({Batch("web-1", OpenSession("web-1").epoch, 1)}), ElementsAre(kOk));
  const OpenedSession other = OpenSession("web-1", "log-2");
  EXPECT_EQ(other.committed_sequence, 0U);
  BatchCommit batch = Batch("web-1", other.epoch, 1);
  batch.log_epoch = "log-2";
  EXPECT_THAT(Commit({batch}), ElementsAre(kOk));
  EXPECT_EQ(OpenSession("web-1", "log-1").committed_sequence, 5U);
  EXPECT_THAT(Segments("web-1"), ElementsAre(1, 1));
}

TEST_P(HistoryConformance, SegmentsAreReadByTimeOldestFirstAcrossPages) {
  Enrol("web-1");
  Enrol("web-2");
  const uint64_t epoch = OpenSession("web-1").epoch;
  std::vector<BatchCommit> batches;
  std::vector<uint64_t> firsts;
  for (uint64_t first = 1; first <= 996; first += 5) {
    batches.push_back(Batch("web-1", epoch, first));
    firsts.push_back(first);
  }
  batches.push_back(Batch("web-2", OpenSession("web-2").epoch, 1));
  Commit(batches);
  EXPECT_EQ(Segments("web-1"), firsts);
  EXPECT_THAT(Segments("web-1", now_ + absl::Seconds(510), now_ + absl::Seconds(521)),
              ElementsAre(506, 511, 516, 521));
  EXPECT_THAT(Segments("nobody"), IsEmpty());
  int taken = 0;
  ASSERT_TRUE(history()
                  .ReadSegments("web-1", absl::UnixEpoch(), absl::InfiniteFuture(),
                                [&](const Segment&) { return ++taken < 70; })
                  .ok());
  EXPECT_EQ(taken, 70);
}

TEST_P(HistoryConformance, SegmentsOfTheSameMomentAreAllRead) {
  Enrol("web-1");
  const uint64_t epoch = OpenSession("web-1").epoch;
  std::vector<BatchCommit> batches;
  for (uint64_t first = 1; first <= 746; first += 5) {
    batches.push_back(Batch("web-1", epoch, first));
    batches.back().first_observed_at = batches.back().filed_at = now_;
  }
  Commit(batches);
  EXPECT_THAT(Segments("web-1"), SizeIs(150));
}

TEST_P(HistoryConformance, RetentionDropsWhatIsOldAndNothingElse) {
  Enrol("web-1");
  const uint64_t epoch = OpenSession("web-1").epoch;
  Commit({Batch("web-1", epoch, 1), Batch("web-1", epoch, 6), Batch("web-1", epoch, 11)});
  EXPECT_EQ(history().HistorySize()->results, 15U);
  const absl::Time cutoff = now_ + absl::Seconds(11);
  EXPECT_EQ(history().DropSegmentsBefore(epoch_, cutoff, 1).value_or(9), 1U);
  EXPECT_EQ(history().DropSegmentsBefore(epoch_, cutoff, 10).value_or(9), 1U);
  EXPECT_EQ(history().DropSegmentsBefore(epoch_, cutoff, 10).value_or(9), 0U);
  EXPECT_THAT(Segments("web-1"), ElementsAre(11));
  EXPECT_EQ(Cursor("web-1"), 15U);
}

TEST_P(HistoryConformance, HistoryGoesByTheDayWhereItIsKeptSo) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  BatchCommit old = FullBatch("web-1", session.epoch, 1);
  old.first_observed_at = old.filed_at = now_ - absl::Hours(72);
  EXPECT_THAT(Commit({old}), ElementsAre(kOk));  // before its day was made
  EXPECT_EQ(history().MakeDays(now_ - absl::Hours(96), now_ + absl::Hours(24)).value_or(9), 0);
  EXPECT_THAT(Commit({FullBatch("web-1", session.epoch, 6)}), ElementsAre(kOk));
  EXPECT_THAT(Segments("web-1"), ::testing::SizeIs(2));
  EXPECT_TRUE(history().DropSegmentsBefore(epoch_, now_ - absl::Hours(24), 100).ok());
  EXPECT_THAT(Segments("web-1"), ::testing::SizeIs(1));
}

TEST_P(HistoryConformance, PagesOfStatesStayPutWhileStatesChange) {
  std::vector<std::pair<std::string, uint32_t>> seen;
  for (const char* agent : {"a", "b", "c"}) {
    Enrol(agent);
    BatchCommit batch = Batch(agent, OpenSession(agent).epoch, 1);
    for (uint32_t check = 1; check <= 5; ++check)
      batch.states.push_back(State(agent, check, v1::CHECK_STATUS_OK));
    Commit({batch});
  }
  std::string agent;
  uint32_t check = 0;
  for (uint64_t first = 6;; first += 5) {
    const std::vector<CheckStateRow> page = *history().ListStates({}, agent, check, 4);
    if (page.empty()) break;
    for (const CheckStateRow& row : page) seen.emplace_back(row.agent, row.check_id);
    agent = page.back().agent;
    check = page.back().check_id;
    BatchCommit change = Batch("a", (*store_->sessions().Find("a"))->session_epoch, first);
    change.states = {State("a", 1, v1::CHECK_STATUS_CRITICAL)};
    Commit({change});
  }
  EXPECT_THAT(seen, SizeIs(15));
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_P(HistoryConformance, StatesAreFiltered) {
  Enrol("a");
  Enrol("b");
  BatchCommit a = Batch("a", OpenSession("a").epoch, 1);
  a.states = {State("a", 1, v1::CHECK_STATUS_OK), State("a", 2, v1::CHECK_STATUS_CRITICAL)};
  BatchCommit b = Batch("b", OpenSession("b").epoch, 1);
  b.states = {State("b", 1, v1::CHECK_STATUS_WARNING)};
  Commit({a, b});
  EXPECT_THAT(*history().ListStates({.check_id = 1}, "", 0, 10), SizeIs(2));
  EXPECT_THAT(*history().ListStates({.agent = "a"}, "", 0, 10), SizeIs(2));
  EXPECT_THAT(*history().ListStates(
                  {.status = {v1::CHECK_STATUS_WARNING, v1::CHECK_STATUS_CRITICAL}}, "", 0, 10),
              SizeIs(2));
  EXPECT_THAT(*history().ListStates(
                  {.check_id = 1, .agent = "a", .status = {v1::CHECK_STATUS_CRITICAL}}, "", 0, 10),
              IsEmpty());
}

TEST_P(HistoryConformance, WatchersMissNoChangeAndNoRemoval) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit batch = Batch("a", epoch, 1);
  batch.states = {State("a", 1, v1::CHECK_STATUS_OK), State("a", 2, v1::CHECK_STATUS_OK),
                  State("a", 3, v1::CHECK_STATUS_OK)};
  Commit({batch});
  const uint64_t revision = *history().StateRevision();
  EXPECT_THAT(history().ChangesAfter(0, 10)->changes, SizeIs(3));
  EXPECT_THAT(history().ChangesAfter(revision, 10)->changes, IsEmpty());
  batch = Batch("a", epoch, 6);
  batch.states = {State("a", 2, v1::CHECK_STATUS_WARNING)};
  Commit({batch});
  EXPECT_EQ(history().KeepOnly("a", {2, 3, 7}, now_).value_or(9), 1U);
  EXPECT_EQ(history().KeepOnly("a", {2, 3, 7}, now_).value_or(9), 0U);
  const auto removed = *history().RemovedStates(revision, 10);
  ASSERT_THAT(removed, SizeIs(1));
  EXPECT_EQ(removed[0].check_id, 1U);
  EXPECT_EQ(removed[0].revision, *history().StateRevision());
  const StateChanges all = *history().ChangesAfter(revision, 10);
  EXPECT_EQ(all.through, removed[0].revision);
  EXPECT_EQ(all.newest, removed[0].revision);
  ASSERT_THAT(all.changes, SizeIs(2));
  EXPECT_EQ(all.changes[0].row.check_id, 2U);
  EXPECT_FALSE(all.changes[0].removed);
  EXPECT_EQ(all.changes[1].row.check_id, 1U);
  EXPECT_TRUE(all.changes[1].removed);
  EXPECT_GT(all.changes[1].row.revision, all.changes[0].row.revision);
}

// However little is asked for at once: what is there and what left come as one row of changes.
TEST_P(HistoryConformance, ChangesComePageByPageInTheirOrder) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  uint64_t sequence = 1;
  const auto change = [&](const std::vector<uint32_t>& checks) {
    BatchCommit batch = Batch("a", epoch, sequence);
    sequence += 5;
    for (const uint32_t check : checks)
      batch.states.push_back(State("a", check, v1::CHECK_STATUS_OK));
    EXPECT_THAT(Commit({batch}), ElementsAre(kOk));
  };
  change({1, 2, 3, 4});
  EXPECT_EQ(history().KeepOnly("a", {3, 4}, now_).value_or(9), 2U);
  change({3, 5, 6});
  EXPECT_EQ(history().KeepOnly("a", {4, 5, 6}, now_).value_or(9), 1U);
  for (uint32_t limit = 1; limit < 8; ++limit) {
    std::vector<uint32_t> there;
    std::vector<uint32_t> left;
    uint64_t at = 0;
    while (true) {
      const StateChanges page = *history().ChangesAfter(at, limit);
      uint64_t last = at;
      for (const StateChange& one : page.changes) {
        EXPECT_GT(one.row.revision, last);
        last = one.row.revision;
        (one.removed ? left : there).push_back(one.row.check_id);
      }
      EXPECT_LE(last, page.through);
      if (page.through == page.newest) break;
      ASSERT_GT(page.through, at) << "no end with " << limit;
      at = page.through;
    }
    EXPECT_THAT(there, ElementsAre(4, 5, 6)) << limit;
    EXPECT_THAT(left, ElementsAre(1, 2, 3)) << limit;
  }
}

TEST_P(HistoryConformance, TheStatesOfARevokedAgentStayUntilThePlanDropsThem) {
  Enrol("a");
  BatchCommit batch = Batch("a", OpenSession("a").epoch, 1);
  batch.states = {State("a", 1, v1::CHECK_STATUS_OK)};
  Commit({batch});
  ASSERT_TRUE(store_->identity().Revoke(v1::ROLE_AGENT, "a", now_, Note()).ok());
  EXPECT_THAT(*history().StatesOf("a"), SizeIs(1));
  EXPECT_EQ(history().KeepOnly("a", {}, now_).value_or(0), 1U);
  EXPECT_THAT(*history().StatesOf("a"), IsEmpty());
}

TEST_P(HistoryConformance, ADecisionOnAStateThatHasChangedIsRefused) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit batch = Batch("a", epoch, 1);
  batch.states = {State("a", 1, v1::CHECK_STATUS_OK)};
  Commit({batch});
  const CheckStateRow seen = (*history().StatesOf("a"))[0];
  batch.expected_committed = 5;
  batch.first_sequence = 6;
  batch.last_sequence = 10;
  Commit({batch});
  CheckStateRow lost = seen;
  lost.status = v1::CHECK_STATUS_NO_DATA;
  const TransitionRow transition = Transition("a", 1, v1::CHECK_STATUS_NO_DATA);
  EXPECT_EQ(CodeOf(Apply(lost, transition)), kAborted);
  EXPECT_THAT(*history().TransitionsAfter(0, 10), IsEmpty());
  lost.revision = (*history().StatesOf("a"))[0].revision;
  EXPECT_TRUE(Apply(lost, transition).ok());
  EXPECT_EQ(CodeOf(Apply(lost, transition)), kAborted);
  EXPECT_EQ((*history().StatesOf("a"))[0].status, v1::CHECK_STATUS_NO_DATA);
  EXPECT_THAT(*history().TransitionsAfter(0, 10), SizeIs(1));
}

TEST_P(HistoryConformance, OfManyDecisionsThoseOnStatesThatHaveChangedAreLeftOut) {
  std::vector<DecidedState> changes;
  for (const char* agent : {"a", "b"}) {
    Enrol(agent);
    BatchCommit batch = Batch(agent, OpenSession(agent).epoch, 1);
    batch.states = {State(agent, 1, v1::CHECK_STATUS_OK), State(agent, 2, v1::CHECK_STATUS_OK)};
    Commit({batch});
    const std::vector<CheckStateRow> states = *history().StatesOf(agent);
    for (CheckStateRow state : states) {
      state.status = v1::CHECK_STATUS_NO_DATA;
      changes.push_back({state, Transition(agent, state.check_id, v1::CHECK_STATUS_NO_DATA)});
    }
  }
  changes[1].state.revision += 100;
  changes.push_back(changes[0]);
  changes.back().state.check_id = 3;  // there is none
  const uint64_t before = history().SessionStates("a")->epoch;
  EXPECT_THAT(*history().ApplyTransitions(epoch_, changes), ElementsAre(0U, 2U, 3U));
  // Once for each agent, however many of its states.
  EXPECT_EQ(history().SessionStates("a")->epoch, before + 1);
  EXPECT_EQ(history().SessionStates("b")->epoch, before + 1);
  EXPECT_EQ((*history().StatesOf("a"))[0].status, v1::CHECK_STATUS_NO_DATA);
  EXPECT_EQ((*history().StatesOf("a"))[1].status, v1::CHECK_STATUS_OK);
  EXPECT_THAT(*history().TransitionsAfter(0, 10), SizeIs(3));
  EXPECT_THAT(*history().ApplyTransitions(epoch_, {}), IsEmpty());
}

TEST_P(HistoryConformance, ADecisionOnSilenceIsRefusedWhenResultsCameMeanwhile) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit batch = Batch("a", epoch, 1);
  batch.states = {State("a", 1, v1::CHECK_STATUS_OK)};
  Commit({batch});
  CheckStateRow lost = (*history().StatesOf("a"))[0];
  lost.status = v1::CHECK_STATUS_NO_DATA;
  // A steady result changes no row.
  BatchCommit steady = Batch("a", epoch, 6);
  steady.observations = PackObservations({{1, now_ + absl::Seconds(10), absl::ZeroDuration()}});
  EXPECT_THAT(Commit({steady}), ElementsAre(kOk));
  const TransitionRow transition = Transition("a", 1, v1::CHECK_STATUS_NO_DATA);
  EXPECT_EQ(CodeOf(Apply(lost, transition)), kAborted);
  EXPECT_EQ((*history().StatesOf("a"))[0].status, v1::CHECK_STATUS_OK);
}

TEST_P(HistoryConformance, ABatchJudgedByStatesThatChangedIsRefused) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit batch = Batch("a", epoch, 1);
  batch.states_epoch = history().SessionStates("a")->epoch;
  batch.states = {State("a", 1, v1::CHECK_STATUS_OK)};
  Commit({batch});
  CheckStateRow lost = (*history().StatesOf("a"))[0];
  lost.status = v1::CHECK_STATUS_NO_DATA;
  ASSERT_TRUE(Apply(lost, Transition("a", 1, v1::CHECK_STATUS_NO_DATA)).ok());
  BatchCommit next = Batch("a", epoch, 6);
  next.states_epoch = batch.states_epoch;
  EXPECT_THAT(Commit({next}), ElementsAre(kAborted));
  EXPECT_EQ(Cursor("a"), 5U);
  next.states_epoch = history().SessionStates("a")->epoch;
  EXPECT_THAT(Commit({next}), ElementsAre(kOk));
}

TEST_P(HistoryConformance, StatesAreAsOfTheirLastObservation) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit first = Batch("a", epoch, 1);
  first.states = {State("a", 1, v1::CHECK_STATUS_OK), State("a", 2, v1::CHECK_STATUS_OK)};
  BatchCommit steady = Batch("a", epoch, 6);
  const absl::Time later = now_ + absl::Seconds(40);
  steady.observations = PackObservations({{1, later, absl::Milliseconds(7)}});
  EXPECT_THAT(Commit({first, steady}), ElementsAre(kOk, kOk));
  const auto as_expected = [&](const std::vector<CheckStateRow>& states) {
    return states.size() == 2 && states[0].observed_at == later &&
           states[0].latency == absl::Milliseconds(7) && states[1].observed_at == now_;
  };
  EXPECT_TRUE(as_expected(*history().StatesOf("a")));
  EXPECT_TRUE(as_expected(*history().ListStates({}, "", 0, 10)));
  // What the log before knew stays known under a new one.
  OpenSession("a", "log-2");
  EXPECT_TRUE(as_expected(*history().StatesOf("a")));
}

TEST_P(HistoryConformance, OfSeveralBatchesOfAnAgentTheLastOneSaysWhatIsSo) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  BatchCommit bad = FullBatch("a", epoch, 1);
  BatchCommit good = FullBatch("a", epoch, 6);
  good.states = {State("a", 1, v1::CHECK_STATUS_OK)};
  EXPECT_THAT(Commit({bad, good}), ElementsAre(kOk, kOk));
  const auto states = *history().StatesOf("a");
  ASSERT_THAT(states, SizeIs(1));
  EXPECT_EQ(states[0].status, v1::CHECK_STATUS_OK);
  EXPECT_THAT(*history().TransitionsAfter(0, 10), SizeIs(2));
}

TEST_P(HistoryConformance, HundredsOfBatchesAreStoredAtOnce) {
  std::vector<BatchCommit> batches;
  for (int i = 0; i < 90; ++i) {
    const std::string agent = fmt::format("agent-{:03}", i);
    Enrol(agent);
    batches.push_back(FullBatch(agent, OpenSession(agent).epoch, 1));
    for (uint32_t check = 2; check <= 12; ++check)
      batches.back().states.push_back(State(agent, check, v1::CHECK_STATUS_OK));
  }
  EXPECT_THAT(Commit(batches), ::testing::Each(kOk));
  EXPECT_EQ(history().HistorySize()->segments, 90U);
  EXPECT_THAT(*history().ListStates({}, "", 0, 2000), SizeIs(90 * 12));
  EXPECT_THAT(*history().TransitionsAfter(0, 200), SizeIs(90));
  EXPECT_EQ(Cursor("agent-089"), 5U);
}

TEST_P(HistoryConformance, TransitionsAreFollowedByTheirNumbersAndListedNewestFirst) {
  Enrol("a");
  const uint64_t epoch = OpenSession("a").epoch;
  for (uint64_t first = 1; first <= 11; first += 5) {
    BatchCommit batch = Batch("a", epoch, first);
    batch.transitions = {Transition("a", 1, v1::CHECK_STATUS_CRITICAL),
                         Transition("a", 2, v1::CHECK_STATUS_OK)};
    Commit({batch});
  }
  uint64_t after = 0;
  for (int page = 0; page < 3; ++page) {
    const std::vector<TransitionRow> rows = *history().TransitionsAfter(after, 2);
    EXPECT_THAT(rows, SizeIs(2));
    for (const TransitionRow& row : rows) {
      EXPECT_GT(row.id, after);
      after = row.id;
    }
  }
  EXPECT_THAT(*history().TransitionsAfter(after, 2), IsEmpty());
  const auto listed = *history().ListTransitions({.check_id = 1, .agent = "a"}, now_, 2);
  ASSERT_THAT(listed, SizeIs(2));
  EXPECT_GT(listed[0].id, listed[1].id);
  EXPECT_EQ(listed[0].check_id, 1U);
  EXPECT_THAT(*history().ListTransitions({.status = {v1::CHECK_STATUS_OK}}, now_, 10), SizeIs(3));
  EXPECT_THAT(*history().ListTransitions({}, now_ + absl::Seconds(1), 10), IsEmpty());
}

TEST_P(HistoryConformance, AgentsAreListedInStablePages) {
  for (const char* agent : {"d", "a", "c", "b"}) Enrol(agent);
  std::vector<std::string> names;
  for (std::string after;;) {
    const std::vector<AgentRow> page = *store_->sessions().List(after, 3);
    if (page.empty()) break;
    for (const AgentRow& row : page) names.push_back(row.name);
    after = names.back();
    if (names.size() == 3) Enrol("0-comes-before");
  }
  EXPECT_THAT(names, ElementsAre("a", "b", "c", "d"));
}

}  // namespace
}  // namespace muster::control
