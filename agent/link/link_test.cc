#include "agent/link/link.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "lib/base/clock.h"
#include "lib/testing/servers.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::agent {
namespace {

using testing::Eventually;

// A control plane that keeps what it commits, and cuts sessions as it is told.
class Plane final : public v1::AgentLink::Service {
 public:
  explicit Plane(uint16_t port = 0) : port_(port) { Start(); }
  ~Plane() override { Stop(); }

  void Start() {
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort(fmt::format("127.0.0.1:{}", port_), grpc::InsecureServerCredentials(),
                             &bound);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    port_ = static_cast<uint16_t>(bound);
  }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(absl::ToChronoTime(SystemClock().Now()));
    server_->Wait();
    server_.reset();
  }

  grpc::Status Session(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::ToAgent, v1::FromAgent>* stream) override {
    v1::FromAgent message;
    if (!stream->Read(&message) || !message.has_hello())
      return {grpc::INVALID_ARGUMENT, "no Hello"};
    ++sessions;
    witnessed = message.hello().witnessed().sequence();
    stream->Write(Greet(message.hello()));
    if (plan && message.hello().plan_hash() != plan->hash()) {
      v1::ToAgent out;
      *out.mutable_plan() = *plan;
      stream->Write(out);
    }
    if (assignments) {
      v1::ToAgent out;
      *out.mutable_assignments() = *assignments;
      stream->Write(out);
    }
    if (draining) {
      v1::ToAgent out;
      out.mutable_drain()->mutable_after();
      stream->Write(out);
    }
    if (!later_servers.empty()) {
      v1::ToAgent out;
      for (const std::string& server : later_servers) out.mutable_servers()->add_addresses(server);
      stream->Write(out);
    }
    int batches = 0;
    while (stream->Read(&message)) {
      if (mute) continue;
      const grpc::Status taken = Take(message.records());
      if (!taken.ok()) return taken;
      ++batches;
      // Cut after the commit and before its acknowledgement, the worst moment.
      if (cut_after > 0 && batches % cut_after == 0) return {grpc::UNAVAILABLE, "cut"};
      v1::ToAgent out;
      out.mutable_ack()->set_sequence(committed());
      stream->Write(out);
    }
    return grpc::Status::OK;
  }

  uint64_t committed() {
    absl::MutexLock lock(&mutex_);
    return committed_[epoch_];
  }
  std::vector<v1::Record> records() {
    absl::MutexLock lock(&mutex_);
    return records_;
  }
  void Claim(const std::string& epoch, uint64_t committed) {
    absl::MutexLock lock(&mutex_);
    committed_[epoch] = committed;
  }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }

  std::atomic<int> sessions = 0;
  std::atomic<int> cut_after = 0;
  std::atomic<bool> mute = false;
  std::atomic<bool> broken_order = false;
  std::atomic<uint64_t> witnessed = 0;
  std::optional<v1::Plan> plan;
  std::optional<v1::Assignments> assignments;
  absl::Duration flush = absl::Milliseconds(20);
  std::vector<std::string> servers;        // that a Welcome names
  std::vector<std::string> later_servers;  // told after it, if any
  std::atomic<bool> draining = false;      // sends everybody away
  v1::Checkpoint checkpoint;

 private:
  v1::ToAgent Greet(const v1::Hello& hello) {
    absl::MutexLock lock(&mutex_);
    epoch_ = hello.log_epoch();
    v1::ToAgent out;
    out.mutable_welcome()->set_committed_sequence(committed_[epoch_]);
    out.mutable_welcome()->set_store_epoch("s");
    for (const std::string& server : servers) out.mutable_welcome()->add_servers(server);
    *out.mutable_welcome()->mutable_checkpoint() = checkpoint;
    v1::SessionLimits& limits = *out.mutable_welcome()->mutable_limits();
    limits.set_window(4);
    limits.set_batch_entries(16);
    limits.set_batch_bytes(64 << 10);
    *limits.mutable_flush() = wire::ToProto(flush);
    *out.mutable_welcome()->mutable_server_time() = wire::ToProto(absl::FromUnixSeconds(77));
    return out;
  }
  grpc::Status Take(const v1::Records& records) {
    const auto batch = wire::DecodeBatch(records.batch());
    absl::MutexLock lock(&mutex_);
    if (!batch.ok() || batch->span.first != committed_[epoch_] + 1) {
      broken_order = true;
      return {grpc::FAILED_PRECONDITION, "out of order"};
    }
    committed_[epoch_] = batch->span.last;
    const std::vector<v1::Record> fresh = batch->Records();
    records_.insert(records_.end(), fresh.begin(), fresh.end());
    return grpc::Status::OK;
  }

  uint16_t port_;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  std::string epoch_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> committed_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::Record> records_ ABSL_GUARDED_BY(mutex_);
};

