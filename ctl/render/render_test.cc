#include <gtest/gtest.h>

#include "ctl/render/diff.h"
#include "ctl/render/history.h"
#include "ctl/render/json.h"
#include "ctl/render/table.h"
#include "lib/wire/time.h"
#include "muster/v1/alert_service.pb.h"
#include "muster/v1/identity.pb.h"
#include "muster/v1/state_service.pb.h"

namespace muster::ctl {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::State State(v1::CheckStatus status, const std::string& check) {
  v1::State state;
  state.set_check(check);
  state.set_agent("db-1");
  state.set_state(status);
  state.set_hard(true);
  *state.mutable_since() = wire::ToProto(kNow - absl::Minutes(5));
  *state.mutable_observed_at() = wire::ToProto(kNow - absl::Seconds(3));
  state.set_summary("HTTP 200");
  *state.mutable_latency() = wire::ToProto(absl::Milliseconds(12));
  return state;
}

TEST(Json, AStateHasTheKeysThatScriptsRelyOn) {
  const Json json = ToJson(State(v1::CHECK_STATUS_OK, "api"));
  EXPECT_EQ(json["check"], "api");
  EXPECT_EQ(json["agent"], "db-1");
  EXPECT_EQ(json["state"], "OK");
  EXPECT_EQ(json["hard"], true);
  EXPECT_EQ(json["since"], "2027-01-15T07:55:00Z");
  EXPECT_EQ(json["observedAt"], "2027-01-15T07:59:57Z");
  EXPECT_EQ(json["summary"], "HTTP 200");
  EXPECT_EQ(json["latency"], "12ms");
}

TEST(Json, AnAgentHasThemEvenWhenNothingIsKnown) {
  v1::Agent agent;
  agent.set_name("db-1");
  const Json json = ToJson(agent);
  for (const char* key : {"name", "labels", "connected", "lastSeenAt", "version", "logEpoch",
                          "committedSeq", "gaps"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_TRUE(json["lastSeenAt"].is_null());
  EXPECT_TRUE(json["gaps"].is_array());
  EXPECT_TRUE(json["committedSeq"].is_number());
}

TEST(Json, AnOpenAlertHasNoEnd) {
  v1::Alert alert;
  alert.set_state(v1::ALERT_STATE_FIRING);
  alert.set_severity(v1::SEVERITY_CRITICAL);
  const Json json = ToJson(alert);
  EXPECT_EQ(json["state"], "FIRING");
  EXPECT_EQ(json["severity"], "critical");
  EXPECT_TRUE(json["resolvedAt"].is_null());
}

TEST(Json, NoDataKeepsItsUnderscore) {
  EXPECT_EQ(ToJson(State(v1::CHECK_STATUS_NO_DATA, "x"))["state"], "NO_DATA");
}

TEST(Table, ColumnsAreAligned) {
  Json items = Json::array();
  items.push_back(ToJson(State(v1::CHECK_STATUS_OK, "api")));
  items.push_back(ToJson(State(v1::CHECK_STATUS_CRITICAL, "a-longer-name")));
  const std::string text = TableText(FindKind("states")->columns, items, {.now = kNow});
  EXPECT_EQ(text,
            "CHECK          AGENT  STATE     HARD  SINCE  OBSERVED  SUMMARY\n"
            "api            db-1   OK        yes   5m     3s        HTTP 200\n"
            "a-longer-name  db-1   CRITICAL  yes   5m     3s        HTTP 200\n");
}

TEST(Table, ControlCharactersNeverReachTheTerminal) {
  v1::State state = State(v1::CHECK_STATUS_OK, "api");
  state.set_summary("\x1b[2Jgone\n");
  Json items = Json::array();
  items.push_back(ToJson(state));
  EXPECT_EQ(TableText(FindKind("states")->columns, items, {.now = kNow}).find('\x1b'),
            std::string::npos);
}

TEST(Table, NamesAreKindAndName) {
  Json item = ToJson(State(v1::CHECK_STATUS_OK, "api"));
  EXPECT_EQ(NameText(*FindKind("state"), item), "state/api/db-1\n");
  EXPECT_EQ(FindKind("nonsense"), nullptr);
}

TEST(History, AGapIsAHoleAndNotAResult) {
  v1::HistoryEntry entry;
  entry.set_seq(9);
  entry.mutable_gap()->set_first(5);
  entry.mutable_gap()->set_last(9);
  entry.mutable_gap()->set_reason(v1::Gap::REASON_DISK_FULL);
  const Json json = HistoryJson(entry);
  EXPECT_EQ(json["gap"]["first"], 5);
  EXPECT_EQ(json["gap"]["reason"], "DISK_FULL");
  EXPECT_FALSE(json.contains("state"));
}

TEST(Diff, ShowsWhatGoesAndWhatComes) {
  EXPECT_EQ(DiffText("api", "a\nb\n", "a\nb\n"), "");
  const std::string diff = DiffText("api", "a\nb\n", "a\nc\n");
  EXPECT_NE(diff.find("-b"), std::string::npos);
  EXPECT_NE(diff.find("+c"), std::string::npos);
}

}  // namespace
}  // namespace muster::ctl
