#include "tests/bench/fleet/check.h"

#include <gtest/gtest.h>

#include "control-plane/ingest/session.h"
#include "lib/testing/servers.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "tests/bench/fleet/agent_log.h"
#include "tests/bench/fleet/schedule.h"

namespace muster::bench {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr char kAgent[] = "fleet-00001";
constexpr size_t kBatch = 7;  // records

v1::Plan ThreeChecks() {
  v1::Plan plan;
  plan.set_hash("plan");
  for (uint32_t id = 1; id <= 3; ++id) {
    v1::PlannedCheck& check = *plan.add_checks();
    check.set_id(id);
    check.set_name(fmt::format("check-{}", id));
    check.mutable_spec()->mutable_every()->set_seconds(10);
    check.mutable_spec()->mutable_confirm()->set_failures(2);
    check.mutable_spec()->mutable_confirm()->set_successes(1);
  }
  return plan;
}

// One agent's ten minutes, taken by the control plane's own session and store, and journalled:
// every check fails for half of each minute. Then the store is damaged, as a defect would.
class FleetCheck : public ::testing::Test {
 protected:
  FleetCheck() : log_("epoch-1", 1000), schedule_(kAgent, {.share = 1}) {
    store_ = *control::Store::OpenInMemory();
    const control::TokenRow token{"hash", kAgent, {}, kNow + absl::Hours(1)};
    EXPECT_TRUE(store_->identity().SaveToken(token, {"test", "", "", "", kNow}).ok());
    const control::CertificateRow certificate{"print", v1::ROLE_AGENT, kAgent, "1", kNow, kNow};
    EXPECT_TRUE(
        store_->identity().RedeemToken("hash", certificate, kNow, {"test", "", "", "", kNow}).ok());
    journal_ = *Journal::Open(JournalPath());
    journal_->Log(0, kAgent, log_.epoch());
    const v1::Plan plan = ThreeChecks();
    for (const auto& check : plan.checks()) journal_->Confirm(check.id(), check.spec().confirm());
    schedule_.Take(PlanBook().Take(plan), absl::ZeroDuration());
    const uint64_t taken = log_.AddPlanTaken(plan.hash(), kNow);
    journal_->Record(0, {taken, 0, v1::CHECK_STATUS_UNSPECIFIED, absl::ToUnixMicros(kNow)});
  }

  std::string JournalPath() const { return folder_.File("journal"); }

  // What falls due from `uptime_` on for so long.
  void Generate(absl::Duration how_long) {
    for (const absl::Duration until = uptime_ + how_long; uptime_ < until;
         uptime_ += absl::Seconds(1)) {
      for (const Found& found : schedule_.Run(uptime_, kNow + uptime_)) {
        const uint64_t sequence = log_.Add(found.result);
        journal_->Record(
            0, {sequence, found.result.check_id, found.result.status, found.result.observed_at_us});
      }
    }
  }

  // In one session.
  void Send() {
    v1::Hello hello;
    hello.set_log_epoch(log_.epoch());
    *hello.mutable_agent_time() = wire::ToProto(kNow);
    const auto opening = *control::ReadHello(hello, kAgent, "r", kNow);
    const control::OpenedSession opened = *store_->sessions().Open(opening);
    control::ServerSession session(opening, opened, *store_->history().SessionStates(kAgent), {});
    session.SetPlan(ThreeChecks());
    while (session.stored_sequence() < log_.written()) {
      const auto records = log_.Read(session.stored_sequence() + 1, kBatch, 1 << 20);
      const wire::EncodedBatch batch = *wire::EncodeBatch(records);
      v1::Records message;
      message.set_first_sequence(batch.span.first);
      message.set_last_sequence(batch.span.last);
      message.set_batch(batch.payload);
      const auto commit = session.Take(message, kNow + uptime_);
      ASSERT_TRUE(commit.ok()) << commit.status();
      ASSERT_TRUE(store_->history().Commit({*commit}, kNow + uptime_)->front().ok());
      session.Stored(batch.span.last);
      journal_->Acknowledged(0, batch.span.last);
    }
    log_.Acknowledge(log_.written());
  }

  // Ten minutes of it.
  void Live() {
    Generate(absl::Minutes(10));
    Send();
  }

  void Damage(const std::string& sql) {
    const Status done = store_->database().Write([&](sql::Transaction& t) -> Status {
      MUSTER_ASSIGN_OR_RETURN(const int64_t changed, t.Execute(sql));
      return changed > 0 ? OkStatus() : NotFound("nothing was damaged");
    });
    ASSERT_TRUE(done.ok()) << done;
  }

