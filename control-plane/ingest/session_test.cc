#include "control-plane/ingest/session.h"

#include <gtest/gtest.h>

#include "lib/decide/selector.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

CheckBook Book(uint32_t failures = 1) {
  CheckBook book;
  for (uint32_t id = 1; id <= 2; ++id) {
    SpecRow row;
    row.check_id = id;
    row.document.set_kind("Check");
    row.document.mutable_metadata()->set_name(id == 1 ? "api" : "disk");
    row.document.mutable_check()->mutable_confirm()->set_failures(failures);
    row.document.mutable_check()->mutable_confirm()->set_successes(1);
    book.checks.push_back(row);
  }
  (*book.checks[1].document.mutable_check()->mutable_agents())["role"] = "db";
  return book;
}

SessionOpening Opening(absl::Duration skew = absl::ZeroDuration()) {
  v1::Hello hello;
  hello.set_log_epoch("epoch-1");
  *hello.mutable_agent_time() = wire::ToProto(kNow + skew);
  return *ReadHello(hello, "db-1", "r1", kNow);
}

ServerSession Session(uint64_t committed = 0, uint32_t failures = 1,
                      absl::Duration skew = absl::ZeroDuration()) {
  ServerSession session(Opening(skew), {3, committed, {{"role", "db"}}}, {}, {});
  session.SetPlan(PlanFor(Book(failures), "db-1", {{"role", "db"}}));
  return session;
}

v1::Record Result(uint64_t sequence, v1::CheckStatus status, absl::Time at, uint32_t check = 1) {
  v1::Record record;
  record.set_sequence(sequence);
  record.mutable_result()->set_check_id(check);
  record.mutable_result()->set_status(status);
  *record.mutable_result()->mutable_observed_at() = wire::ToProto(at);
  return record;
}

v1::Records Batch(const std::vector<v1::Record>& records) {
  const auto encoded = wire::EncodeBatch(records);
  v1::Records batch;
  batch.set_first_sequence(encoded->span.first);
  batch.set_last_sequence(encoded->span.last);
  batch.set_batch(encoded->payload);
  return batch;
}

TEST(Hello, NamesALogByPlainText) {
  v1::Hello hello;
  const auto code = [&] { return ReadHello(hello, "db-1", "r1", kNow).status().code(); };
  for (const std::string& epoch :
       {std::string(), std::string("a\0b", 3), std::string("a\nb"), std::string(65, 'a')}) {
    hello.set_log_epoch(epoch);
    EXPECT_EQ(code(), absl::StatusCode::kInvalidArgument) << epoch;
  }
  hello.set_log_epoch("5e0c2b1a-76a8-4a59-9d4e-000000000000");
  EXPECT_EQ(code(), absl::StatusCode::kOk);
}

TEST(Plan, HoldsTheChecksThatTheLabelsMatch) {
  EXPECT_EQ(PlanFor(Book(), "web-1", {}).checks_size(), 1);
  EXPECT_EQ(PlanFor(Book(), "db-1", {{"role", "db"}}).checks_size(), 2);
  v1::CheckSpec only;
  (*only.mutable_agents())["agent"] = "db-1";
  EXPECT_TRUE(decide::Selects(only.agents(), "db-1", {}));
  EXPECT_FALSE(decide::Selects(only.agents(), "db-2", {}));
}

TEST(Plan, HashFollowsTheContentAlone) {
  CheckBook later = Book();
  later.revision = 99;
  EXPECT_EQ(PlanFor(Book(), "a", {}).hash(), PlanFor(later, "a", {}).hash());
  later.checks[0].document.mutable_check()->mutable_every()->set_seconds(5);
  EXPECT_NE(PlanFor(Book(), "a", {}).hash(), PlanFor(later, "a", {}).hash());
}

TEST(ServerSession, CommitsWhatFollowsTheCursor) {
  ServerSession session = Session(41);
  const auto commit = session.Take(Batch({Result(42, v1::CHECK_STATUS_OK, kNow)}), kNow);
  ASSERT_TRUE(commit.ok()) << commit.status();
  EXPECT_EQ(commit->expected_committed, 41u);
  EXPECT_EQ(commit->last_sequence, 42u);
  EXPECT_EQ(commit->session_epoch, 3u);
  EXPECT_EQ(commit->results, 1u);
  EXPECT_EQ(session.Stored(42).ack().sequence(), 42u);
}

