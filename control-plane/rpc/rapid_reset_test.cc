// CVE-2023-44487: calls that are taken back as soon as they are made do not count as open streams,
// while their handlers live. Over real TLS, with a valid certificate.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "control-plane/rpc/test_calls.h"
#include "control-plane/rpc/test_http2.h"
#include "control-plane/rpc/test_plane.h"

namespace muster::control {
namespace {

constexpr char kVersion[] = "/muster.v1.SystemService/Version";
constexpr size_t kCap = 64;
constexpr int kAtOnce = 30;  // fewer than the streams that a connection may have

// The worst handlers that there can be: they run until they are released, whether or not their
// callers are still there. Those of anna answer at once.
class StuckCalls final : public v1::SystemService::CallbackService {
 public:
  explicit StuckCalls(Gate& gate) : gate_(gate) {}

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context, const v1::VersionRequest*,
                                    v1::VersionResponse*) override {
    return gate_.Serve(context, "muster.v1.SystemService.Version",
                       [this](const net::Identity& caller) {
                         if (caller.name != "anna") Stay();
                         return OkStatus();
                       });
  }

  void Release() {
    absl::MutexLock lock(&mutex_);
    released_ = true;
  }
  // Handlers that were begun.
  size_t begun() const {
    absl::MutexLock lock(&mutex_);
    return begun_;
  }
  size_t alive() const {
    absl::MutexLock lock(&mutex_);
    return alive_;
  }
  size_t most_alive() const {
    absl::MutexLock lock(&mutex_);
    return most_alive_;
  }

 private:
  void Stay() {
    absl::MutexLock lock(&mutex_);
    ++begun_;
    most_alive_ = std::max(most_alive_, ++alive_);
    mutex_.Await(absl::Condition(&released_));
    --alive_;
  }

  Gate& gate_;
  mutable absl::Mutex mutex_;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  size_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t alive_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t most_alive_ ABSL_GUARDED_BY(mutex_) = 0;
};

// More threads than the cap: every call that is admitted has a handler at once.
constexpr exec::LanesOptions kThreadsForAll{.threads = 2 * kCap, .threads_a_lane = 2 * kCap};

// A port of its own with such handlers. Its gate has a clock that stands still, so that however
// slow the machine is, the attack is within a second.
class StuckPort {
 public:
  explicit StuckPort(TestPlane& plane, exec::LanesOptions lanes = kThreadsForAll)
      : gate_(plane.store().identity(), clock_, Options(lanes)), calls_(gate_) {
    port_.Serve(net::MutualTls(plane.own_identity()), {&calls_}, gate_);
  }
  ~StuckPort() { calls_.Release(); }
  std::string address() const { return port_.address(); }
  Gate& gate() { return gate_; }
  StuckCalls& calls() { return calls_; }
  // Calls that have reached the gate.
  size_t seen() const { return gate_.refused() + calls_.begun(); }

