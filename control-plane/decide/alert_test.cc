#include "control-plane/decide/alert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/random.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);
constexpr auto kOk = v1::CHECK_STATUS_OK;
constexpr auto kWarning = v1::CHECK_STATUS_WARNING;
constexpr auto kCritical = v1::CHECK_STATUS_CRITICAL;
constexpr auto kUnknown = v1::CHECK_STATUS_UNKNOWN;
constexpr auto kNoData = v1::CHECK_STATUS_NO_DATA;

// A control plane in memory: rounds over the decision's own effects.
class Plane {
 public:
  Plane() {
    facts_.checks[1] = {"api", "people cannot buy", "https://runbooks.example.org/api"};
    facts_.checks[2] = {"disk", "", ""};
    facts_.agents["web-1"] = {.connected = true};
    facts_.receivers = {"oncall"};
  }

  Plane& See(v1::CheckStatus to, bool hard, std::string reason = "because", uint32_t check = 1) {
    now_ += absl::Seconds(10);
    facts_.transitions.push_back({.id = ++last_id_,
                                  .agent = "web-1",
                                  .check_id = check,
                                  .to = to,
                                  .hard = hard,
                                  .at = now_ - absl::Seconds(1),
                                  .summary = "saw it",
                                  .reason = std::move(reason)});
    return *this;
  }
  Plane& Soft(v1::CheckStatus to) { return See(to, false); }
  Plane& Hard(v1::CheckStatus to) { return See(to, true); }
  Plane& Late() { return See(kNoData, true, "late: no result"); }

  AlertDecision Decide() {
    now_ += absl::Seconds(1);
    AlertDecision decision = DecideAlerts(facts_, now_);
    for (const AlertRow& alert : decision.alerts) all_[alert.id] = alert;
    facts_.open.clear();
    for (const auto& [id, alert] : all_) {
      if (alert.state != v1::ALERT_STATE_RESOLVED) facts_.open.push_back(alert);
    }
    for (const OutboxRow& row : decision.outbox) told_.push_back(row);
    for (const AlertEventRow& event : decision.events) events_.push_back(event);
    facts_.cursor = decision.new_cursor;
    facts_.transitions.clear();
    return decision;
  }

  // "raised critical check/api on web-1", in order, and forgets them.
  std::vector<std::string> Told() {
    std::vector<std::string> out;
    for (const OutboxRow& row : told_) {
      v1::Alert alert;
      EXPECT_TRUE(alert.ParseFromString(row.payload));
      out.push_back(fmt::format("{} {} {}", row.event,
                                alert.severity() == v1::SEVERITY_CRITICAL ? "critical" : "warning",
                                alert.name()));
    }
    told_.clear();
    return out;
  }
  std::vector<v1::AlertState> States() const {
    std::vector<v1::AlertState> out;
    for (const auto& [id, alert] : all_) out.push_back(alert.state);
    return out;
  }
  std::string LastReason() const { return events_.empty() ? "" : events_.back().reason; }
  AgentPresence& agent() { return facts_.agents["web-1"]; }
  void Leave() {
    agent() = {.connected = false, .absent = true, .silent_since = now_ - absl::Seconds(31)};
  }
  void ComeBack() { agent() = {.connected = true}; }

  AlertFacts facts_;
  absl::Time now_ = kStart;
  uint64_t last_id_ = 0;
  std::map<std::string, AlertRow> all_;
  std::vector<OutboxRow> told_;
  std::vector<AlertEventRow> events_;
};

TEST(Alert, IsPendingAndUntoldWhileUnconfirmed) {
  Plane plane;
  plane.Soft(kCritical).Decide();
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_PENDING));
  EXPECT_THAT(plane.Told(), IsEmpty());
}

TEST(Alert, FiresWhenConfirmedUnderTheSameId) {
  Plane plane;
  const std::string id = plane.Soft(kCritical).Decide().alerts.at(0).id;
  const AlertDecision fired = plane.Hard(kCritical).Decide();
  EXPECT_EQ(fired.alerts.at(0).id, id);
  EXPECT_EQ(fired.alerts.at(0).started_at, kStart + absl::Seconds(9));
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical check/api on web-1"));
  EXPECT_EQ(fired.alerts.at(0).runbook, "https://runbooks.example.org/api");
}

TEST(Alert, HasTheSeverityOfWhatWasSeen) {
  for (const auto& [status, word] : std::vector<std::pair<v1::CheckStatus, std::string>>{
           {kCritical, "critical"}, {kWarning, "warning"}, {kUnknown, "warning"}}) {
    Plane plane;
    plane.Hard(status).Decide();
    EXPECT_THAT(plane.Told(), ElementsAre("raised " + word + " check/api on web-1"));
  }
}

