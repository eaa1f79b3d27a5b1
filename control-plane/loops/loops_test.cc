#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control-plane/loops/absence_loop.h"
#include "control-plane/loops/alert_loop.h"
#include "control-plane/loops/retention_loop.h"
#include "control-plane/loops/runner.h"
#include "control-plane/store/observations.h"
#include "lib/testing/servers.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

// A store with one agent, one check and one receiver, and the loops over it.
class LoopsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::OpenInMemory();
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    Join("web-1");
    ApplyCheck();
    v1::Document receiver;
    receiver.set_api_version("muster/v1");
    receiver.set_kind("Receiver");
    receiver.mutable_metadata()->set_name("oncall");
    receiver.mutable_receiver()->mutable_webhook()->set_url("http://127.0.0.1:1/");
    Apply(receiver);
    epoch_ = Connect();
    Restart();
  }

  AuditNote Note() const { return {.actor = "admin/test", .action = "test", .at = now_}; }

  void Join(const std::string& name) {
    const TokenRow token{
        .hash = std::string(32, 't'), .agent = name, .expires_at = now_ + absl::Hours(1)};
    ASSERT_TRUE(store_->identity().SaveToken(token, Note()).ok());
    const CertificateRow certificate{.fingerprint = "f-" + name,
                                     .role = v1::ROLE_AGENT,
                                     .name = name,
                                     .serial = "1",
                                     .not_before = now_,
                                     .not_after = now_ + absl::Hours(24 * 30),
                                     .der = "der",
                                     .public_key = "key"};
    const auto redeemed = store_->identity().RedeemToken(token.hash, certificate, now_, Note());
    ASSERT_TRUE(redeemed.ok()) << redeemed.status();
  }

  void Apply(const v1::Document& document) {
    const auto applied = store_->specs().Apply({document}, Note());
    ASSERT_TRUE(applied.ok()) << applied.status();
  }

  void ApplyCheck() {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Check");
    document.mutable_metadata()->set_name("api");
    v1::CheckSpec& check = *document.mutable_check();
    *check.mutable_every() = wire::ToProto(absl::Seconds(10));
    *check.mutable_timeout() = wire::ToProto(absl::Seconds(2));
    check.mutable_probe()->mutable_tcp();
    Apply(document);
    const auto id = store_->specs().CheckId("api");
    ASSERT_TRUE(id.ok());
    check_ = *id;
  }

  uint64_t Connect() {
    const auto opened = store_->sessions().Open({.agent = "web-1",
                                                 .replica = "r1",
                                                 .version = "1",
                                                 .boot_id = "b",
                                                 .log_epoch = "log",
                                                 .now = now_});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? opened->epoch : 0;
  }
  void Disconnect() { ASSERT_TRUE(store_->sessions().Close({{"web-1", epoch_, now_, now_}}).ok()); }

  BatchCommit NextBatch() {
    BatchCommit batch{.agent = "web-1",
                      .session_epoch = epoch_,
                      .log_epoch = "log",
                      .expected_committed = sequence_,
                      .first_sequence = sequence_ + 1,
                      .last_sequence = sequence_ + 1,
                      .first_observed_at = now_,
                      .filed_at = now_,
                      .results = 1,
                      .payload = "frame"};
    batch.states_epoch = store_->history().SessionStates("web-1")->epoch;
    batch.observations = PackObservations({{check_, now_, absl::ZeroDuration()}});
    return batch;
  }

  void Commit(const BatchCommit& batch) {
    const auto committed = store_->history().Commit({batch}, now_);
    ASSERT_TRUE(committed.ok()) << committed.status();
    ASSERT_TRUE(committed->at(0).ok()) << committed->at(0);
    ++sequence_;
  }

  // A result that says what is believed already: it writes no row.
  void ObserveQuietly() { Commit(NextBatch()); }

  // What ingest stores when a check's state becomes `to`.
  void Observe(v1::CheckStatus to, bool hard = true) {
    BatchCommit batch = NextBatch();
    batch.states = {{.agent = "web-1",
                     .check_id = check_,
                     .status = to,
                     .hard = hard,
                     .hard_status = to,
                     .since = now_,
                     .observed_at = now_,
                     .summary = "saw it",
                     .last_failure_at = absl::InfinitePast()}};
    batch.transitions = {{.agent = "web-1",
                          .check_id = check_,
                          .from = shown_,
                          .to = to,
                          .hard = hard,
                          .at = now_,
                          .recorded_at = now_,
                          .summary = "saw it",
                          .reason = "3 of 3 failures"}};
    Commit(batch);
    shown_ = to;
  }

  void Pass(absl::Duration time) { now_ += time; }

  // New loops over the same store: a restart.
  void Restart() {
    presence_.emplace(*store_, kStart);
    AlertLoopOptions alerts;
    alerts.on_told = [this] { ++told_; };
    alerts.on_counts = [this](const AlertCounts& counts) { counts_ = counts; };
    alert_loop_ = std::make_unique<AlertLoop>(*store_, epoch_of_leader_, *presence_, alerts);
    AbsenceLoopOptions absence;
    absence.on_no_data = [this](const NoDataMarks& marks) { marks_ = marks; };
    absence_loop_ = std::make_unique<AbsenceLoop>(*store_, epoch_of_leader_, *presence_, absence);
  }

  void Tick() {
    const Status absence = absence_loop_->Tick(now_);
    EXPECT_TRUE(absence.ok()) << absence;
    const Status alert = alert_loop_->Tick(now_);
    EXPECT_TRUE(alert.ok()) << alert;
  }

  // "FIRING check/api on web-1", newest first.
  std::vector<std::string> Alerts() {
    const auto rows = store_->alerts().List({.resolved_since = absl::InfinitePast()},
                                            absl::InfiniteFuture(), "", 100);
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<std::string> out;
    for (const AlertRow& row : *rows) {
      out.push_back(fmt::format("{} {}", v1::AlertState_Name(row.state).substr(12), row.name));
    }
    return out;
  }
  // "raised check/api on web-1", in the order of telling.
  std::vector<std::string> Told() {
    const auto rows = store_->alerts().List({.resolved_since = absl::InfinitePast()},
                                            absl::InfiniteFuture(), "", 100);
    std::map<uint64_t, std::string> by_id;
    for (const AlertRow& row : *rows) {
      const auto deliveries = store_->alerts().Deliveries(row.id);
      for (const OutboxRow& delivery : *deliveries) {
        by_id[delivery.id] = fmt::format("{} {}", delivery.event, row.name);
      }
    }
    std::vector<std::string> out;
    for (const auto& [id, text] : by_id) out.push_back(text);
    return out;
  }
  v1::CheckStatus StateNow() {
    const auto states = store_->history().StatesOf("web-1");
    return states.ok() && !states->empty() ? states->at(0).status : v1::CHECK_STATUS_UNSPECIFIED;
  }

  absl::Time now_ = kStart;
  std::unique_ptr<Store> store_;
  uint32_t check_ = 0;
  uint64_t epoch_ = 0;
  uint64_t sequence_ = 0;
  v1::CheckStatus shown_ = v1::CHECK_STATUS_NO_DATA;
  std::optional<Presence> presence_;
  std::unique_ptr<AlertLoop> alert_loop_;
  std::unique_ptr<AbsenceLoop> absence_loop_;
  LeaderEpoch epoch_of_leader_;  // 0, as the lease of a new store
  int told_ = 0;
  AlertCounts counts_;
  NoDataMarks marks_;
};