class LinkTest : public ::testing::Test {
 protected:
  LinkTest() : random_(SeededRandom(1)) {
    auto spool = Spool::Open(folder_.File("log.db"), {}, SystemClock());
    EXPECT_TRUE(spool.ok());
    spool_ = *std::move(spool);
  }
  std::unique_ptr<Link> MakeLink(std::vector<std::string> servers, LinkOptions options = {}) {
    options.servers = std::move(servers);
    options.version = "test";
    options.backoff = {absl::Milliseconds(20), absl::Milliseconds(200)};
    options.open = [](const std::string& address, const net::ClientIdentity&) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    };
    return std::make_unique<Link>(*spool_, SystemClock(), *random_, std::move(options));
  }
  void Append(Link& link, uint32_t count, Urgency urgency = Urgency::kSteady) {
    std::vector<v1::Record> records(count);
    for (auto& record : records) {
      record.mutable_result()->set_check_id(++check_);
      record.mutable_result()->set_status(v1::CHECK_STATUS_OK);
    }
    ASSERT_TRUE(spool_->Append(std::move(records)).ok());
    link.Notify(urgency);
  }
  void ExpectAllStoredOnce(Plane& plane) {
    EXPECT_TRUE(Eventually([&] { return plane.committed() == check_; }));
    EXPECT_FALSE(plane.broken_order);
    const auto records = plane.records();
    ASSERT_EQ(records.size(), check_);
    for (uint32_t i = 0; i < check_; ++i) ASSERT_EQ(records[i].result().check_id(), i + 1);
  }

  testing::TempFolder folder_;
  std::unique_ptr<Random> random_;
  std::unique_ptr<Spool> spool_;
  uint32_t check_ = 0;
};

TEST_F(LinkTest, ReplicatesTheLogAndHearsTheAcknowledgements) {
  Plane plane;
  auto link = MakeLink({plane.address()});
  for (int i = 0; i < 20; ++i) Append(*link, 5);
  ExpectAllStoredOnce(plane);
  EXPECT_TRUE(Eventually([&] { return spool_->bounds().acknowledged == 100; }));
  EXPECT_TRUE(link->counts().connected);
}

TEST_F(LinkTest, LosesAndDoublesNothingOverSessionsThatAreCut) {
  Plane plane;
  plane.cut_after = 3;
  auto link = MakeLink({plane.address()});
  for (int i = 0; i < 60; ++i) {
    Append(*link, 7, i % 3 == 0 ? Urgency::kUrgent : Urgency::kSteady);
    if (i % 10 == 0) testing::Pause(absl::Milliseconds(20));
  }
  ExpectAllStoredOnce(plane);
  EXPECT_GT(plane.sessions, 3);
}

TEST_F(LinkTest, ComesBackWhenTheControlPlaneDoes) {
  Plane plane;
  auto link = MakeLink({plane.address()});
  Append(*link, 3);
  EXPECT_TRUE(Eventually([&] { return plane.committed() == 3; }));
  plane.Stop();
  EXPECT_TRUE(Eventually([&] { return !link->counts().connected; }));
  Append(*link, 3);
  plane.Start();
  ExpectAllStoredOnce(plane);
}

TEST_F(LinkTest, LearnsTheOtherServersAndGoesToOneWhenItsOwnHasGone) {
  Plane first;
  Plane second;
  first.servers = {first.address(), second.address()};
  second.servers = {second.address(), first.address()};
  std::atomic<int> told = 0;
  LinkOptions options;
  options.on_servers = [&](const auto& servers) { told += static_cast<int>(servers.size()); };
  auto link = MakeLink({first.address()}, std::move(options));
  EXPECT_TRUE(Eventually([&] { return link->counts().connected; }));
  EXPECT_TRUE(Eventually([&] { return link->servers() == first.servers; }));
  first.Stop();
  EXPECT_TRUE(Eventually([&] { return second.sessions > 0; }));
  EXPECT_TRUE(Eventually([&] { return link->counts().server == second.address(); }));
  // The same servers in another order are no news.
  EXPECT_EQ(told, 2);
}

TEST_F(LinkTest, LearnsOfAServerThatStartsLaterAndGoesThereWhenItsOwnHasGone) {
  Plane first;
  Plane second;
  first.servers = {first.address()};
  first.later_servers = {first.address(), second.address()};
  std::atomic<int> told = 0;
  LinkOptions options;
  options.on_servers = [&](const auto& servers) { told += static_cast<int>(servers.size()); };
  auto link = MakeLink({first.address()}, std::move(options));
  EXPECT_TRUE(Eventually([&] { return told == 2; })) << "to be remembered";
  EXPECT_EQ(link->servers(), first.later_servers);
  EXPECT_EQ(first.sessions, 1) << "in the same session";
  first.Stop();
  EXPECT_TRUE(Eventually([&] { return second.sessions > 0; }));
}

TEST_F(LinkTest, GoesElsewhereSoonAfterADrain) {
  Plane first;
  Plane second;
  first.draining = true;
  LinkOptions options;
  options.drain_jitter = absl::Hours(1);
  options.drain_jitter_elsewhere = absl::Milliseconds(10);
  auto link = MakeLink({first.address(), second.address()}, std::move(options));
  EXPECT_TRUE(Eventually([&] { return second.sessions > 0; }));
  EXPECT_TRUE(Eventually([&] { return link->counts().connected; }));
}