TEST(Alert, TellsEveryReceiver) {
  Plane plane;
  plane.facts_.receivers = {"oncall", "team"};
  const auto decision = plane.Hard(kCritical).Decide();
  ASSERT_EQ(decision.outbox.size(), 2U);
  EXPECT_EQ(decision.outbox[0].receiver, "oncall");
  EXPECT_EQ(decision.outbox[1].receiver, "team");
}

TEST(Alert, TellsSeveralTransitionsOfARoundInOrder) {
  Plane plane;
  plane.Hard(kWarning).Hard(kCritical).Soft(kOk).Hard(kOk).Hard(kCritical).Decide();
  EXPECT_THAT(
      plane.Told(),
      ElementsAre("raised warning check/api on web-1", "changed critical check/api on web-1",
                  "resolved critical check/api on web-1", "raised critical check/api on web-1"));
  EXPECT_EQ(plane.States().size(), 2U);
}

TEST(Alert, KeepsFalseAlarmsToItself) {
  Plane plane;
  plane.Soft(kCritical).Decide();
  plane.Hard(kOk).Decide();
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_RESOLVED));
  EXPECT_THAT(plane.Told(), IsEmpty());
  EXPECT_THAT(plane.LastReason(), HasSubstr("false alarm"));
}

TEST(Alert, IsNotResolvedByASoftOk) {
  Plane plane;
  plane.Hard(kCritical).Soft(kOk).Decide();
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_FIRING));
}

TEST(Alert, IsNotResolvedByNoData) {
  Plane plane;
  plane.Hard(kCritical).Hard(kNoData).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical check/api on web-1"));
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_FIRING));
}

TEST(Alert, SaysWhenDataIsLateAndWhenItComesAgain) {
  Plane plane;
  plane.Late().Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised warning check/api on web-1: no data"));
  plane.Soft(kOk).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved warning check/api on web-1: no data"));
}

TEST(Alert, OfAnAbsentAgentIsOneAndQuietensTheOthers) {
  Plane plane;
  plane.Leave();
  plane.Hard(kNoData).Hard(kCritical).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical agent/web-1 absent"));
  EXPECT_THAT(plane.LastReason(), HasSubstr("nobody is told while agent/web-1 absent"));
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty()) << "an absence is told once";

  plane.ComeBack();
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical agent/web-1 absent",
                                        "raised critical check/api on web-1"));
}

TEST(Alert, InhibitedAndResolvedMeanwhileIsNeverTold) {
  Plane plane;
  plane.Leave();
  plane.Hard(kCritical).Decide();
  plane.ComeBack();
  plane.Hard(kOk).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical agent/web-1 absent",
                                        "resolved critical agent/web-1 absent"));
}

TEST(Alert, ToldBeforeAnAbsenceIsResolvedAloud) {
  Plane plane;
  plane.Hard(kCritical).Decide();
  plane.Leave();
  plane.Decide();
  plane.Told();
  plane.ComeBack();
  plane.Hard(kOk).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical check/api on web-1",
                                        "resolved critical agent/web-1 absent"));
}

TEST(Alert, IsToldWhenTheFirstReceiverComes) {
  Plane plane;
  plane.facts_.receivers.clear();
  plane.Hard(kCritical).Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  plane.facts_.receivers = {"oncall"};
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical check/api on web-1"));
}

TEST(Alert, ResolvesWithTheReasonWhenItsSubjectGoes) {
  const auto after = [](const std::function<void(Plane&)>& change) {
    Plane plane;
    plane.Hard(kCritical).Decide();
    plane.Told();
    change(plane);
    plane.Decide();
    EXPECT_THAT(plane.Told(), ElementsAre("resolved critical check/api on web-1"));
    return plane.LastReason();
  };
  EXPECT_EQ(after([](Plane& p) { p.facts_.checks.erase(1); }), "check api was deleted");
  EXPECT_EQ(after([](Plane& p) { p.agent().revoked = true; }), "agent web-1 was revoked");
  EXPECT_EQ(after([](Plane& p) {
              p.facts_.removed = {{"web-1", 1}};
            }),
            "check api no longer runs on web-1");
}

TEST(Alert, OfAnAbsenceResolvesWhenTheAgentIsRevoked) {
  Plane plane;
  plane.Leave();
  plane.Decide();
  plane.agent().revoked = true;
  plane.Decide();
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_RESOLVED));
}

