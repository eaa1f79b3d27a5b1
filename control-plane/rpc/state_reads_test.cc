// Readers of states and history: what those who watch are told, and that nobody who takes his time
// costs the others theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "control-plane/rpc/state_feed.h"
#include "control-plane/rpc/test_plane.h"
#include "control-plane/store/observations.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint32_t kResults = 1000;  // a batch

// An agent whose batches are put into the store as a session would.
class StateReads : public ::testing::Test {
 protected:
  StateReads() {
    plane_.Identity(v1::ROLE_AGENT, "host-1");
    session_ = store()
                   .sessions()
                   .Open({.agent = "host-1",
                          .replica = "r-test",
                          .version = "1",
                          .boot_id = "boot",
                          .log_epoch = "log",
                          .now = now_})
                   ->epoch;
  }

  Store& store() { return plane_.store(); }
  HistoryStore& history() { return store().history(); }

  uint32_t ApplyCheck(const std::string& name) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Check");
    document.mutable_metadata()->set_name(name);
    *document.mutable_check()->mutable_every() = wire::ToProto(absl::Seconds(1));
    document.mutable_check()->mutable_probe()->mutable_http()->set_url("http://localhost/");
    EXPECT_TRUE(store().specs().Apply({document}, {"t", "spec.apply", "", "", now_}).ok());
    return *store().specs().CheckId(name);
  }

  // One result a millisecond of the check.
  void Tell(uint32_t check, const std::vector<CheckStateRow>& states, uint32_t results = kResults) {
    std::vector<v1::Record> records;
    for (uint32_t i = 0; i < results; ++i) {
      v1::Record& record = records.emplace_back();
      record.set_sequence(++sequence_);
      record.mutable_result()->set_check_id(check);
      record.mutable_result()->set_status(v1::CHECK_STATUS_OK);
      *record.mutable_result()->mutable_observed_at() = wire::ToProto(now_);
      now_ += absl::Milliseconds(1);
    }
    BatchCommit batch;
    batch.agent = "host-1";
    batch.session_epoch = session_;
    batch.log_epoch = "log";
    batch.expected_committed = sequence_ - results;
    batch.first_sequence = sequence_ - results + 1;
    batch.last_sequence = sequence_;
    batch.first_observed_at = batch.filed_at = now_;
    batch.results = results;
    batch.payload = wire::EncodeBatch(records)->payload;
    batch.states = states;
    const auto outcomes = history().Commit({batch}, now_);
    ASSERT_TRUE(outcomes.ok() && (*outcomes)[0].ok());
  }
  // The same, and how the checks stand.
  void Change(const std::vector<uint32_t>& checks, v1::CheckStatus status) {
    std::vector<CheckStateRow> states;
    for (const uint32_t check : checks) {
      CheckStateRow& row = states.emplace_back();
      row.agent = "host-1";
      row.check_id = check;
      row.status = row.hard_status = status;
      row.since = row.observed_at = now_;
      row.last_failure_at = absl::InfinitePast();
    }
    Tell(checks[0], states, 1);
  }

  TestPlane plane_;
  absl::Time now_ = absl::FromUnixSeconds(absl::ToUnixSeconds(SystemClock().Now()) - 3600);
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
};

// A reader's call, with what it takes.
struct Reading {
  explicit Reading(v1::StateService::Stub& client) {
    context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(60)));
    v1::HistoryRequest request;
    request.set_agent("host-1");
    request.set_check("api");
    stream = client.History(&context, request);
  }
  // Whether all come, in order, and nothing else.
  void ExpectAll(uint64_t last) {
    uint64_t at = 0;
    for (v1::HistoryEntry entry; stream->Read(&entry);) ASSERT_EQ(entry.seq(), ++at);
    EXPECT_EQ(at, last);
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::HistoryEntry>> stream;
};

TEST_F(StateReads, ReadersOfHistoryThatTakeTheirTimeHoldNobodyUp) {
  const uint32_t api = ApplyCheck("api");
  for (int i = 0; i < 30; ++i) Tell(api, {});
  Change({api}, v1::CHECK_STATUS_OK);
  const uint64_t told = sequence_;
  const auto client =
      v1::StateService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_VIEWER, "eve")));
  const auto slow =
      v1::StateService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_VIEWER, "less")));
  std::vector<std::unique_ptr<Reading>> readings;
  for (int i = 0; i < 12; ++i) readings.push_back(std::make_unique<Reading>(*slow));
  for (const auto& reading : readings) {  // each has begun
    v1::HistoryEntry entry;
    ASSERT_TRUE(reading->stream->Read(&entry));
  }

  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)));
  const auto watch = client->Watch(&context, v1::WatchRequest());
  v1::WatchEvent event;
  ASSERT_TRUE(watch->Read(&event));
  ASSERT_TRUE(watch->Read(&event));
  EXPECT_TRUE(event.synced());
  Change({api}, v1::CHECK_STATUS_CRITICAL);
  ASSERT_TRUE(watch->Read(&event)) << "a watcher waits for readers of history";
  EXPECT_EQ(event.state().state(), v1::CHECK_STATUS_CRITICAL);
  context.TryCancel();
  watch->Finish();
  Reading(*client).ExpectAll(told + 1);

  // And who was slow misses nothing, once he reads on.
  v1::HistoryEntry entry;
  for (uint64_t at = 2; readings[0]->stream->Read(&entry); ++at) ASSERT_EQ(entry.seq(), at);
  EXPECT_GE(entry.seq(), told);
  EXPECT_TRUE(readings[0]->stream->Finish().ok());
  for (size_t i = 1; i < readings.size(); ++i) {
    readings[i]->context.TryCancel();
    readings[i]->stream->Finish();
  }
}

