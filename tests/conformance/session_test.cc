// Sessions: who may open one, what it tells of its agent, and how it ends.
#include <utility>

#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;

class SessionConformance : public StoreTest {
 protected:
  AgentRow Agent(const std::string& name) { return **store_->sessions().Find(name); }
  std::vector<absl::StatusCode> Commit(const BatchCommit& batch) {
    const auto outcome = store_->history().Commit({batch}, now_);
    EXPECT_TRUE(outcome.ok()) << Text(outcome.status());
    return {outcome.ok() ? outcome->at(0).code() : outcome.status().code()};
  }
};
MUSTER_ON_EVERY_BACKEND(SessionConformance);

constexpr absl::StatusCode kOk = absl::StatusCode::kOk;

TEST_P(SessionConformance, OnlyKnownAgentsOpenSessions) {
  const auto opened =
      store_->sessions().Open({.agent = "nobody", .log_epoch = "log-1", .now = now_});
  EXPECT_EQ(CodeOf(opened.status()), absl::StatusCode::kNotFound);
  EXPECT_FALSE(store_->sessions().Find("nobody")->has_value());
}

TEST_P(SessionConformance, ManySessionsAreOpenedAtOnceEachWithItsOwnAnswer) {
  for (const char* agent : {"new", "again", "reborn", "revoked"}) Enrol(agent);
  const OpenedSession before = OpenSession("again");
  EXPECT_THAT(Commit(Batch("again", before.epoch, 1)), ElementsAre(kOk));
  OpenSession("reborn");
  ASSERT_TRUE(store_->identity().Revoke(v1::ROLE_AGENT, "revoked", now_, Note()).ok());
  std::vector<SessionOpening> openings;
  for (const auto& [agent, log] :
       std::vector<std::pair<std::string, std::string>>{{"new", "log-1"},
                                                        {"again", "log-1"},
                                                        {"nobody", "log-1"},
                                                        {"reborn", "log-2"},
                                                        {"revoked", "log-1"}}) {
    openings.push_back({.agent = agent,
                        .replica = "r-2",
                        .log_epoch = log,
                        .facts = {{"name", agent}},
                        .now = now_ + absl::Minutes(1)});
  }
  std::vector<const SessionOpening*> all;
  for (const SessionOpening& opening : openings) all.push_back(&opening);
  const auto answers = store_->sessions().OpenMany(all);
  ASSERT_TRUE(answers.ok()) << Text(answers.status());
  ASSERT_EQ(answers->size(), all.size());
  EXPECT_EQ((*answers)[0]->epoch, 1U);
  EXPECT_EQ((*answers)[0]->committed_sequence, 0U);
  EXPECT_EQ((*answers)[0]->labels, (Labels{{"role", "web"}}));
  EXPECT_EQ((*answers)[1]->epoch, before.epoch + 1);
  EXPECT_EQ((*answers)[1]->committed_sequence,
            (*store_->sessions().Find("again"))->committed_sequence);
  EXPECT_GT((*answers)[1]->committed_sequence, 0U);
  EXPECT_EQ(CodeOf((*answers)[2].status()), absl::StatusCode::kNotFound);
  EXPECT_EQ((*answers)[3]->epoch, 2U);
  EXPECT_EQ((*answers)[3]->committed_sequence, 0U);
  EXPECT_EQ(CodeOf((*answers)[4].status()), absl::StatusCode::kPermissionDenied);
  for (const char* agent : {"new", "again", "reborn"}) {
    const AgentRow row = **store_->sessions().Find(agent);
    EXPECT_TRUE(row.connected) << agent;
    EXPECT_EQ(row.replica, "r-2");
    EXPECT_EQ(row.facts.at("name"), agent);
    EXPECT_EQ(row.connected_since, now_ + absl::Minutes(1));
  }
  EXPECT_FALSE((*store_->sessions().Find("revoked"))->connected);
  // Each has a log of its own that takes batches.
  EXPECT_THAT(Commit(Batch("new", 1, 1)), ElementsAre(kOk));
  EXPECT_TRUE(store_->sessions().OpenMany({}).ok());
}

TEST_P(SessionConformance, ASessionTellsWhoIsThere) {
  Enrol("web-1");
  EXPECT_EQ((*store_->sessions().Find("web-1"))->last_seen_at, absl::InfinitePast());
  const OpenedSession session = OpenSession("web-1");
  EXPECT_EQ(session.labels, (Labels{{"role", "web"}}));
  AgentRow agent = **store_->sessions().Find("web-1");
  EXPECT_TRUE(agent.connected);
  EXPECT_EQ(agent.replica, "r-1");
  EXPECT_EQ(agent.facts.at("os"), "linux");
  EXPECT_EQ(agent.disconnected_at, absl::InfiniteFuture());
  const absl::Time end = now_ + absl::Seconds(9);
  ASSERT_TRUE(store_->sessions().Close({{"web-1", session.epoch, end, end}}).ok());
  agent = **store_->sessions().Find("web-1");
  EXPECT_FALSE(agent.connected);
  EXPECT_EQ(agent.disconnected_at, end);
}

TEST_P(SessionConformance, ManySessionsEndAtOnceEachInItsOwnWay) {
  for (const char* agent : {"left", "silent", "sent", "back", "stays"}) Enrol(agent);
  const OpenedSession left = OpenSession("left");
  const OpenedSession silent = OpenSession("silent");
  const OpenedSession sent = OpenSession("sent");
  const OpenedSession older = OpenSession("back");
  const OpenedSession newer = OpenSession("back");
  OpenSession("stays");
  const absl::Time end = now_ + absl::Minutes(1);
  const absl::Time heard = end - absl::Seconds(12);
  ASSERT_TRUE(store_->sessions()
                  .Close({{"left", left.epoch, end, end},
                          {"silent", silent.epoch, end, heard},
                          {"sent", sent.epoch, end, end, SessionEnd::Parting::kReplicas},
                          {"back", older.epoch, end, end},
                          {"nobody", 1, end, end}})
                  .ok());
  EXPECT_EQ(Agent("left").disconnected_at, end);
  EXPECT_EQ(Agent("left").last_seen_at, end);
  EXPECT_FALSE(Agent("left").orphaned);
  EXPECT_EQ(Agent("silent").disconnected_at, end);
  EXPECT_EQ(Agent("silent").last_seen_at, heard);
  EXPECT_TRUE(Agent("sent").orphaned);
  EXPECT_TRUE(Agent("back").connected);
  EXPECT_EQ(Agent("back").session_epoch, newer.epoch);
  EXPECT_TRUE(Agent("stays").connected);
  EXPECT_TRUE(store_->sessions().Close({}).ok());
}

TEST_P(SessionConformance, AnAgentThatWasSentAwayIsOrphaned) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1");
  ASSERT_TRUE(store_->sessions()
                  .Close({{"web-1", session.epoch, now_, now_, SessionEnd::Parting::kReplicas}})
                  .ok());
  EXPECT_FALSE(Agent("web-1").connected);
  EXPECT_TRUE(Agent("web-1").orphaned);
  EXPECT_EQ(Agent("web-1").disconnected_at, now_);
}

}  // namespace
}  // namespace muster::control