TEST(Alert, OfAJobFollowsItsNewestSlot) {
  Plane plane;
  JobNote& job = plane.facts_.jobs["nightly"];
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  job.health = {"run-1", kStart, v1::RUN_STATE_FAILED, "exit code 3", kStart};
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical job/nightly"));
  job.health = {"run-2", kStart, v1::RUN_STATE_MISSED, "no agent", kStart};
  plane.Decide();
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  EXPECT_EQ(plane.facts_.open.at(0).summary, "missed: no agent");
  job.health.state = v1::RUN_STATE_SUCCEEDED;
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical job/nightly"));
  EXPECT_EQ(plane.LastReason(), "run run-2 succeeded");
}

TEST(Alert, OfALateJobLastsUntilItsRunWaitsNoLonger) {
  Plane plane;
  JobNote& job = plane.facts_.jobs["nightly"];
  job.waits_since = plane.now_;
  job.waits_why = "no agent is connected";
  plane.now_ += kLateAfter - absl::Seconds(1);
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised warning job/nightly late"));
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  job.waits_since = absl::InfiniteFuture();
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved warning job/nightly late"));
}

TEST(Alert, OfAJobIsRaisedByWhatNobodyKnowsAndEndsWithTheJob) {
  Plane plane;
  plane.facts_.jobs["nightly"].health = {"run-1", kStart, v1::RUN_STATE_UNKNOWN, "killed", kStart};
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical job/nightly"));
  plane.facts_.jobs.clear();
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical job/nightly"));
  EXPECT_EQ(plane.LastReason(), "job nightly was deleted");
}

TEST(Alert, OfBackupsLastsUntilTheyAreWell) {
  Plane plane;
  JobNote& job = plane.facts_.jobs["nightly"];
  job.changed_at = plane.now_;
  job.backup.emplace();
  job.backup->mutable_verified_within()->set_seconds(3600);
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  job.keep_problem = "refused";
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised warning backup/nightly"));
  plane.now_ += absl::Hours(2);
  plane.Decide();
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("changed critical backup/nightly"));
  EXPECT_EQ(plane.facts_.open.at(0).summary,
            "no verified backup is younger than 1h: there is none");
  job.keep_problem.clear();
  job.backups = {.kept = 1, .verified = 1, .newest_at = plane.now_, .verified_at = plane.now_};
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical backup/nightly"));
}

TEST(Alert, LooksAtEachCheckOnItsOwn) {
  Plane plane;
  plane.See(kCritical, true, "a", 1).See(kWarning, true, "b", 2).See(kOk, true, "c", 1).Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical check/api on web-1",
                                        "raised warning check/disk on web-1",
                                        "resolved critical check/api on web-1"));
}

TEST(Alert, DecidesNothingWhenNothingHappens) {
  Plane plane;
  EXPECT_TRUE(control::IsEmpty(plane.Decide()));
  plane.Hard(kCritical).Decide();
  EXPECT_TRUE(control::IsEmpty(plane.Decide()));
}

TEST(Alert, MovesItsCursorToTheLastTransition) {
  Plane plane;
  const AlertDecision decision = plane.Hard(kOk).Hard(kOk).Decide();
  EXPECT_EQ(decision.expected_cursor, 0U);
  EXPECT_EQ(decision.new_cursor, 2U);
}

std::string Bytes(const AlertDecision& decision) {
  std::string out = fmt::format("{} {}\n", decision.expected_cursor, decision.new_cursor);
  for (const AlertRow& a : decision.alerts) {
    out += fmt::format("{} {} {} {} {} {} {}\n", a.id, a.key, static_cast<int>(a.state),
                       static_cast<int>(a.severity), absl::ToUnixMicros(a.resolved_at), a.told,
                       a.inhibited_by);
  }
  for (const AlertEventRow& e : decision.events) out += e.alert_id + e.what + e.reason + "\n";
  for (const OutboxRow& o : decision.outbox)
    out += o.alert_id + o.receiver + o.event + o.payload + "\n";
  return out;
}

// One random step of a plane's life.
void Step(Plane& plane, Random& random) {
  constexpr v1::CheckStatus kStatuses[] = {kOk, kOk, kWarning, kCritical, kUnknown, kNoData};
  switch (random.Below(uint64_t{8})) {
    case 0: plane.Leave(); break;
    case 1: plane.ComeBack(); break;
    case 2:
      plane.See(kNoData, true, "late: nothing",
                1 + static_cast<uint32_t>(random.Below(uint64_t{2})));
      break;
    default: {
      const v1::CheckStatus to = kStatuses[random.Below(uint64_t{6})];
      plane.See(to, to == kNoData || random.Below(uint64_t{2}) == 0, "r",
                1 + static_cast<uint32_t>(random.Below(uint64_t{2})));
    }
  }
}

