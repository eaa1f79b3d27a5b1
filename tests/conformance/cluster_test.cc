// Replicas, the lease, the fence of the leader's writes, and whose the sessions are.
#include <atomic>
#include <tuple>

#include "control-plane/decide/leadership.h"
#include "lib/exec/threads.h"
#include "tests/conformance/backends.h"

namespace muster::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ClusterConformance : public StoreTest {
 protected:
  ClusterStore& cluster() { return store_->cluster(); }

  ReplicaRow Start(const std::string& id) {
    const auto self = cluster().Start({id, {id + ":7443", "10.0.0.1:7443"}, "1.0"});
    EXPECT_TRUE(self.ok()) << Text(self.status());
    return self.value_or(ReplicaRow{});
  }

  StatusOr<Beat> TryBeat(const ReplicaRow& self) {
    return cluster().Heartbeat(self,
                               [](const LeaseFacts& facts) { return DecideLease(facts, {}); });
  }
  LeaseAct Act(const ReplicaRow& self) {
    const auto beat = TryBeat(self);
    EXPECT_TRUE(beat.ok()) << Text(beat.status());
    return beat.ok() ? beat->decision.act : LeaseAct::kLeave;
  }
  LeaderEpoch Epoch() { return cluster().Lease()->epoch; }

  // All that is remembered of replicas and lease happened that much earlier.
  void Age(absl::Duration by) {
    const int64_t micros = absl::ToInt64Microseconds(by);
    const Status aged = store_->database().Write([&](sql::Transaction& t) -> Status {
      MUSTER_RETURN_IF_ERROR(t.Execute("UPDATE lease SET until = until - $1", {micros}).status());
      return t
          .Execute(
              "UPDATE replicas SET seen_at = seen_at - $1, started_at = started_at - $1, "
              "lost_at = lost_at - $1",
              {micros})
          .status();
    });
    ASSERT_TRUE(aged.ok()) << Text(aged);
  }

  ReplicaRow Row(const std::string& id) {
    const std::vector<ReplicaRow> replicas = *cluster().List();
    for (const ReplicaRow& replica : replicas) {
      if (replica.id == id) return replica;
    }
    ADD_FAILURE() << "no replica " << id;
    return {};
  }
  AgentRow Agent(const std::string& name) { return **store_->sessions().Find(name); }
  // The quick list tells the same as the whole one.
  void ExpectSessionsAsListed() {
    const std::vector<AgentRow> rows = *store_->sessions().List("", 100);
    std::set<std::string> names = {"nobody"};
    std::vector<std::string> away;
    size_t connected = 0;
    for (const AgentRow& row : rows) {
      names.insert(row.name);
      connected += row.connected ? 1 : 0;
      const bool was_here = row.last_seen_at != absl::InfinitePast();
      if (!row.connected && was_here && !row.revoked) away.push_back(row.name);
    }
    const std::vector<AgentSession> sessions = *store_->sessions().Of(names);
    const Away found = *store_->sessions().WithoutSession();
    EXPECT_EQ(found.connected, connected);
    ASSERT_EQ(found.agents.size(), away.size());
    for (size_t i = 0; i < away.size(); ++i) EXPECT_EQ(found.agents[i].name, away[i]);
    ASSERT_EQ(sessions.size(), rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto told = [](const AgentSession& of) {
        return std::tie(of.name, of.session_epoch, of.replica, of.connected, of.orphaned,
                        of.last_seen_at, of.connected_since, of.disconnected_at, of.revoked);
      };
      EXPECT_EQ(told(sessions[i]), told(rows[i])) << rows[i].name;
    }
  }
};
MUSTER_ON_EVERY_BACKEND(ClusterConformance);

