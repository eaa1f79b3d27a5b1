#include "agent/link/client_session.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "lib/base/clock.h"
#include "lib/testing/servers.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kNow = absl::Seconds(1000);

v1::ToAgent Welcome(uint64_t committed, uint32_t window = 2, uint32_t entries = 10) {
  v1::ToAgent message;
  message.mutable_welcome()->set_committed_sequence(committed);
  v1::SessionLimits& limits = *message.mutable_welcome()->mutable_limits();
  limits.set_window(window);
  limits.set_batch_entries(entries);
  limits.set_batch_bytes(100'000);
  *limits.mutable_flush() = wire::ToProto(absl::Seconds(5));
  return message;
}

v1::ToAgent Ack(uint64_t sequence) {
  v1::ToAgent message;
  message.mutable_ack()->set_sequence(sequence);
  return message;
}

TEST(ClientSession, SendsNothingBeforeTheWelcomeAndThenFromWhereItSays) {
  ClientSession session(20, kNow);
  EXPECT_FALSE(session.ToSend(kNow));
  const auto reaction = session.Received(Welcome(12), kNow);
  ASSERT_TRUE(reaction.ok());
  EXPECT_EQ(reaction->rewind, 12u);
  ASSERT_TRUE(session.ToSend(kNow));
  EXPECT_EQ(session.ToSend(kNow)->from, 13u);
  EXPECT_EQ(session.ToSend(kNow)->most_entries, 10u);
}

TEST(ClientSession, BeginsANewEpochWhenTheControlPlaneHoldsMoreThanWasEverWritten) {
  ClientSession session(20, kNow);
  const auto reaction = session.Received(Welcome(21), kNow);
  ASSERT_TRUE(reaction.ok());
  EXPECT_TRUE(reaction->new_log_epoch);
  EXPECT_FALSE(session.ToSend(kNow));
}

TEST(ClientSession, PassesCheckpointsOnFromTheWelcomeAndLater) {
  ClientSession session(20, kNow);
  v1::ToAgent welcome = Welcome(12);
  welcome.mutable_welcome()->mutable_checkpoint()->set_sequence(3);
  const auto first = session.Received(welcome, kNow);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->checkpoint->sequence(), 3u);
  v1::ToAgent moved;
  moved.mutable_checkpoint()->set_sequence(4);
  EXPECT_EQ(session.Received(moved, kNow)->checkpoint->sequence(), 4u);
  EXPECT_FALSE(session.Received(Ack(12), kNow)->checkpoint);
}

TEST(Hello, ShowsTheCheckpointThatIsHeld) {
  HelloFacts facts;
  EXPECT_FALSE(MakeHello({}, facts).hello().has_witnessed());
  facts.witnessed.emplace().set_sequence(5);
  EXPECT_EQ(MakeHello({}, facts).hello().witnessed().sequence(), 5u);
}

TEST(ClientSession, StaysWithinTheWindow) {
  ClientSession session(100, kNow);
  ASSERT_TRUE(session.Received(Welcome(0, 2), kNow).ok());
  session.Sent({1, 10}, kNow);
  session.Sent({11, 20}, kNow);
  EXPECT_FALSE(session.ToSend(kNow));
  const auto reaction = session.Received(Ack(10), kNow);
  EXPECT_EQ(reaction->acknowledged, 10u);
  EXPECT_EQ(session.ToSend(kNow)->from, 21u);
}

TEST(ClientSession, GathersSteadyResultsAndSendsUrgentOnesAtOnce) {
  ClientSession session(0, kNow);
  ASSERT_TRUE(session.Received(Welcome(0), kNow).ok());
  session.Available(3, false, kNow);
  EXPECT_FALSE(session.ToSend(kNow));
  EXPECT_EQ(session.NextTick(), kNow + absl::Seconds(5));
  EXPECT_TRUE(session.ToSend(kNow + absl::Seconds(5)));
  session.Available(4, true, kNow + absl::Seconds(1));
  ASSERT_TRUE(session.ToSend(kNow + absl::Seconds(1)));
  session.Sent({1, 4}, kNow + absl::Seconds(1));
  EXPECT_FALSE(session.ToSend(kNow + absl::Seconds(60)));
  session.Available(20, false, kNow + absl::Seconds(2));
  EXPECT_TRUE(session.ToSend(kNow + absl::Seconds(2))) << "a full batch does not wait";
}