 private:
  GateOptions Options(exec::LanesOptions lanes) {
    GateOptions options;
    options.lanes = lanes;
    options.cut_connection = [this](const std::string& peer) { port_.Cut(peer); };
    return options;
  }
  const ManualClock clock_;
  Gate gate_;
  StuckCalls calls_;
  TestPort port_;
};

// Takes calls back once the gate has seen them, when it hurts most, until the connection is cut;
// how many were made.
size_t Attack(StuckPort& port, const net::ClientIdentity& identity) {
  RawHttp2 connection(port.address(), identity);
  EXPECT_TRUE(connection.connected());
  const uint64_t cut = port.gate().connections_cut() + 1;
  const size_t before = port.seen();
  size_t calls = 0;
  while (calls < 4000 && connection.Call(kVersion, kAtOnce)) {
    calls += kAtOnce;
    EXPECT_TRUE(testing::Eventually(
        [&] { return port.seen() >= before + calls || port.gate().connections_cut() == cut; }));
    if (!connection.Reset() || port.gate().connections_cut() == cut) break;
  }
  EXPECT_EQ(port.gate().connections_cut(), cut);
  EXPECT_TRUE(testing::Eventually([&] { return connection.Ended(); }));
  return calls;
}

TEST(RapidReset, NoIdentityEverHasMoreHandlersThanItMay) {
  TestPlane plane;
  StuckPort port(plane);
  const auto anna = net::OpenChannel(port.address(), plane.Identity(v1::ROLE_VIEWER, "anna"));
  const auto mallory = plane.Identity(v1::ROLE_AGENT, "mallory");
  ASSERT_TRUE(Version(anna).ok());
  size_t calls = 0;
  for (int connection = 0; connection < 4; ++connection) {
    calls += Attack(port, mallory);
    EXPECT_TRUE(Version(anna).ok());
  }
  // Another certificate is not another identity.
  calls += Attack(port, plane.Renewed(v1::ROLE_AGENT, "mallory"));
  EXPECT_TRUE(Version(anna).ok());
  // It was a real attack: all that may be alive were, though every one of them had been taken back.
  EXPECT_GT(calls, 10 * kCap);
  EXPECT_EQ(port.calls().most_alive(), kCap);
  EXPECT_EQ(port.calls().alive(), kCap);
  EXPECT_EQ(Version(net::OpenChannel(port.address(), mallory)).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  port.calls().Release();
  EXPECT_TRUE(
      testing::Eventually([&] { return Version(net::OpenChannel(port.address(), mallory)).ok(); }));
}

// With the threads that a control plane has: however slow the calls of one identity are.
TEST(StuckCalls, OfOneIdentityLeaveThreadsToOthers) {
  TestPlane plane;
  const exec::LanesOptions lanes = GateOptions{}.lanes;
  StuckPort port(plane, lanes);
  RawHttp2 connection(port.address(), plane.Identity(v1::ROLE_AGENT, "mallory"));
  ASSERT_TRUE(connection.connected() && connection.Call(kVersion, kAtOnce));
  EXPECT_TRUE(testing::Eventually([&] { return port.calls().alive() == lanes.threads_a_lane; }));
  const auto anna = net::OpenChannel(port.address(), plane.Identity(v1::ROLE_VIEWER, "anna"));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Version(anna).ok());
  EXPECT_EQ(port.calls().alive(), lanes.threads_a_lane);
}

// A method that the caller may not use, and one that there is not, are no way around the gate.
TEST(RapidReset, WhatIsRefusedCutsItsConnectionToo) {
  for (const char* path : {"/muster.v1.SpecService/ListSpecs", "/no.Such/Method"}) {
    const ManualClock still;
    TestPlane plane(still);
    const auto anna = plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"));
    RawHttp2 connection(plane.address(), plane.Identity(v1::ROLE_AGENT, "mallory"));
    ASSERT_TRUE(connection.connected());
    const auto cut = [&] { return plane.gate().connections_cut() == 1; };
    for (uint64_t calls = 0; calls < 1000 && !cut() && connection.Call(path, kAtOnce);) {
      calls += kAtOnce;
      EXPECT_TRUE(testing::Eventually([&] { return plane.gate().refused() >= calls || cut(); }));
      if (!connection.Reset()) break;
    }
    EXPECT_TRUE(cut()) << path;
    EXPECT_TRUE(testing::Eventually([&] { return connection.Ended(); })) << path;
    EXPECT_TRUE(Version(anna).ok());
  }
}

// What is called is all the same for others: a method that the caller may use, one that it may not,
// and one that there is not. How much of such a flood reaches the gate is gRPC's to decide: it
// drops most calls that are taken back in the next write, and then nothing is there to be counted.
class RapidResetOf : public ::testing::TestWithParam<const char*> {};

TEST_P(RapidResetOf, AFloodOfAnyMethodLeavesOthersServed) {
  TestPlane plane;
  const auto mallory = plane.Identity(v1::ROLE_AGENT, "mallory");
  const auto anna = plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"));
  RawHttp2 connection(plane.address(), mallory);
  ASSERT_TRUE(connection.connected());
  int calls = 0;
  while (calls < 4000 && connection.Call(GetParam(), kAtOnce) && connection.Reset()) {
    calls += kAtOnce;
    if (calls % 1000 < kAtOnce) {
      EXPECT_TRUE(Version(anna).ok());
    }
  }
  EXPECT_TRUE(Version(anna).ok());
  // The identity itself may come back: it is the connection that is at fault.
  EXPECT_TRUE(testing::Eventually([&] { return Version(plane.Channel(mallory)).ok(); }));
}

INSTANTIATE_TEST_SUITE_P(Methods, RapidResetOf,
                         ::testing::Values("/muster.v1.AgentLink/Session", kVersion,
                                           "/muster.v1.SpecService/ListSpecs", "/no.Such/Method"),
                         [](const auto& info) {
                           const std::string path = info.param;
                           return path.substr(path.rfind('/') + 1);
                         });

}  // namespace
}  // namespace muster::control