TEST_P(ClusterConformance, AReplicaIsKnownFromItsStartToItsEnd) {
  const ReplicaRow self = Start("r-1");
  EXPECT_EQ(self.incarnation, 1U);
  const ReplicaRow row = Row("r-1");
  EXPECT_THAT(row.addresses, ElementsAre("r-1:7443", "10.0.0.1:7443"));
  EXPECT_EQ(row.version, "1.0");
  EXPECT_FALSE(row.lost() || row.draining);
  EXPECT_EQ(row.started_at, row.seen_at);
  EXPECT_EQ(Start("r-1").incarnation, 2U);
  // The earlier life is not heard any more.
  ASSERT_TRUE(cluster().Leave(self).ok());
  ASSERT_TRUE(cluster().Leave(Row("r-1")).ok());
  EXPECT_THAT(*cluster().List(), IsEmpty());
}

TEST_P(ClusterConformance, AHeartbeatIsSeenByTheDatabasesClock) {
  const ReplicaRow self = Start("r-1");
  const auto beat = TryBeat(self);
  ASSERT_TRUE(beat.ok());
  ASSERT_THAT(beat->replicas, SizeIs(1));
  EXPECT_EQ(beat->replicas[0].seen_at, beat->now);
  EXPECT_GT(beat->now, self.seen_at);
  EXPECT_EQ(Row("r-1").seen_at, beat->now);
  EXPECT_LE(beat->now, cluster().Now().value_or(absl::InfinitePast()));
}

TEST_P(ClusterConformance, OneLeadsAtATime) {
  const ReplicaRow first = Start("r-1");
  const ReplicaRow second = Start("r-2");
  EXPECT_EQ(Act(first), LeaseAct::kTake);
  EXPECT_EQ(Act(second), LeaseAct::kLeave);
  EXPECT_EQ(Act(first), LeaseAct::kRenew);
  EXPECT_EQ(Epoch().value, 1U);
  Age(absl::Seconds(4));
  EXPECT_EQ(Act(second), LeaseAct::kTake);
  EXPECT_EQ(Act(first), LeaseAct::kLeave);
  EXPECT_EQ(Epoch().value, 2U);
  const LeaseRow lease = *cluster().Lease();
  EXPECT_EQ(lease.holder, "r-2");
  EXPECT_EQ(lease.incarnation, 1U);
}

TEST_P(ClusterConformance, OfManyThatWantToLeadOneDoes) {
  std::vector<ReplicaRow> replicas;
  for (int i = 0; i < 6; ++i) replicas.push_back(Start("r-" + std::to_string(i)));
  std::atomic<int> taken = 0;
  {
    std::vector<exec::Thread> threads;
    for (const ReplicaRow& replica : replicas) {
      threads.emplace_back("beat", [&, replica] { taken += Act(replica) == LeaseAct::kTake; });
    }
  }
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(Epoch().value, 1U);
}

TEST_P(ClusterConformance, EachTermLeavesAnEntryInTheAuditChain) {
  const ReplicaRow first = Start("r-1");
  Act(first);
  Act(first);
  Age(absl::Seconds(4));
  Act(Start("r-2"));
  const std::vector<AuditRow> entries = *store_->audit().List(0, 10);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].note.action, "leader.take");
  EXPECT_EQ(entries[0].note.subject, "r-1");
  EXPECT_THAT(entries[1].note.detail, HasSubstr("term 2: the lease of r-1 ran out"));
  EXPECT_TRUE(store_->audit().Verify().ok());
}

