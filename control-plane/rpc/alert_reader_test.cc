#include "control-plane/rpc/alert_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::control {
namespace {

using ::testing::ElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class AlertReader : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::OpenInMemory();
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }

  void Put(const std::string& id, v1::AlertState state, absl::Time started_at,
           absl::Time resolved_at = absl::InfiniteFuture()) {
    AlertDecision decision;
    decision.alerts = {{.id = id,
                        .key = "check/web-1/" + id,
                        .name = "check/api on web-1",
                        .severity = v1::SEVERITY_CRITICAL,
                        .state = state,
                        .check = "api",
                        .agent = "web-1",
                        .started_at = started_at,
                        .fired_at = started_at,
                        .resolved_at = resolved_at}};
    decision.events = {{id, started_at, "firing", "3 of 3 failures"}};
    decision.outbox = {{.alert_id = id,
                        .receiver = "oncall",
                        .event = "raised",
                        .created_at = started_at,
                        .next_attempt_at = started_at,
                        .delivered_at = absl::InfinitePast()}};
    ASSERT_TRUE(store_->alerts().Apply(LeaderEpoch{}, decision).ok());
  }

  std::vector<std::string> List(const v1::ListAlertsRequest& request, std::string* next = nullptr) {
    v1::ListAlertsResponse response;
    const Status status = ListAlerts(store_->alerts(), request, kNow, response);
    EXPECT_TRUE(status.ok()) << status;
    std::vector<std::string> ids;
    for (const v1::Alert& alert : response.items()) ids.push_back(alert.id());
    if (next != nullptr) *next = response.next_page_token();
    return ids;
  }

  std::unique_ptr<Store> store_;
};

TEST_F(AlertReader, ListsWhatIsOpenAndWhatWasResolvedToday) {
  Put("a", v1::ALERT_STATE_FIRING, kNow - absl::Hours(90));
  Put("b", v1::ALERT_STATE_RESOLVED, kNow - absl::Hours(80), kNow - absl::Hours(25));
  Put("c", v1::ALERT_STATE_RESOLVED, kNow - absl::Hours(70), kNow - absl::Hours(2));
  Put("d", v1::ALERT_STATE_PENDING, kNow - absl::Hours(1));
  EXPECT_THAT(List({}), ElementsAre("d", "c", "a"));
  v1::ListAlertsRequest resolved;
  resolved.add_state(v1::ALERT_STATE_RESOLVED);
  EXPECT_THAT(List(resolved), ElementsAre("c", "b"));
}

TEST_F(AlertReader, PagesThroughAllOfThemOnce) {
  for (const char* id : {"a", "b", "c", "d", "e"}) {
    Put(id, v1::ALERT_STATE_FIRING, kNow - absl::Minutes(id[0] < 'c' ? 2 : 1));
  }
  v1::ListAlertsRequest request;
  request.set_page_size(2);
  std::vector<std::string> all;
  for (int page = 0; page < 10; ++page) {
    std::string next;
    for (const std::string& id : List(request, &next)) all.push_back(id);
    if (next.empty()) break;
    request.set_page_token(next);
  }
  EXPECT_THAT(all, ::testing::UnorderedElementsAre("a", "b", "c", "d", "e"));
}

TEST_F(AlertReader, RefusesPageTokensOfOthers) {
  v1::ListAlertsRequest request;
  request.set_page_token("nonsense!");
  v1::ListAlertsResponse response;
  EXPECT_TRUE(absl::IsInvalidArgument(ListAlerts(store_->alerts(), request, kNow, response)));
}

TEST_F(AlertReader, ExplainsEventsAndDeliveries) {
  Put("a", v1::ALERT_STATE_FIRING, kNow);
  v1::ExplainAlertRequest request;
  request.set_id("a");
  v1::ExplainAlertResponse response;
  ASSERT_TRUE(ExplainAlert(store_->alerts(), request, response).ok());
  EXPECT_EQ(response.alert().name(), "check/api on web-1");
  ASSERT_EQ(response.events_size(), 1);
  EXPECT_EQ(response.events(0).reason(), "3 of 3 failures");
  ASSERT_EQ(response.deliveries_size(), 1);
  EXPECT_EQ(response.deliveries(0).state(), "waiting");
  EXPECT_EQ(response.deliveries(0).receiver(), "oncall");
}

TEST_F(AlertReader, SaysWhatItDoesNotKnow) {
  v1::ExplainAlertRequest request;
  request.set_id("none");
  v1::ExplainAlertResponse response;
  EXPECT_TRUE(absl::IsNotFound(ExplainAlert(store_->alerts(), request, response)));
}

}  // namespace
}  // namespace muster::control
