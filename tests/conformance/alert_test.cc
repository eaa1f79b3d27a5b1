// Alerts and their outbox: one decision at a time, told in order, at least once.
#include <atomic>

#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class AlertConformance : public StoreTest {
 protected:
  AlertStore& alerts() { return store_->alerts(); }

  AlertRow Alert(const std::string& id, v1::AlertState state = v1::ALERT_STATE_FIRING) const {
    return {.id = id,
            .key = "check/web-1/" + id,
            .name = "api",
            .severity = v1::SEVERITY_CRITICAL,
            .state = state,
            .check = "api",
            .agent = "web-1",
            .started_at = now_,
            .fired_at = now_,
            .resolved_at = state == v1::ALERT_STATE_RESOLVED ? now_ : absl::InfiniteFuture(),
            .summary = "down"};
  }

  OutboxRow Telling(const std::string& alert, const std::string& receiver,
                    const std::string& event) const {
    return {.alert_id = alert,
            .receiver = receiver,
            .event = event,
            .payload = std::string("\0p", 2),
            .created_at = now_,
            .next_attempt_at = now_,
            .delivered_at = absl::InfinitePast()};
  }

  Status Apply(std::vector<AlertRow> rows, std::vector<OutboxRow> outbox = {}) {
    const uint64_t cursor = alerts().Cursor().value_or(0);
    return alerts().Apply(epoch_, {cursor, cursor + 1, std::move(rows), {}, std::move(outbox)});
  }

  std::vector<OutboxRow> DueRows(absl::Duration later = absl::ZeroDuration()) {
    const auto due = alerts().Due(now_ + later, 100);
    EXPECT_TRUE(due.ok()) << Text(due.status());
    return due.value_or(std::vector<OutboxRow>{});
  }

  // "raised a slack" …
  std::vector<std::string> Due(absl::Duration later = absl::ZeroDuration()) {
    std::vector<std::string> texts;
    for (const OutboxRow& row : DueRows(later)) {
      texts.push_back(row.event + " " + row.alert_id + " " + row.receiver);
    }
    return texts;
  }

  void Record(OutboxRow row, OutboxState state, absl::Duration again = absl::ZeroDuration()) {
    row.state = state;
    ++row.attempts;
    row.next_attempt_at = now_ + again;
    if (state == OutboxState::kDelivered) row.delivered_at = now_;
    const Status recorded = alerts().RecordAttempt(epoch_, row);
    EXPECT_TRUE(recorded.ok()) << Text(recorded);
  }
};
MUSTER_ON_EVERY_BACKEND(AlertConformance);

TEST_P(AlertConformance, ADecisionFromAnOlderCursorLeavesNothing) {
  AlertDecision decision{
      0, 7, {Alert("a")}, {{"a", now_, "firing", "because"}}, {Telling("a", "slack", "raised")}};
  ASSERT_TRUE(alerts().Apply(epoch_, decision).ok());
  EXPECT_EQ(alerts().Cursor().value_or(0), 7U);
  decision.alerts = {Alert("b")};
  EXPECT_EQ(CodeOf(alerts().Apply(epoch_, decision)), absl::StatusCode::kAborted);
  EXPECT_FALSE(alerts().Find("b")->has_value());
  EXPECT_THAT(*alerts().Events("a"), SizeIs(1));
  EXPECT_THAT(*alerts().Deliveries("a"), SizeIs(1));
  EXPECT_EQ(alerts().Cursor().value_or(0), 7U);
}

TEST_P(AlertConformance, OfManyDecidersOneIsHeard) {
  std::atomic<int> heard = 0;
  {
    std::vector<exec::Thread> deciders;
    for (int i = 0; i < 8; ++i) {
      deciders.emplace_back("decider", [&, i] {
        const std::string id = std::to_string(i);
        heard +=
            alerts().Apply(epoch_, {0, 1, {Alert(id)}, {}, {Telling(id, "slack", "raised")}}).ok();
      });
    }
  }
  EXPECT_EQ(heard, 1);
  EXPECT_THAT(*alerts().Open(), SizeIs(1));
  EXPECT_THAT(Due(), SizeIs(1));
}