TEST_F(StateReads, DamageOfHistoryIsToldAfterWhatCameBeforeIt) {
  const uint32_t api = ApplyCheck("api");
  for (int i = 0; i < 3; ++i) Tell(api, {}, 10);
  ASSERT_TRUE(store()
                  .database()
                  .Write([](sql::Transaction& t) {
                    return t
                        .Execute("UPDATE segments SET payload = $1 WHERE first_sequence = 21",
                                 {sql::Bytes{"x"}})
                        .status();
                  })
                  .ok());
  const auto client =
      v1::StateService::NewStub(plane_.Channel(plane_.Identity(v1::ROLE_VIEWER, "eve")));
  Reading reading(*client);
  uint64_t at = 0;
  for (v1::HistoryEntry entry; reading.stream->Read(&entry);) EXPECT_EQ(entry.seq(), ++at);
  EXPECT_EQ(at, 20U);
  const grpc::Status status = reading.stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("records 21 to 30 of host-1"));
}

class StateFeedTest : public StateReads {
 protected:
  using Seen = std::vector<std::pair<uint32_t, bool>>;  // check, whether it is there

  // What one sees who follows the feed from `at` on, a page of `limit` at a time.
  Seen Follow(StateFeed& feed, uint64_t& at, uint32_t limit = 100) {
    Seen seen;
    for (bool more = true; more;) {
      const StatusOr<StateFeedPage> page = feed.After(at, limit);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) return seen;
      EXPECT_LE(page->changes.size(), 2 * limit);
      for (const auto& change : page->changes) {
        EXPECT_GT(change->row.revision, at);
        at = change->row.revision;
        seen.emplace_back(change->row.check_id, !change->removed);
      }
      EXPECT_GE(page->through, at);
      at = page->through;
      more = page->more;
    }
    return seen;
  }
};

TEST_F(StateFeedTest, WhatIsRemovedAndWhatChangesComesInItsOrder) {
  StateFeed feed(store());
  feed.Refresh();
  uint64_t at = 0;
  Change({1, 2, 3}, v1::CHECK_STATUS_OK);
  feed.Refresh();
  uint64_t other = 0;
  EXPECT_THAT(Follow(feed, at), ElementsAre(Pair(1, true), Pair(2, true), Pair(3, true)));
  EXPECT_THAT(Follow(feed, at), ElementsAre());
  ASSERT_TRUE(history().KeepOnly("host-1", {2, 3}, now_).ok());
  feed.Refresh();
  Change({1, 3}, v1::CHECK_STATUS_CRITICAL);  // it is there again
  feed.Refresh();
  EXPECT_THAT(Follow(feed, at), ElementsAre(Pair(1, false), Pair(1, true), Pair(3, true)));
  // Who begins later may see steps that are over; the last of each is the truth.
  EXPECT_THAT(Follow(feed, other, 1), ElementsAre(Pair(1, true), Pair(2, true), Pair(3, true),
                                                  Pair(1, false), Pair(1, true), Pair(3, true)));
  EXPECT_EQ(at, other);
}

TEST_F(StateFeedTest, WhoStandsFurtherBackThanItReachesMissesNothing) {
  StateFeed feed(store(), 4);
  feed.Refresh();
  uint64_t slow = 0;
  for (uint32_t i = 1; i <= 20; ++i) {
    Change({i}, v1::CHECK_STATUS_OK);
    feed.Refresh();
  }
  Seen all;
  for (uint32_t i = 1; i <= 20; ++i) all.emplace_back(i, true);
  EXPECT_EQ(Follow(feed, slow, 3), all);
  // More at once than it holds.
  std::vector<uint32_t> many;
  for (uint32_t i = 21; i <= 60; ++i) many.push_back(i);
  all.clear();
  for (const uint32_t i : many) all.emplace_back(i, true);
  Change(many, v1::CHECK_STATUS_OK);
  feed.Refresh();
  EXPECT_EQ(Follow(feed, slow, 3), all);
  Change({7}, v1::CHECK_STATUS_WARNING);
  feed.Refresh();
  EXPECT_THAT(Follow(feed, slow), ElementsAre(Pair(7, true)));
}

TEST_F(StateFeedTest, ADeletedCheckKeepsItsNameForThoseWhoWatch) {
  const uint32_t api = ApplyCheck("api");
  Change({api}, v1::CHECK_STATUS_OK);
  StateFeed feed(store());
  feed.Refresh();
  ASSERT_TRUE(store().specs().Delete({{"Check", "api"}}, {"t", "spec.delete", "", "", now_}).ok());
  const uint32_t web = ApplyCheck("web");
  Change({web}, v1::CHECK_STATUS_OK);
  feed.Refresh();
  EXPECT_THAT(*feed.names(), ElementsAre(Pair(api, "api"), Pair(web, "web")));
}

}  // namespace
}  // namespace muster::control