TEST(ClientSession, SendsWhatIsWantedSoonWithoutWaitingForTheFlushTime) {
  ClientSession session(0, kNow);
  ASSERT_TRUE(session.Received(Welcome(0), kNow).ok());
  session.Available(3, false, kNow);
  session.FlushBy(kNow + absl::Seconds(1));
  session.FlushBy(kNow + absl::Seconds(2));
  EXPECT_FALSE(session.ToSend(kNow + absl::Milliseconds(999)));
  EXPECT_EQ(session.NextTick(), kNow + absl::Seconds(1));
  EXPECT_TRUE(session.ToSend(kNow + absl::Seconds(1)));
  session.Sent({1, 3}, kNow + absl::Seconds(1));
  session.Available(4, false, kNow + absl::Seconds(2));
  EXPECT_FALSE(session.ToSend(kNow + absl::Seconds(3))) << "that was of the others";
}

TEST(ClientSession, PassesOnAssignmentsAndTheControlPlanesTime) {
  ClientSession session(0, kNow);
  v1::ToAgent message;
  message.mutable_assignments()->add_items()->set_run_id("r");
  EXPECT_FALSE(session.Received(message, kNow).ok()) << "before the Welcome";
  v1::ToAgent welcome = Welcome(0);
  EXPECT_FALSE(ClientSession(0, kNow).Received(welcome, kNow)->server_time);
  *welcome.mutable_welcome()->mutable_server_time() = wire::ToProto(absl::FromUnixSeconds(5));
  EXPECT_EQ(session.Received(welcome, kNow)->server_time, absl::FromUnixSeconds(5));
  EXPECT_EQ(session.Received(message, kNow)->assignments->items(0).run_id(), "r");
  message.mutable_assignments()->clear_items();
  EXPECT_TRUE(session.Received(message, kNow)->assignments) << "none is news as well";
}

TEST(ClientSession, RefusesWhatCannotBe) {
  ClientSession early(5, kNow);
  EXPECT_FALSE(early.Received(Ack(1), kNow).ok());
  ClientSession session(5, kNow);
  ASSERT_TRUE(session.Received(Welcome(0), kNow).ok());
  EXPECT_FALSE(session.Received(Ack(1), kNow).ok()) << "nothing was sent";
  EXPECT_FALSE(session.Received(Welcome(0), kNow).ok());
}

TEST(ClientSession, PassesOnWhereTheControlPlaneIs) {
  v1::ToAgent message;
  message.mutable_welcome();
  ClientSession silent(0, kNow);
  EXPECT_TRUE(silent.Received(message, kNow)->servers.empty());
  message.mutable_welcome()->add_servers("a:7443");
  message.mutable_welcome()->add_servers("nonsense");
  ClientSession session(0, kNow);
  EXPECT_EQ(session.Received(message, kNow)->servers, std::vector<std::string>{"a:7443"});
}

TEST(ClientSession, PassesOnWhereTheControlPlaneIsWhenThatChanges) {
  ClientSession session(0, kNow);
  v1::ToAgent message;
  message.mutable_servers()->add_addresses("a:7443");
  EXPECT_FALSE(session.Received(message, kNow).ok()) << "before the Welcome";
  ASSERT_TRUE(session.Received(Welcome(0), kNow).ok());
  message.mutable_servers()->add_addresses("nonsense");
  message.mutable_servers()->add_addresses("b:7443");
  EXPECT_EQ(session.Received(message, kNow)->servers,
            (std::vector<std::string>{"a:7443", "b:7443"}));
  message.mutable_servers()->clear_addresses();
  EXPECT_TRUE(session.Received(message, kNow)->servers.empty()) << "nothing is no news";
}

TEST(ClientSession, PassesOnPlansDrainsAndRenewals) {
  ClientSession session(5, kNow);
  ASSERT_TRUE(session.Received(Welcome(5), kNow).ok());
  v1::ToAgent message;
  message.mutable_plan()->set_hash("h");
  EXPECT_EQ(session.Received(message, kNow)->plan->hash(), "h");
  message.mutable_renew();
  EXPECT_TRUE(session.Received(message, kNow)->renew);
  *message.mutable_drain()->mutable_after() = wire::ToProto(absl::Seconds(3));
  EXPECT_EQ(session.Received(message, kNow)->drain, absl::Seconds(3));
}

TEST(ClientSession, HasPatienceButNotForEver) {
  ClientSession silent(5, kNow);
  EXPECT_TRUE(silent.CheckPatience(kNow + absl::Seconds(19)).ok());
  EXPECT_FALSE(silent.CheckPatience(silent.NextTick()).ok());
  ClientSession session(5, kNow);
  ASSERT_TRUE(session.Received(Welcome(0), kNow).ok());
  session.Sent({1, 5}, kNow);
  EXPECT_TRUE(session.CheckPatience(kNow + absl::Seconds(59)).ok());
  EXPECT_FALSE(session.CheckPatience(session.NextTick()).ok());
}