TEST_F(LinkTest, ServersOfTheSettingsFileStay) {
  Plane plane;
  plane.servers = {"elsewhere:1"};
  LinkOptions options;
  options.learn_servers = false;
  auto link = MakeLink({plane.address()}, std::move(options));
  EXPECT_TRUE(Eventually([&] { return link->counts().connected; }));
  EXPECT_EQ(link->servers(), std::vector<std::string>{plane.address()});
}

TEST_F(LinkTest, TriesTheNextServer) {
  Plane plane;
  auto link = MakeLink({fmt::format("127.0.0.1:{}", testing::FreePort()), plane.address()});
  Append(*link, 1);
  ExpectAllStoredOnce(plane);
}

TEST_F(LinkTest, TakesAPlanOnce) {
  Plane plane;
  plane.plan.emplace().set_hash("p1");
  plane.cut_after = 1;
  std::atomic<int> taken = 0;
  LinkOptions options;
  options.on_plan = [&](const v1::Plan& next) {
    EXPECT_EQ(next.hash(), "p1");
    ++taken;
    return OkStatus();
  };
  auto link = MakeLink({plane.address()}, std::move(options));
  for (int i = 0; i < 5; ++i) Append(*link, 1, Urgency::kUrgent);
  EXPECT_TRUE(Eventually([&] { return taken == 1; }));
  Append(*link, 1, Urgency::kUrgent);
  ExpectAllStoredOnce(plane);
  EXPECT_EQ(taken, 1);
}

TEST_F(LinkTest, PassesAssignmentsOnInEverySessionAndTheTimeBefore) {
  Plane plane;
  plane.assignments.emplace().add_items()->set_run_id("r");
  plane.cut_after = 1;
  std::atomic<int> taken = 0;
  std::atomic<int64_t> time = 0;
  LinkOptions options;
  options.on_server_time = [&](absl::Time now) { time = absl::ToUnixSeconds(now); };
  options.on_assignments = [&](const v1::Assignments& assignments) {
    EXPECT_EQ(time, 77);
    EXPECT_EQ(assignments.items(0).run_id(), "r");
    ++taken;
  };
  auto link = MakeLink({plane.address()}, std::move(options));
  Append(*link, 1, Urgency::kUrgent);
  EXPECT_TRUE(Eventually([&] { return taken >= 2; }));
}

TEST_F(LinkTest, BringsWhatIsWantedSoonLongBeforeTheFlushTime) {
  Plane plane;
  plane.flush = absl::Minutes(1);
  auto link = MakeLink({plane.address()});
  ASSERT_TRUE(Eventually([&] { return link->counts().connected; }));
  Append(*link, 1, Urgency::kSteady);
  testing::Pause(absl::Milliseconds(50));
  EXPECT_EQ(plane.committed(), 0u);
  Append(*link, 1, Urgency::kSoon);
  ExpectAllStoredOnce(plane);
}

TEST_F(LinkTest, ShowsInItsHelloTheCheckpointThatItTook) {
  Plane plane;
  plane.checkpoint.set_sequence(4);
  plane.cut_after = 1;
  absl::Mutex mutex;
  std::optional<v1::Checkpoint> held;
  LinkOptions options;
  options.witnessed = [&] {
    absl::MutexLock lock(&mutex);
    return held;
  };
  options.on_checkpoint = [&](const v1::Checkpoint& next) {
    absl::MutexLock lock(&mutex);
    held = next;
  };
  auto link = MakeLink({plane.address()}, std::move(options));
  Append(*link, 1, Urgency::kUrgent);
  EXPECT_TRUE(Eventually([&] { return plane.witnessed == 4; }));
  ExpectAllStoredOnce(plane);
}

TEST_F(LinkTest, BeginsANewEpochWhenItsLogIsOlderThanWhatIsStored) {
  Plane plane;
  const std::string before = spool_->position().epoch;
  plane.Claim(before, 1000);
  auto link = MakeLink({plane.address()});
  Append(*link, 4);
  EXPECT_TRUE(Eventually([&] { return plane.committed() == 4; }));
  EXPECT_NE(spool_->position().epoch, before);
}

TEST_F(LinkTest, SendsWhatIsThereBeforeItStops) {
  Plane plane;
  auto link = MakeLink({plane.address()});
  EXPECT_TRUE(Eventually([&] { return link->counts().connected; }));
  Append(*link, 2);
  link->Stop(absl::Seconds(10));
  EXPECT_EQ(plane.committed(), 2u);
}

TEST_F(LinkTest, StopsInTimeWhenNobodyAnswers) {
  Plane plane;
  plane.mute = true;
  auto link = MakeLink({plane.address()});
  Append(*link, 2);
  EXPECT_TRUE(Eventually([&] { return link->counts().connected; }));
  const absl::Duration began = SystemClock().Uptime();
  link->Stop(absl::Milliseconds(300));
  EXPECT_LT(SystemClock().Uptime() - began, absl::Seconds(5));
}

}  // namespace
}  // namespace muster::agent