TEST(AlertLaw, RaisedAndResolvedTakeTurns) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const auto random = SeededRandom(seed);
    Plane plane;
    for (int round = 0; round < 40; ++round) {
      for (uint64_t steps = random->Below(uint64_t{4}); steps > 0; --steps) Step(plane, *random);
      plane.Decide();
    }
    std::map<std::string, std::string> last;
    for (const OutboxRow& row : plane.told_) {
      const std::string before = last[row.alert_id];
      if (row.event == "raised") {
        EXPECT_EQ(before, "") << "seed " << seed;
      } else {
        EXPECT_TRUE(before == "raised" || before == "changed") << "seed " << seed << row.event;
      }
      last[row.alert_id] = row.event;
    }
    std::map<std::string, int> open_of_key;
    for (const auto& [id, alert] : plane.all_) {
      EXPECT_EQ(alert.told, last.contains(id)) << "seed " << seed;
      if (alert.state == v1::ALERT_STATE_RESOLVED) {
        EXPECT_EQ(alert.told, last[id] == "resolved") << "seed " << seed;
        EXPECT_GE(alert.resolved_at, alert.started_at) << "seed " << seed;
      } else {
        EXPECT_EQ(++open_of_key[alert.key], 1) << "seed " << seed;
      }
    }
  }
}

TEST(AlertLaw, NothingResolvesWithoutEvidence) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const auto random = SeededRandom(seed);
    Plane plane;
    for (int round = 0; round < 40; ++round) {
      for (uint64_t steps = random->Below(uint64_t{4}); steps > 0; --steps) Step(plane, *random);
      const AlertFacts facts = plane.facts_;
      for (const AlertRow& alert : plane.Decide().alerts) {
        if (alert.state != v1::ALERT_STATE_RESOLVED) continue;
        const bool evidence =
            alert.check.empty()
                ? facts.agents.at(alert.agent).connected
                : std::any_of(facts.transitions.begin(), facts.transitions.end(),
                              [&](const auto& t) {
                                if (alert.key.starts_with("nodata/")) return t.to != kNoData;
                                return t.to == kOk && t.hard &&
                                       alert.key == fmt::format("check/web-1/{}", t.check_id);
                              });
        EXPECT_TRUE(evidence) << "seed " << seed << " " << alert.key;
      }
    }
  }
}

TEST(AlertLaw, TheSameFactsGiveTheSameBytes) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const auto random = SeededRandom(seed);
    Plane plane;
    for (int round = 0; round < 20; ++round) {
      for (uint64_t steps = random->Below(uint64_t{4}); steps > 0; --steps) Step(plane, *random);
      const AlertFacts facts = plane.facts_;
      const AlertDecision decision = plane.Decide();
      EXPECT_EQ(Bytes(decision), Bytes(DecideAlerts(facts, plane.now_))) << "seed " << seed;
    }
  }
}

TEST(Alerts, OfAReplicaThatIsLostAndComesBack) {
  Plane plane;
  plane.facts_.replicas = {{"r-a", {false, kStart, 1}}, {"r-b", {false, kStart, 4}}};
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  plane.facts_.replicas["r-b"].lost = true;
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical replica/r-b lost"));
  plane.Decide();
  EXPECT_THAT(plane.Told(), IsEmpty());
  plane.facts_.replicas["r-b"].lost = false;
  plane.Decide();
  EXPECT_THAT(plane.Told(), ElementsAre("resolved critical replica/r-b lost"));
  EXPECT_THAT(plane.States(), ElementsAre(v1::ALERT_STATE_RESOLVED));
}

TEST(Alerts, OfAReplicaThatIsForgottenResolve) {
  Plane plane;
  plane.facts_.replicas = {{"r-b", {true, kStart, 4}}};
  const AlertDecision raised = plane.Decide();
  ASSERT_EQ(raised.alerts.size(), 1U);
  EXPECT_EQ(raised.alerts[0].started_at, kStart);
  EXPECT_EQ(raised.alerts[0].check, "");
  EXPECT_EQ(raised.alerts[0].agent, "");
  EXPECT_THAT(raised.alerts[0].description, HasSubstr("musterctl delete replica r-b"));
  plane.facts_.replicas.clear();
  const AlertDecision resolved = plane.Decide();
  ASSERT_EQ(resolved.events.size(), 1U);
  EXPECT_EQ(resolved.events[0].reason, "replica r-b was forgotten");
  EXPECT_THAT(plane.Told(), ElementsAre("raised critical replica/r-b lost",
                                        "resolved critical replica/r-b lost"));
}

}  // namespace
}  // namespace muster::control