TEST(ServerSession, RefusesAHoleAndARepetition) {
  EXPECT_EQ(Session(5).Take(Batch({Result(7, v1::CHECK_STATUS_OK, kNow)}), kNow).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Session(5).Take(Batch({Result(5, v1::CHECK_STATUS_OK, kNow)}), kNow).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(ServerSession, RefusesABatchThatLiesAboutItsRange) {
  v1::Records records = Batch({Result(1, v1::CHECK_STATUS_OK, kNow)});
  records.set_last_sequence(2);
  EXPECT_EQ(Session().Take(records, kNow).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ServerSession, HoldsTheAgentToItsWindow) {
  ServerSession session = Session();
  uint64_t sequence = 1;
  while (!session.WindowFull()) {
    ASSERT_TRUE(session.Take(Batch({Result(sequence++, v1::CHECK_STATUS_OK, kNow)}), kNow).ok());
  }
  EXPECT_EQ(
      session.Take(Batch({Result(sequence, v1::CHECK_STATUS_OK, kNow)}), kNow).status().code(),
      absl::StatusCode::kResourceExhausted);
}

TEST(ServerSession, KnowsWhenThePlanIsTaken) {
  ServerSession session = Session();
  EXPECT_FALSE(session.PlanTaken());
  v1::Record record;
  record.set_sequence(1);
  record.mutable_plan_taken()->set_plan_hash(session.plan().hash());
  ASSERT_TRUE(session.Take(Batch({record}), kNow).ok());
  EXPECT_TRUE(session.PlanTaken());
}

// A timeout is told after what was observed while it ran, and history is read as it was told.
TEST(ServerSession, FilesNothingBeforeWhatTheLogHadBefore) {
  ServerSession session = Session();
  uint64_t sequence = 0;
  const auto filed = [&](absl::Time observed_at) {
    return session.Take(Batch({Result(++sequence, v1::CHECK_STATUS_OK, observed_at)}), kNow)
        ->filed_at;
  };
  EXPECT_EQ(filed(kNow), kNow);
  EXPECT_EQ(filed(kNow - absl::Seconds(30)), kNow);
  EXPECT_EQ(filed(kNow + absl::Seconds(1)), kNow + absl::Seconds(1));
  EXPECT_EQ(filed(kNow - absl::Hours(1)), kNow - absl::Hours(1)) << "the clock was set back";
}

TEST(ServerSession, FilesAGapByTheTimeThatItTellsOf) {
  ServerSession session = Session();
  v1::Record record;
  record.set_sequence(1);
  record.mutable_gap()->set_first(1);
  record.mutable_gap()->set_last(1);
  *record.mutable_gap()->mutable_from() = wire::ToProto(kNow - absl::Minutes(9));
  *record.mutable_gap()->mutable_until() = wire::ToProto(kNow - absl::Minutes(1));
  const auto commit = session.Take(Batch({record}), kNow);
  EXPECT_EQ(commit->first_observed_at, kNow - absl::Minutes(9));
  EXPECT_EQ(commit->filed_at, kNow - absl::Minutes(1));
}

TEST(Evaluation, AQuietCheckWritesNoRows) {
  ServerSession session = Session();
  ASSERT_EQ(session.Take(Batch({Result(1, v1::CHECK_STATUS_OK, kNow)}), kNow)->states.size(), 1u);
  const auto quiet = session.Take(Batch({Result(2, v1::CHECK_STATUS_OK, kNow + absl::Seconds(1))}),
                                  kNow + absl::Seconds(1));
  EXPECT_TRUE(quiet->states.empty());
  EXPECT_TRUE(quiet->transitions.empty());
  const auto known = UnpackObservations(quiet->observations);
  ASSERT_TRUE(known.ok());
  EXPECT_EQ(known->at(1).at, kNow + absl::Seconds(1));
}

TEST(Evaluation, ADetailIsStoredEvenWhereNothingChanged) {
  ServerSession session = Session();
  ASSERT_TRUE(session.Take(Batch({Result(1, v1::CHECK_STATUS_OK, kNow)}), kNow).ok());
  v1::Record told = Result(2, v1::CHECK_STATUS_OK, kNow);
  told.mutable_result()->mutable_detail()->set_summary("HTTP 200");
  const auto commit = session.Take(Batch({told}), kNow);
  ASSERT_EQ(commit->states.size(), 1u);
  EXPECT_EQ(commit->states[0].summary, "HTTP 200");
  EXPECT_TRUE(commit->transitions.empty());
}

TEST(Evaluation, ConfirmsAcrossBatches) {
  ServerSession session = Session(0, 3);
  ASSERT_TRUE(session.Take(Batch({Result(1, v1::CHECK_STATUS_OK, kNow)}), kNow).ok());
  const auto first = session.Take(Batch({Result(2, v1::CHECK_STATUS_CRITICAL, kNow)}), kNow);
  ASSERT_EQ(first->transitions.size(), 1u);
  EXPECT_FALSE(first->transitions[0].hard);
  const auto rest = session.Take(Batch({Result(3, v1::CHECK_STATUS_CRITICAL, kNow),
                                        Result(4, v1::CHECK_STATUS_CRITICAL, kNow)}),
                                 kNow);
  ASSERT_EQ(rest->transitions.size(), 1u);
  EXPECT_TRUE(rest->transitions[0].hard);
  EXPECT_EQ(rest->transitions[0].reason, "3 of 3 failures");
  EXPECT_EQ(rest->states.at(0).hard_status, v1::CHECK_STATUS_CRITICAL);
}

TEST(Evaluation, LateResultsKeepTheirTime) {
  ServerSession session = Session();
  const absl::Time late = kNow - absl::Hours(2);
  const auto commit = session.Take(Batch({Result(1, v1::CHECK_STATUS_CRITICAL, late)}), kNow);
  EXPECT_EQ(commit->transitions.at(0).at, late);
  EXPECT_EQ(commit->transitions.at(0).recorded_at, kNow);
}

TEST(Evaluation, ASkewedClockIsCorrectedAndNeverAhead) {
  const absl::Duration skew = absl::Minutes(10);
  ServerSession session = Session(0, 1, skew);
  const auto commit =
      session.Take(Batch({Result(1, v1::CHECK_STATUS_OK, kNow + skew - absl::Seconds(4)),
                          Result(2, v1::CHECK_STATUS_OK, kNow + absl::Hours(9), 2)}),
                   kNow);
  EXPECT_EQ(commit->states.at(0).observed_at, kNow - absl::Seconds(4));
  EXPECT_EQ(commit->states.at(1).observed_at, kNow);
}

TEST(Evaluation, ResultsOfAnUnplannedCheckAreKeptAndBelievedOfNothing) {
  ServerSession session = Session();
  const auto commit = session.Take(Batch({Result(1, v1::CHECK_STATUS_CRITICAL, kNow, 77)}), kNow);
  EXPECT_EQ(commit->results, 1u);
  EXPECT_TRUE(commit->states.empty());
}

TEST(Evaluation, WhatAnAgentSaysIsCleanedBeforeItIsBelieved) {
  ServerSession session = Session();
  v1::Record record = Result(1, v1::CHECK_STATUS_CRITICAL, kNow);
  record.mutable_result()->mutable_detail()->set_summary(std::string("no\0t\x1b[2J up", 11));
  const auto commit = session.Take(Batch({record}), kNow);
  ASSERT_EQ(commit->states.size(), 1u);
  EXPECT_EQ(commit->states[0].summary, "no t [2J up");
  EXPECT_EQ(commit->transitions[0].summary, "no t [2J up");
}

TEST(Evaluation, AGapIsNotAResult) {
  ServerSession session = Session();
  v1::Record gap;
  gap.set_sequence(50);
  gap.mutable_gap()->set_first(1);
  gap.mutable_gap()->set_last(50);
  gap.mutable_gap()->set_reason(v1::Gap::REASON_SPOOL_FULL);
  const auto commit = session.Take(Batch({gap, Result(51, v1::CHECK_STATUS_OK, kNow)}), kNow);
  ASSERT_TRUE(commit.ok()) << commit.status();
  EXPECT_EQ(commit->gaps.size(), 1u);
  EXPECT_EQ(commit->results, 1u);
  EXPECT_EQ(commit->last_sequence, 51u);
}

}  // namespace
}  // namespace muster::control