  // Puts other records in the place of those of the segment that begins at `first`.
  void Rewrite(uint64_t first, const std::function<void(std::vector<v1::Record>&)>& change) {
    const Status done = store_->database().Write([&](sql::Transaction& t) -> Status {
      const auto at = static_cast<int64_t>(first);
      MUSTER_ASSIGN_OR_RETURN(
          const sql::Rows rows,
          t.Query("SELECT payload FROM segments WHERE first_sequence = $1", {at}));
      std::vector<v1::Record> records = wire::DecodeBatch(rows.at(0).Text(0))->Records();
      change(records);
      const wire::EncodedBatch batch = *wire::EncodeBatch(records);
      return t
          .Execute("UPDATE segments SET payload = $1 WHERE first_sequence = $2",
                   {sql::Bytes{batch.payload}, at})
          .status();
    });
    ASSERT_TRUE(done.ok()) << done;
  }

  Verdict Check() {
    EXPECT_TRUE(journal_->Flush().ok());
    const StatusOr<JournalContents> journal = ReadJournal(JournalPath());
    EXPECT_TRUE(journal.ok()) << journal.status();
    const StatusOr<Verdict> verdict = CheckStore(*store_, *journal);
    EXPECT_TRUE(verdict.ok()) << verdict.status();
    return *verdict;
  }