TEST_P(ClusterConformance, ALifeAfterACrashTakesItsOwnLeaseAtOnce) {
  const ReplicaRow before = Start("r-1");
  EXPECT_EQ(Act(before), LeaseAct::kTake);
  const ReplicaRow after = Start("r-1");
  EXPECT_EQ(Act(after), LeaseAct::kTake);
  EXPECT_EQ(Epoch().value, 2U);
  // The life before it, should it still run, hears that it is over.
  const Status replaced = TryBeat(before).status();
  EXPECT_EQ(CodeOf(replaced), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(IsReplaced(replaced));
  EXPECT_FALSE(IsFenced(replaced));
}

TEST_P(ClusterConformance, ADrainingReplicaGivesTheLeaseBackAndTakesNone) {
  const ReplicaRow first = Start("r-1");
  const ReplicaRow second = Start("r-2");
  Act(first);
  ASSERT_TRUE(cluster().Drain(first).ok());
  EXPECT_EQ(Act(first), LeaseAct::kLeave);
  EXPECT_TRUE(Row("r-1").draining);
  EXPECT_EQ(Act(second), LeaseAct::kTake);
  // Somebody else's lease is not given back.
  ASSERT_TRUE(cluster().Leave(first).ok());
  EXPECT_EQ(cluster().Lease()->holder, "r-2");
  ASSERT_TRUE(cluster().Leave(second).ok());
  EXPECT_EQ(cluster().Lease()->holder, "");
  EXPECT_EQ(Epoch().value, 2U);
}

TEST_P(ClusterConformance, AWriteOfAnOlderTermChangesNothing) {
  Enrol("web-1");
  const OpenedSession session = OpenSession("web-1", "log-1", "r-gone");
  BatchCommit batch = Batch("web-1", session.epoch, 1);
  batch.states = {State("web-1", 1, v1::CHECK_STATUS_OK)};
  ASSERT_TRUE(store_->history().Commit({batch}, now_)->at(0).ok());
  const AlertRow alert{.id = "a",
                       .key = "check/web-1/1",
                       .severity = v1::SEVERITY_CRITICAL,
                       .state = v1::ALERT_STATE_FIRING,
                       .started_at = now_,
                       .fired_at = now_,
                       .resolved_at = absl::InfiniteFuture()};
  const OutboxRow told{.alert_id = "a",
                       .receiver = "x",
                       .event = "raised",
                       .created_at = now_,
                       .next_attempt_at = now_,
                       .delivered_at = absl::InfinitePast()};
  AlertRow old = alert;
  old.id = old.key = "old";
  old.state = v1::ALERT_STATE_RESOLVED;
  old.resolved_at = now_ - absl::Hours(1);
  const ReplicaRow first = Start("r-1");
  Act(first);
  const LeaderEpoch stale = Epoch();
  ASSERT_TRUE(store_->alerts().Apply(stale, {0, 1, {alert, old}, {}, {told}}).ok());
  Age(absl::Seconds(9));
  Act(Start("r-2"));

  CheckStateRow lost = State("web-1", 1, v1::CHECK_STATUS_NO_DATA);
  lost.revision = store_->history().StatesOf("web-1")->at(0).revision;
  OutboxRow attempt = store_->alerts().Due(now_, 10)->at(0);
  attempt.state = OutboxState::kDelivered;
  const std::vector<std::pair<const char*, Status>> writes = {
      {"apply", store_->alerts().Apply(stale, {1, 2, {}, {}, {told}})},
      {"attempt", store_->alerts().RecordAttempt(stale, attempt)},
      {"resolved", store_->alerts().DropResolvedBefore(stale, now_, 10).status()},
      {"no data",
       store_->history()
           .ApplyTransitions(stale, {{lost, Transition("web-1", 1, v1::CHECK_STATUS_NO_DATA)}})
           .status()},
      {"segments", store_->history().DropSegmentsBefore(stale, now_ + absl::Hours(9), 10).status()},
      {"lost", cluster().DeclareLost(stale, Row("r-1")).status()},
      {"strays", store_->sessions().CloseStrays(stale, now_).status()}};
  for (const auto& [what, status] : writes) {
    EXPECT_EQ(CodeOf(status), absl::StatusCode::kFailedPrecondition) << what;
    EXPECT_TRUE(IsFenced(status)) << what;
    EXPECT_THAT(Text(status), HasSubstr("r-2 leads")) << what;
  }
  EXPECT_EQ(store_->alerts().Cursor().value_or(0), 1U);
  EXPECT_THAT(*store_->alerts().Due(now_, 10), SizeIs(1));
  EXPECT_TRUE(store_->alerts().Find("old")->has_value());
  EXPECT_EQ(store_->history().StatesOf("web-1")->at(0).status, v1::CHECK_STATUS_OK);
  EXPECT_EQ(store_->history().HistorySize()->segments, 1U);
  EXPECT_FALSE(Row("r-1").lost());
  EXPECT_TRUE(Agent("web-1").connected);
  // The same under the term that lasts.
  EXPECT_TRUE(store_->alerts().RecordAttempt(Epoch(), attempt).ok());
  EXPECT_THAT(*store_->alerts().Due(now_, 10), IsEmpty());
}

TEST_P(ClusterConformance, TheSessionsOfALostReplicaEndWhenItWasLastSeen) {
  Enrol("web-1");
  Enrol("web-2");
  const ReplicaRow gone = Start("r-1");
  const ReplicaRow here = Start("r-2");
  OpenSession("web-1", "log-1", "r-1");
  OpenSession("web-2", "log-1", "r-2");
  EXPECT_EQ(Row("r-1").agents, 1U);
  Act(here);
  const ReplicaRow seen = Row("r-1");
  EXPECT_TRUE(cluster().DeclareLost(Epoch(), seen).value_or(false));
  EXPECT_TRUE(Row("r-1").lost());
  const AgentRow agent = Agent("web-1");
  EXPECT_FALSE(agent.connected);
  EXPECT_TRUE(agent.orphaned);
  // Not before the agent itself was heard.
  EXPECT_EQ(agent.disconnected_at, std::max(seen.seen_at, now_));
  EXPECT_TRUE(Agent("web-2").connected);
  ExpectSessionsAsListed();
  // Once is enough, and one that was seen since is not lost.
  EXPECT_FALSE(cluster().DeclareLost(Epoch(), seen).value_or(true));
  ASSERT_TRUE(TryBeat(gone)->was_lost);
  EXPECT_FALSE(Row("r-1").lost());
  EXPECT_FALSE(cluster().DeclareLost(Epoch(), seen).value_or(true));
  EXPECT_FALSE(TryBeat(gone)->was_lost);
}

TEST_P(ClusterConformance, AReplicaThatWasOnlyPausedReclaimsWhatIsStillItsOwn) {
  for (const char* agent : {"stayed", "moved", "left", "other"}) Enrol(agent);
  const ReplicaRow paused = Start("r-1");
  const ReplicaRow here = Start("r-2");
  const OpenedSession stayed = OpenSession("stayed", "log-1", "r-1");
  const OpenedSession moved = OpenSession("moved", "log-1", "r-1");
  const OpenedSession left = OpenSession("left", "log-1", "r-1");
  OpenSession("other", "log-1", "r-2");
  Act(here);
  ASSERT_TRUE(cluster().DeclareLost(Epoch(), Row("r-1")).value_or(false));
  const OpenedSession anew = OpenSession("moved", "log-1", "r-2");
  // Its stream had ended in the meantime.
  const absl::Time later = now_ + absl::Hours(1);
  ASSERT_TRUE(store_->sessions().Close({{"left", left.epoch, later, later}}).ok());

  ASSERT_TRUE(TryBeat(paused)->was_lost);
  const auto epochs = store_->sessions().Reclaim("r-1", now_ + absl::Minutes(3));
  ASSERT_TRUE(epochs.ok()) << Text(epochs.status());
  EXPECT_EQ(epochs->at("stayed"), stayed.epoch);
  EXPECT_EQ(epochs->at("moved"), anew.epoch);
  EXPECT_GT(anew.epoch, moved.epoch);
  EXPECT_TRUE(Agent("stayed").connected);
  EXPECT_EQ(Agent("stayed").connected_since, now_ + absl::Minutes(3));
  EXPECT_EQ(Agent("moved").connected_since, now_);
  EXPECT_FALSE(Agent("stayed").orphaned);
  EXPECT_EQ(Agent("stayed").replica, "r-1");
  EXPECT_EQ(Agent("moved").replica, "r-2");
  EXPECT_FALSE(Agent("left").connected);
  EXPECT_TRUE(Agent("left").orphaned);
  EXPECT_EQ(Agent("other").replica, "r-2");
}

TEST_P(ClusterConformance, AReplicaThatStartsClosesWhatItsEarlierLifeLeftOpen) {
  Enrol("web-1");
  Start("r-1");
  OpenSession("web-1", "log-1", "r-1");
  Start("r-2");
  EXPECT_TRUE(Agent("web-1").connected);
  Start("r-1");
  const AgentRow agent = Agent("web-1");
  EXPECT_FALSE(agent.connected);
  EXPECT_TRUE(agent.orphaned);
  // Its next life has nothing to reclaim.
  EXPECT_EQ(agent.replica, "");
  OpenSession("web-1", "log-1", "r-1");
  EXPECT_TRUE(Agent("web-1").connected);
  EXPECT_FALSE(Agent("web-1").orphaned);
}

TEST_P(ClusterConformance, AConnectedAgentWasSeenWhenItsReplicaWas) {
  Enrol("web-1");
  Start("r-1");
  const OpenedSession session = OpenSession("web-1", "log-1", "r-1");
  const absl::Time seen = now_ + absl::Hours(1);
  const auto see = [&](sql::Transaction& t) {
    return t.Execute("UPDATE replicas SET seen_at = $1", {sql::ToMicros(seen)}).status();
  };
  ASSERT_TRUE(store_->database().Write(see).ok());
  EXPECT_EQ(Agent("web-1").last_seen_at, seen);
  EXPECT_EQ(store_->sessions().List("", 10)->at(0).last_seen_at, seen);
  const absl::Time end = now_ + absl::Seconds(5);
  ASSERT_TRUE(store_->sessions().Close({{"web-1", session.epoch, end, end}}).ok());
  EXPECT_EQ(Agent("web-1").last_seen_at, end);
  EXPECT_FALSE(Agent("web-1").orphaned);
}

TEST_P(ClusterConformance, SessionsThatNobodyHoldsAreClosed) {
  Enrol("known");
  Enrol("unknown");
  const ReplicaRow here = Start("r-1");
  OpenSession("known", "log-1", "r-1");
  OpenSession("unknown", "log-1", "r-of-old");
  Act(here);
  EXPECT_EQ(store_->sessions().CloseStrays(Epoch(), now_).value_or(9), 1U);
  EXPECT_EQ(store_->sessions().CloseStrays(Epoch(), now_).value_or(9), 0U);
  EXPECT_TRUE(Agent("known").connected);
  EXPECT_FALSE(Agent("unknown").connected);
  EXPECT_TRUE(Agent("unknown").orphaned);
}

TEST_P(ClusterConformance, ALostReplicaIsForgottenInTimeOrOnRequest) {
  const ReplicaRow here = Start("r-1");
  Start("r-2");
  Start("r-3");
  Act(here);
  EXPECT_EQ(CodeOf(cluster().Forget("r-9", Note())), absl::StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(cluster().Forget("r-2", Note())), absl::StatusCode::kFailedPrecondition);
  for (const char* id : {"r-2", "r-3"}) {
    ASSERT_TRUE(cluster().DeclareLost(Epoch(), Row(id)).value_or(false));
  }
  ASSERT_TRUE(cluster().Forget("r-2", Note("replica.delete")).ok());
  EXPECT_EQ(store_->audit().List(0, 10)->back().note.action, "replica.delete");
  const absl::Time now = *cluster().Now();
  EXPECT_THAT(*cluster().ForgetLostBefore(Epoch(), now - absl::Hours(1)), IsEmpty());
  EXPECT_THAT(*cluster().ForgetLostBefore(Epoch(), now + absl::Hours(1)), ElementsAre("r-3"));
  EXPECT_THAT(*cluster().List(), SizeIs(1));
}

}  // namespace
}  // namespace muster::control