TEST_F(LoopsTest, TellOnceOfEachChange) {
  Observe(v1::CHECK_STATUS_OK);
  Tick();
  EXPECT_THAT(Alerts(), IsEmpty());
  Pass(absl::Seconds(10));
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("FIRING check/api on web-1"));
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1"));
  EXPECT_EQ(told_, 1);
  EXPECT_EQ(counts_.alerts_firing, 1U);
  EXPECT_EQ(counts_.agents_connected, 1U);
  EXPECT_EQ(counts_.outbox.waiting, 1U);
  Pass(absl::Seconds(10));
  Observe(v1::CHECK_STATUS_OK);
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED check/api on web-1"));
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1", "resolved check/api on web-1"));
  EXPECT_EQ(counts_.alerts_firing, 0U);
}

TEST_F(LoopsTest, GoOnAfterARestartWithoutTellingTwice) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  Restart();
  Tick();
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1"));
  Pass(absl::Seconds(10));
  Observe(v1::CHECK_STATUS_OK);
  Restart();
  Tick();
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1", "resolved check/api on web-1"));
}

TEST_F(LoopsTest, SmallBatchesLeadToTheSame) {
  AlertLoop small(*store_, epoch_of_leader_, *presence_, {.batch = 1});
  for (const auto status :
       {v1::CHECK_STATUS_CRITICAL, v1::CHECK_STATUS_OK, v1::CHECK_STATUS_WARNING}) {
    Pass(absl::Seconds(10));
    Observe(status);
  }
  ASSERT_TRUE(small.Tick(now_).ok());
  EXPECT_THAT(Alerts(), ElementsAre("FIRING check/api on web-1", "RESOLVED check/api on web-1"));
}