TEST_P(AlertConformance, AtMostOneAlertIsOpenAKey) {
  AlertRow second = Alert("b");
  second.key = Alert("a").key;
  ASSERT_TRUE(Apply({Alert("a")}).ok());
  EXPECT_EQ(CodeOf(Apply({Alert("c"), second})), absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(alerts().Find("c")->has_value());
  // The end of the one and the beginning of the other are one decision, in any order.
  EXPECT_TRUE(Apply({second, Alert("a", v1::ALERT_STATE_RESOLVED)}).ok());
  ASSERT_THAT(*alerts().Open(), SizeIs(1));
  EXPECT_EQ((*alerts().Open())[0].id, "b");
}

TEST_P(AlertConformance, KeepsAllThatIsKnownOfAnAlert) {
  AlertRow pending = Alert("a", v1::ALERT_STATE_PENDING);
  pending.fired_at = absl::InfinitePast();
  ASSERT_TRUE(Apply({pending}).ok());
  EXPECT_EQ((*alerts().Find("a"))->fired_at, absl::InfinitePast());
  AlertRow firing = Alert("a");
  firing.told = true;
  firing.inhibited_by = "z";
  firing.runbook = "https://runbook";
  ASSERT_TRUE(Apply({firing}).ok());
  const AlertRow found = **alerts().Find("a");
  EXPECT_TRUE(found.told);
  EXPECT_EQ(found.inhibited_by, "z");
  EXPECT_EQ(found.runbook, "https://runbook");
  EXPECT_EQ(found.fired_at, now_);
  EXPECT_EQ(found.resolved_at, absl::InfiniteFuture());
  EXPECT_EQ(found.severity, v1::SEVERITY_CRITICAL);
}

TEST_P(AlertConformance, TheSecondOfAPairIsNeverDueBeforeTheFirstIsDone) {
  ASSERT_TRUE(
      Apply({Alert("a")}, {Telling("a", "slack", "raised"), Telling("a", "mail", "raised")}).ok());
  ASSERT_TRUE(Apply({Alert("a", v1::ALERT_STATE_RESOLVED)},
                    {Telling("a", "slack", "resolved"), Telling("a", "mail", "resolved")})
                  .ok());
  EXPECT_THAT(Due(), ElementsAre("raised a slack", "raised a mail"));
  const std::vector<OutboxRow> first = DueRows();
  Record(first[0], OutboxState::kWaiting, absl::Minutes(10));
  EXPECT_THAT(Due(), ElementsAre("raised a mail"));
  Record(first[1], OutboxState::kFailed);
  EXPECT_THAT(Due(), ElementsAre("resolved a mail"));
  EXPECT_THAT(Due(absl::Minutes(10)), ElementsAre("raised a slack", "resolved a mail"));
  Record(first[0], OutboxState::kDelivered);
  EXPECT_THAT(Due(), ElementsAre("resolved a slack", "resolved a mail"));
}

TEST_P(AlertConformance, OrderIsKeptByPairAndNobodyElseWaits) {
  ASSERT_TRUE(Apply({Alert("a"), Alert("b")},
                    {Telling("a", "slack", "raised"), Telling("b", "slack", "raised"),
                     Telling("a", "slack", "changed"), Telling("a", "mail", "changed")})
                  .ok());
  EXPECT_THAT(Due(), ElementsAre("raised a slack", "raised b slack", "changed a mail"));
  EXPECT_THAT(*alerts().Due(now_, 2), SizeIs(2));
  EXPECT_THAT(Due(-absl::Seconds(1)), IsEmpty());
}

TEST_P(AlertConformance, TheNextMomentIsThatOfARowThatMayBeTold) {
  EXPECT_EQ(alerts().NextDue().value_or(now_), absl::InfiniteFuture());
  ASSERT_TRUE(
      Apply({Alert("a")}, {Telling("a", "slack", "raised"), Telling("a", "slack", "changed")})
          .ok());
  EXPECT_EQ(alerts().NextDue().value_or(absl::InfinitePast()), now_);
  const OutboxRow first = DueRows()[0];
  Record(first, OutboxState::kWaiting, absl::Minutes(10));
  EXPECT_EQ(alerts().NextDue().value_or(absl::InfinitePast()), now_ + absl::Minutes(10));
  Record(first, OutboxState::kDelivered);
  EXPECT_EQ(alerts().NextDue().value_or(absl::InfinitePast()), now_);
}

TEST_P(AlertConformance, WhatWasDeliveredStaysDelivered) {
  ASSERT_TRUE(Apply({Alert("a")}, {Telling("a", "slack", "raised")}).ok());
  const OutboxRow row = DueRows()[0];
  Record(row, OutboxState::kDelivered);
  Record(row, OutboxState::kWaiting);
  EXPECT_THAT(Due(), IsEmpty());
  const std::vector<OutboxRow> deliveries = *alerts().Deliveries("a");
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(deliveries[0].state, OutboxState::kDelivered);
  EXPECT_EQ(deliveries[0].delivered_at, now_);
  EXPECT_EQ(deliveries[0].payload, std::string("\0p", 2));
}

TEST_P(AlertConformance, CountsWhatWaitsAndWhatFailed) {
  EXPECT_EQ(alerts().Counts()->oldest_waiting, absl::InfiniteFuture());
  ASSERT_TRUE(Apply({Alert("a")}, {Telling("a", "x", "raised"), Telling("a", "y", "raised"),
                                   Telling("a", "z", "raised")})
                  .ok());
  const std::vector<OutboxRow> due = DueRows();
  Record(due[0], OutboxState::kFailed);
  Record(due[1], OutboxState::kDelivered);
  const AlertStore::OutboxCounts counts = *alerts().Counts();
  EXPECT_EQ(counts.waiting, 1U);
  EXPECT_EQ(counts.failed, 1U);
  EXPECT_EQ(counts.oldest_waiting, now_);
}

TEST_P(AlertConformance, PagesStayPutWhileAlertsAreRaised) {
  for (int i = 0; i < 9; ++i) {
    AlertRow alert = Alert("id-" + std::to_string(i));
    alert.started_at = now_ + absl::Seconds(i / 3);  // three a moment
    ASSERT_TRUE(Apply({alert}).ok());
  }
  std::vector<std::string> seen;
  absl::Time before = absl::InfiniteFuture();
  for (std::string id;;) {
    const std::vector<AlertRow> page = *alerts().List({}, before, id, 2);
    if (page.empty()) break;
    for (const AlertRow& alert : page) seen.push_back(alert.id);
    before = page.back().started_at;
    id = page.back().id;
    AlertRow newer = Alert("new-" + std::to_string(seen.size()));
    newer.started_at = now_ + absl::Hours(1);
    ASSERT_TRUE(Apply({newer}).ok());
  }
  EXPECT_THAT(seen,
              ElementsAre("id-8", "id-7", "id-6", "id-5", "id-4", "id-3", "id-2", "id-1", "id-0"));
}

TEST_P(AlertConformance, ListsByStateAndAge) {
  AlertRow old = Alert("old", v1::ALERT_STATE_RESOLVED);
  old.resolved_at = now_ - absl::Hours(48);
  ASSERT_TRUE(Apply({Alert("a"), Alert("b", v1::ALERT_STATE_PENDING), old}).ok());
  const auto list = [&](AlertFilter filter) {
    return *alerts().List(filter, absl::InfiniteFuture(), "", 10);
  };
  EXPECT_THAT(list({{}, absl::InfinitePast()}), SizeIs(3));
  EXPECT_THAT(list({{}, now_ - absl::Hours(1)}), SizeIs(2));
  EXPECT_THAT(list({{v1::ALERT_STATE_PENDING}, absl::InfinitePast()}), SizeIs(1));
}

TEST_P(AlertConformance, RetentionDropsResolvedAlertsWithTheirTrailAndNoOthers) {
  AlertRow old = Alert("old", v1::ALERT_STATE_RESOLVED);
  const uint64_t cursor = *alerts().Cursor();
  ASSERT_TRUE(
      alerts()
          .Apply(epoch_, {cursor,
                          cursor,
                          {Alert("a"), old},
                          {{"old", now_, "firing", "x"}, {"a", now_, "firing", "x"}},
                          {Telling("old", "slack", "raised"), Telling("a", "slack", "raised")}})
          .ok());
  EXPECT_EQ(alerts().DropResolvedBefore(epoch_, now_, 10).value_or(9), 0U);
  EXPECT_EQ(alerts().DropResolvedBefore(epoch_, now_ + absl::Seconds(1), 10).value_or(9), 1U);
  EXPECT_FALSE(alerts().Find("old")->has_value());
  EXPECT_THAT(*alerts().Events("old"), IsEmpty());
  EXPECT_THAT(*alerts().Deliveries("old"), IsEmpty());
  EXPECT_TRUE(alerts().Find("a")->has_value());
  EXPECT_THAT(*alerts().Events("a"), SizeIs(1));
  EXPECT_THAT(*alerts().Deliveries("a"), SizeIs(1));
}

}  // namespace
}  // namespace muster::control