  testing::TempFolder folder_;
  std::unique_ptr<control::Store> store_;
  std::unique_ptr<Journal> journal_;
  AgentLog log_;
  Schedule schedule_;
  absl::Duration uptime_ = absl::ZeroDuration();
};

TEST_F(FleetCheck, FindsNothingWrongWithWhatTheControlPlaneStored) {
  Live();
  const Verdict verdict = Check();
  EXPECT_TRUE(verdict.good()) << Table(verdict);
  EXPECT_GT(verdict.stored, 170u);
  EXPECT_EQ(verdict.stored, verdict.generated);
  EXPECT_GT(verdict.transitions, 3u * 3 * 9);  // soft, hard and back each minute
  EXPECT_EQ(verdict.moved, 0u);
  EXPECT_EQ(verdict.not_compared, 0u);
}

TEST_F(FleetCheck, FollowsALogOverSeveralSessions) {
  for (int i = 0; i < 5; ++i) {
    Generate(absl::Seconds(73));
    Send();
  }
  const Verdict verdict = Check();
  EXPECT_TRUE(verdict.good()) << Table(verdict);
}

TEST_F(FleetCheck, WhatWasNotAcknowledgedNeedNotBeThere) {
  Live();
  Generate(absl::Minutes(1));
  const Verdict verdict = Check();
  EXPECT_TRUE(verdict.good()) << Table(verdict);
  EXPECT_GT(verdict.generated, verdict.stored);
}

TEST_F(FleetCheck, SeesABatchThatWasLost) {
  Live();
  Damage("DELETE FROM segments WHERE first_sequence = 15");
  EXPECT_EQ(Check().lost, kBatch);
}

TEST_F(FleetCheck, SeesOneLostRecord) {
  Live();
  Rewrite(15, [](std::vector<v1::Record>& records) { records.pop_back(); });
  EXPECT_EQ(Check().lost, 1u);
}

TEST_F(FleetCheck, SeesARecordThatAGapTookThePlaceOf) {
  Live();
  Rewrite(15, [](std::vector<v1::Record>& records) {
    v1::Record& last = records.back();
    last.mutable_gap()->set_first(last.sequence());
    last.mutable_gap()->set_last(last.sequence());
  });
  EXPECT_EQ(Check().lost, 1u);
}

TEST_F(FleetCheck, SeesAHoleBeforeWhatIsStored) {
  Generate(absl::Minutes(2));
  Send();
  Damage("DELETE FROM segments WHERE first_sequence = 15");
  // As if the acknowledgement had never come.
  JournalContents journal;
  ASSERT_TRUE(journal_->Flush().ok());
  journal = *ReadJournal(JournalPath());
  journal.agents[kAgent].front().acknowledged = 0;
  const Verdict verdict = *CheckStore(*store_, journal);
  EXPECT_EQ(verdict.uncovered, kBatch);
  EXPECT_EQ(verdict.lost, 0u);
}

TEST_F(FleetCheck, SeesABatchThatIsStoredTwice) {
  Live();
  Damage(
      "INSERT INTO segments SELECT log_id, first_sequence, last_sequence, first_at, last_at, "
      "results, payload FROM segments WHERE first_sequence = 22");
  EXPECT_EQ(Check().doubled, kBatch);
}

TEST_F(FleetCheck, SeesRecordsThatChangedPlaces) {
  Live();
  Rewrite(29, [](std::vector<v1::Record>& records) {
    std::swap(*records[2].mutable_result(), *records[3].mutable_result());
  });
  EXPECT_EQ(Check().out_of_order, 2u);
}

TEST_F(FleetCheck, SeesAnAlteredResult) {
  Live();
  Rewrite(29, [](std::vector<v1::Record>& records) {
    records[2].mutable_result()->set_status(v1::CHECK_STATUS_UNKNOWN);
  });
  EXPECT_EQ(Check().altered, 1u);
}

TEST_F(FleetCheck, SeesWhatNobodyGenerated) {
  Live();
  ASSERT_TRUE(journal_->Flush().ok());
  JournalContents journal = *ReadJournal(JournalPath());
  journal.agents[kAgent].front().records.pop_back();
  EXPECT_EQ((*CheckStore(*store_, journal)).unknown, 1u);
}

TEST_F(FleetCheck, SeesATransitionThatIsMissing) {
  Live();
  Damage("DELETE FROM transitions WHERE id = 9");
  EXPECT_EQ(Check().wrong_histories, 1u);
}

TEST_F(FleetCheck, SeesTheLastTransitionMissing) {
  Live();
  Damage("DELETE FROM transitions WHERE id = (SELECT max(id) FROM transitions)");
  EXPECT_EQ(Check().wrong_histories, 1u);
}

TEST_F(FleetCheck, SeesATransitionTooMany) {
  Live();
  Damage(
      "INSERT INTO transitions SELECT 1000000, agent, check_id, from_status, to_status, hard, at, "
      "recorded_at, summary, reason FROM transitions WHERE id = 9");
  EXPECT_EQ(Check().wrong_histories, 1u);
}

TEST_F(FleetCheck, SeesASoftTransitionThatIsCalledHard) {
  Live();
  Damage(
      "UPDATE transitions SET hard = 1 WHERE id = (SELECT min(id) FROM transitions WHERE hard = "
      "0)");
  EXPECT_EQ(Check().wrong_histories, 1u);
}

TEST_F(FleetCheck, CountsTransitionsWhoseTimeWasCorrected) {
  Live();
  Damage("UPDATE transitions SET at = at + 5000000 WHERE id = 9");
  const Verdict verdict = Check();
  EXPECT_TRUE(verdict.good()) << Table(verdict);
  EXPECT_EQ(verdict.moved, 1u);
}

TEST_F(FleetCheck, AGapThatTheAgentMadeIsNoLoss) {
  Generate(absl::Minutes(1));
  Send();
  AgentLog small(log_.epoch(), 5);
  Generate(absl::Minutes(10));
  // The same log under a bound that it has outgrown.
  for (uint64_t at = 1; at <= log_.written(); ++at) {
    small.Add(at < log_.begin() ? LoggedResult() : log_.entries()[at - log_.begin()]);
    if (at == log_.acknowledged()) {
      small.TakeFolded();
      small.Acknowledge(at);
    }
  }
  const auto folded = small.TakeFolded();
  ASSERT_TRUE(folded);
  journal_->Gap(0, folded->first, folded->last);
  log_ = small;
  Send();
  const Verdict verdict = Check();
  EXPECT_EQ(verdict.lost + verdict.uncovered + verdict.unknown + verdict.altered, 0u)
      << Table(verdict);
  EXPECT_EQ(verdict.gaps, folded->last - folded->first + 1);
}

TEST_F(FleetCheck, AnotherRunsLogIsNotJudgedByThisJournal) {
  Live();
  journal_->Flush().IgnoreError();
  JournalContents journal = *ReadJournal(JournalPath());
  journal.agents[kAgent].front().epoch = "epoch-2";
  journal.agents[kAgent].front().acknowledged = 0;
  const Verdict verdict = *CheckStore(*store_, journal);
  EXPECT_TRUE(verdict.good()) << Table(verdict);
  EXPECT_EQ(verdict.not_compared, 3u);
}

}  // namespace
}  // namespace muster::bench