TEST_F(LoopsTest, SayWhenAnAgentIsAbsentAndWhenItIsBack) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  Pass(absl::Minutes(5));
  Disconnect();
  Pass(absl::Seconds(6));
  Tick();
  EXPECT_EQ(StateNow(), v1::CHECK_STATUS_CRITICAL);
  Pass(absl::Seconds(2));
  Tick();
  EXPECT_EQ(StateNow(), v1::CHECK_STATUS_NO_DATA);
  EXPECT_THAT(Alerts(), ElementsAre("FIRING check/api on web-1")) << "no data resolves nothing";
  Pass(absl::Seconds(23));
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("FIRING agent/web-1 absent", "FIRING check/api on web-1"));
  Pass(absl::Seconds(5));
  epoch_ = Connect();
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED agent/web-1 absent", "FIRING check/api on web-1"));
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1", "raised agent/web-1 absent",
                                  "resolved agent/web-1 absent"));
}

TEST_F(LoopsTest, SayWhenDataIsLateAlthoughTheAgentIsConnected) {
  Observe(v1::CHECK_STATUS_OK);
  Tick();
  Pass(absl::Seconds(42));
  Tick();
  EXPECT_EQ(StateNow(), v1::CHECK_STATUS_OK);
  Pass(absl::Seconds(2));
  Tick();
  EXPECT_EQ(StateNow(), v1::CHECK_STATUS_NO_DATA);
  EXPECT_THAT(marks_.agents, ElementsAre("web-1"));
  EXPECT_EQ(marks_.states, 1U);
  EXPECT_THAT(Alerts(), ElementsAre("FIRING check/api on web-1: no data"));
  Pass(absl::Seconds(1));
  Observe(v1::CHECK_STATUS_OK);
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED check/api on web-1: no data"));
}

TEST_F(LoopsTest, AreNotFooledByRowsThatSteadyResultsDoNotWrite) {
  Observe(v1::CHECK_STATUS_OK);
  Presence presence(*store_, kStart);
  AbsenceLoop loop(*store_, epoch_of_leader_, presence, {});
  ASSERT_TRUE(loop.Tick(now_).ok());
  Pass(absl::Hours(1));
  ObserveQuietly();
  Pass(absl::Seconds(7));
  ASSERT_TRUE(loop.Tick(now_).ok());
  EXPECT_EQ(StateNow(), v1::CHECK_STATUS_OK);
}

TEST_F(LoopsTest, ResolveTheAlertsOfADeletedCheck) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  ASSERT_TRUE(store_->specs().Delete({{"Check", "api"}}, Note()).ok());
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED check/api on web-1"));
  EXPECT_THAT(Told(), ElementsAre("raised check/api on web-1", "resolved check/api on web-1"));
}

TEST_F(LoopsTest, ResolveTheAlertsOfACheckThatNoLongerRunsThere) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  ASSERT_TRUE(store_->history().KeepOnly("web-1", {}, now_).ok());
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED check/api on web-1"));
}

TEST_F(LoopsTest, ResolveTheAlertsOfARevokedAgent) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  ASSERT_TRUE(store_->identity().Revoke(v1::ROLE_AGENT, "web-1", now_, Note()).ok());
  Pass(absl::Seconds(2));
  Tick();
  EXPECT_THAT(Alerts(), ElementsAre("RESOLVED check/api on web-1"));
}

TEST_F(LoopsTest, DropWhatIsOlderThanItIsKept) {
  Observe(v1::CHECK_STATUS_CRITICAL);
  Tick();
  Pass(absl::Seconds(10));
  Observe(v1::CHECK_STATUS_OK);
  Tick();
  RetentionLoop retention(*store_, epoch_of_leader_, {.batch = 1});
  ASSERT_TRUE(retention.Tick(now_ + absl::Hours(13 * 24)).ok());
  EXPECT_EQ(store_->history().HistorySize()->segments, 2U);
  ASSERT_TRUE(retention.Tick(now_ + absl::Hours(15 * 24)).ok());
  EXPECT_EQ(store_->history().HistorySize()->segments, 0U);
  EXPECT_EQ(Alerts().size(), 1U);
  ASSERT_TRUE(retention.Tick(now_ + absl::Hours(366 * 24)).ok());
  EXPECT_THAT(Alerts(), IsEmpty());
}

TEST(Runner, GoesOnAfterFailures) {
  ManualClock clock;
  std::atomic<int> ticks = 0;
  Runner runner("test", absl::Milliseconds(1), clock, [&](absl::Time now) {
    EXPECT_EQ(now, clock.Now());
    return ++ticks < 3 ? Unavailable("the store is away") : OkStatus();
  });
  EXPECT_TRUE(testing::Eventually([&] { return ticks >= 5; }));
  runner.Stop();
}

}  // namespace
}  // namespace muster::control