// A control plane by the rules, over a connection that may end between any two messages. What it
// stores must be the log: in order, each once.
class Model {
 public:
  std::optional<v1::ToAgent> Hello(const v1::Hello& hello, std::mt19937_64& random) {
    if (hello.log_epoch() != epoch_) {
      epoch_ = hello.log_epoch();
      stored_ = 0;
    }
    received_ = stored_;
    in_flight_ = 0;
    window_ = static_cast<uint32_t>(1 + random() % 4);
    return Welcome(stored_, window_, static_cast<uint32_t>(1 + random() % 12));
  }
  void Take(const v1::Records& records) {
    ASSERT_LT(in_flight_, window_) << "more than the window";
    const auto batch = wire::DecodeBatch(records.batch());
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ(batch->span.first, received_ + 1);
    received_ = batch->span.last;
    ++in_flight_;
  }
  // A commit: the acknowledgement may be lost, what is stored is stored.
  v1::ToAgent Commit() {
    stored_ = received_;
    in_flight_ = 0;
    return Ack(stored_);
  }
  // An asynchronous failover, or an older backup.
  void Forget(uint64_t records) { stored_ -= std::min(stored_, records); }
  uint64_t stored() const { return stored_; }
  uint64_t received() const { return received_; }

 private:
  std::string epoch_;
  uint64_t stored_ = 0, received_ = 0;
  uint32_t in_flight_ = 0, window_ = 1;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    auto spool = Spool::Open(folder_.File("log.db"), {.bound_bytes = 20'000}, clock_);
    EXPECT_TRUE(spool.ok());
    spool_ = *std::move(spool);
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i) Step();
    for (int i = 0; i < 2000 && model_.stored() < spool_->position().written; ++i) Settle();
    ASSERT_EQ(model_.stored(), spool_->position().written);
  }

 private:
  void Step() {
    clock_.Advance(absl::Milliseconds(static_cast<int64_t>(random_() % 3000)));
    switch (random_() % 8) {
      case 0:
      case 1: return Append();
      case 2:
      case 3: return Send();
      case 4: return Commit();
      case 5: return Deliver();
      case 6: return session_ ? (void)0 : Connect();
      default: return random_() % 4 == 0 ? Disconnect() : Deliver();
    }
  }
  void Settle() {
    clock_.Advance(absl::Seconds(6));
    if (!session_) Connect();
    Deliver();
    Send();
    Commit();
    Deliver();
  }
  void Append() {
    std::vector<v1::Record> records(1 + random_() % 5);
    for (auto& record : records) record.mutable_result()->set_check_id(1);
    for (auto& record : records) record.mutable_result()->set_status(v1::CHECK_STATUS_OK);
    ASSERT_TRUE(spool_->Append(std::move(records)).ok());
    if (session_)
      session_->Available(spool_->position().written, random_() % 2 == 0, clock_.Uptime());
  }
  void Connect() {
    const LogBounds log = spool_->bounds();
    session_.emplace(log.written, clock_.Uptime());
    to_agent_.clear();
    const auto answer = model_.Hello(MakeHello(log, {}).hello(), random_);
    if (answer) to_agent_.push_back(*answer);
  }
  void Disconnect() {
    session_.reset();
    if (random_() % 3 == 0) model_.Forget(random_() % 7);
  }
  void Send() {
    if (!session_) return;
    const auto request = session_->ToSend(clock_.Uptime());
    if (!request) return;
    const auto records =
        spool_->ReadFrom(request->from, request->most_entries, request->most_bytes);
    ASSERT_TRUE(records.ok());
    ASSERT_FALSE(records->empty());
    const auto batch = wire::EncodeBatch(*records);
    ASSERT_TRUE(batch.ok());
    session_->Sent(batch->span, clock_.Uptime());
    v1::Records message;
    message.set_batch(batch->payload);
    model_.Take(message);
  }
  void Commit() {
    if (!session_) return;
    const v1::ToAgent ack = model_.Commit();
    if (session_->welcomed()) to_agent_.push_back(ack);
  }
  void Deliver() {
    if (!session_ || to_agent_.empty()) return;
    const auto reaction = session_->Received(to_agent_.front(), clock_.Uptime());
    to_agent_.pop_front();
    ASSERT_TRUE(reaction.ok()) << reaction.status();
    ASSERT_FALSE(reaction->new_log_epoch);
    if (reaction->rewind) spool_->Rewind(*reaction->rewind);
    if (reaction->acknowledged) spool_->Acknowledge(*reaction->acknowledged);
    session_->Available(spool_->position().written, false, clock_.Uptime());
  }

  std::mt19937_64 random_;
  testing::TempFolder folder_;
  ManualClock clock_;
  std::unique_ptr<Spool> spool_;
  std::optional<ClientSession> session_;
  std::deque<v1::ToAgent> to_agent_;
  Model model_;
};

TEST(ClientSession, StoresTheWholeLogInOrderHoweverOftenTheConnectionEnds) {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE(seed);
    Simulation(seed).Run(400);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace muster::agent
