// What an agent cannot do in its session.
#include "control-plane/rpc/agent_link_service.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <functional>

#include <absl/synchronization/notification.h>

#include "control-plane/rpc/test_plane.h"
#include "lib/exec/threads.h"
#include "lib/wire/columns.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::control {
namespace {

using grpc::StatusCode;

// Reads the stream until it ends; the status.
grpc::Status SessionStatus(TestPlane& plane, const net::ClientIdentity& identity,
                           const v1::Records* records) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(10)));
  const auto stream = v1::AgentLink::NewStub(plane.Channel(identity))->Session(&context);
  v1::FromAgent hello;
  hello.mutable_hello()->set_log_epoch("epoch");
  stream->Write(hello);
  v1::ToAgent answer;
  stream->Read(&answer);
  if (records != nullptr) {
    v1::FromAgent message;
    *message.mutable_records() = *records;
    stream->Write(message);
  }
  while (stream->Read(&answer)) continue;
  return stream->Finish();
}

TEST(Session, RecordsAreTheCertificatesAgentsWhateverIsSaid) {
  TestPlane plane;
  const auto a = plane.Identity(v1::ROLE_AGENT, "host-a");
  plane.Identity(v1::ROLE_AGENT, "host-b");
  v1::Record record;
  record.set_sequence(1);
  record.mutable_plan_taken()->set_plan_hash("x");
  const auto batch = wire::EncodeBatch({record});
  v1::Records records;
  records.set_first_sequence(1);
  records.set_last_sequence(1);
  records.set_batch(batch->payload);
  const net::ClientIdentity identity = a;
  exec::Thread session("session", [&] { SessionStatus(plane, identity, &records); });
  EXPECT_TRUE(testing::Eventually(
      [&] { return (*plane.store().sessions().Find("host-a"))->committed_sequence == 1; }));
  EXPECT_EQ((*plane.store().sessions().Find("host-b"))->committed_sequence, 0u);
}

TEST(Session, ABombIsRefusedBeforeItIsInflated) {
  TestPlane plane;
  v1::Records records;
  records.set_first_sequence(1);
  records.set_last_sequence(1);
  std::string frame(1 << 20, '\0');
  const std::string zeros(100 << 20, '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), zeros.data(), zeros.size(), 1));
  records.set_batch(frame);
  EXPECT_EQ(SessionStatus(plane, plane.Identity(v1::ROLE_AGENT, "host-a"), &records).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Session, AHoleEndsTheSession) {
  TestPlane plane;
  v1::Record record;
  record.set_sequence(5);
  record.mutable_plan_taken()->set_plan_hash("x");
  v1::Records records;
  records.set_first_sequence(5);
  records.set_last_sequence(5);
  records.set_batch(wire::EncodeBatch({record})->payload);
  EXPECT_EQ(SessionStatus(plane, plane.Identity(v1::ROLE_AGENT, "host-a"), &records).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST(Session, AnAgentIsToldWhenReplicasComeAndGoAndOnlyThen) {
  TestPlane plane;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(30)));
  const auto stub = v1::AgentLink::NewStub(plane.Channel(plane.Identity(v1::ROLE_AGENT, "host-a")));
  const auto stream = stub->Session(&context);
  v1::FromAgent hello;
  hello.mutable_hello()->set_log_epoch("epoch");
  stream->Write(hello);
  const auto next = [&] {
    v1::ToAgent message;
    while (stream->Read(&message) && !message.has_welcome() && !message.has_servers()) continue;
    return message;
  };
  using Addresses = std::vector<std::string>;
  const auto welcome = next().welcome();
  EXPECT_EQ(Addresses(welcome.servers().begin(), welcome.servers().end()),
            Addresses{plane.address()});
  for (const Addresses& others :
       {Addresses{"b:7443"}, Addresses{"b:7443", "c:7443"}, Addresses{}}) {
    plane.SetOthers(others);
    // That nothing was said of what was known is seen by what comes next.
    const auto told = next().servers().addresses();
    EXPECT_EQ(Addresses(told.begin(), told.end()), plane.servers());
  }
  context.TryCancel();
}

// One session of an agent, welcomed.
class OpenSession {
 public:
  OpenSession(TestPlane& plane, const std::string& agent)
      : stub_(v1::AgentLink::NewStub(plane.Channel(plane.Identity(v1::ROLE_AGENT, agent)))) {
    context_.set_deadline(absl::ToChronoTime(SystemClock().Now() + absl::Seconds(30)));
    stream_ = stub_->Session(&context_);
    v1::FromAgent hello;
    hello.mutable_hello()->set_log_epoch("epoch");
    stream_->Write(hello);
    EXPECT_TRUE(Hears([](const v1::ToAgent& message) { return message.has_welcome(); }));
  }
  ~OpenSession() { End(); }

  bool Hears(const std::function<bool(const v1::ToAgent&)>& what) {
    v1::ToAgent message;
    while (stream_->Read(&message)) {
      if (what(message)) return true;
    }
    return false;
  }
  void End() { context_.TryCancel(); }

 private:
  const std::unique_ptr<v1::AgentLink::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FromAgent, v1::ToAgent>> stream_;
};

// Another replica took the documents a moment ago, and this one has not looked since: an older plan
// would take the agent's new checks away, and what is known of them.
TEST(Session, APlanIsNeverOlderThanWhatTheAgentMayHaveHeardElsewhere) {
  TestPlane plane;
  for (int i = 1; i <= 5; ++i) {
    v1::Document document;
    document.set_api_version("muster/v1");
    document.set_kind("Check");
    document.mutable_metadata()->set_name(fmt::format("check-{}", i));
    document.mutable_check()->mutable_every()->set_seconds(60);
    document.mutable_check()->mutable_probe()->mutable_tcp()->set_address("127.0.0.1:1");
    ASSERT_TRUE(plane.store().specs().Apply({document}, {"test", "spec.apply", "", "", {}}).ok());
    OpenSession session(plane, fmt::format("host-{}", i));
    v1::Plan first;
    ASSERT_TRUE(session.Hears([&](const v1::ToAgent& message) {
      first = message.plan();
      return message.has_plan();
    }));
    EXPECT_EQ(first.checks_size(), i);
  }
}

TEST(Session, AnAgentIsSentElsewhereByAReplicaThatTakesOthersStill) {
  TestPlane plane;
  OpenSession session(plane, "host-a");
  plane.hub().SendElsewhere();
  EXPECT_TRUE(session.Hears([](const v1::ToAgent& message) { return message.has_drain(); }));
  OpenSession another(plane, "host-b");
}

// Its stream ends while the store is asked to open its session: nobody else would ever close that.
TEST(Session, OneThatEndedBeforeItWasOpenIsClosedAllTheSame) {
  TestPlane plane;
  const auto stub = v1::AgentLink::NewStub(plane.Channel(plane.Identity(v1::ROLE_AGENT, "host-a")));
  absl::Notification held;
  absl::Notification release;
  exec::Thread writer("writer", [&] {
    const Status done = plane.store().database().Write([&](sql::Transaction&) {
      held.Notify();
      release.WaitForNotification();
      return OkStatus();
    });
    EXPECT_TRUE(done.ok()) << done;
  });
  held.WaitForNotification();
  grpc::ClientContext context;
  const auto stream = stub->Session(&context);
  v1::FromAgent hello;
  hello.mutable_hello()->set_log_epoch("epoch");
  stream->Write(hello);
  testing::Pause(absl::Milliseconds(200));  // it is read, and waits
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  testing::Pause(absl::Milliseconds(200));
  release.Notify();
  const auto agent = [&] { return **plane.store().sessions().Find("host-a"); };
  EXPECT_TRUE(testing::Eventually([&] { return agent().session_epoch == 1; }));
  EXPECT_TRUE(testing::Eventually([&] { return !agent().connected; }));
}

// While the store was away nobody could have taken the agent in: that is not its silence.
TEST(Session, OneThatEndedWhileTheStoreWasAwayEndsWhenTheStoreIsTold) {
  TestPlane plane;
  const auto run = [&](const char* sql) {
    const Status done = plane.store().database().Write(
        [&](sql::Transaction& t) { return t.Execute(sql).status(); });
    ASSERT_TRUE(done.ok()) << done;
  };
  OpenSession session(plane, "host-a");
  run("CREATE TRIGGER away BEFORE UPDATE OF connected ON agents BEGIN SELECT RAISE(ABORT, 'away'); "
      "END");
  session.End();
  ASSERT_TRUE(testing::Eventually([&] { return plane.hub().connected() == 0; }));
  testing::Pause(absl::Milliseconds(20));
  EXPECT_TRUE((*plane.store().sessions().Find("host-a"))->connected);
  const absl::Time told = SystemClock().Now();
  run("DROP TRIGGER away");
  ASSERT_TRUE(testing::Eventually(
      [&] { return !(*plane.store().sessions().Find("host-a"))->connected; }, absl::Seconds(10)));
  const AgentRow agent = **plane.store().sessions().Find("host-a");
  EXPECT_TRUE(agent.orphaned);
  EXPECT_GE(agent.disconnected_at, told - absl::Milliseconds(1));
}

}  // namespace
}  // namespace muster::control
