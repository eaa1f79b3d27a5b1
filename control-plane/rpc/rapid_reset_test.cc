// CVE-2023-44487: calls that are taken back as soon as they are made do not count as open streams,
// while their handlers live. Over real TLS, with a valid certificate.
#include <gtest/gtest.h>

#include <atomic>

#include "control-plane/rpc/test_calls.h"
#include "control-plane/rpc/test_http2.h"
#include "control-plane/rpc/test_plane.h"

namespace muster::control {
namespace {

constexpr char kVersion[] = "/muster.v1.SystemService/Version";
constexpr int kMostCalls = 4000;  // of one connection
constexpr size_t kCap = 64;

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
    most_alive_ = std::max(most_alive_, ++alive_);
    mutex_.Await(absl::Condition(&released_));
    --alive_;
  }

  Gate& gate_;
  mutable absl::Mutex mutex_;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  size_t alive_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t most_alive_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A port of its own with such handlers. Its gate has more threads than the cap, so that every call
// that is admitted has a handler at once.
class StuckPort {
 public:
  explicit StuckPort(TestPlane& plane)
      : gate_(plane.store().identity(), plane.clock(), Options()), calls_(gate_) {
    port_.Serve(net::MutualTls(plane.own_identity()), {&calls_}, gate_);
  }
  ~StuckPort() { calls_.Release(); }
  std::string address() const { return port_.address(); }
  Gate& gate() { return gate_; }
  StuckCalls& calls() { return calls_; }

 private:
  GateOptions Options() {
    GateOptions options;
    options.threads = 2 * kCap;
    options.cut_connection = [this](const std::string& peer) { port_.Cut(peer); };
    return options;
  }
  Gate gate_;
  StuckCalls calls_;
  TestPort port_;
};

// Calls and resets until the connection is gone; how many calls were made.
int Attack(const std::string& address, const net::ClientIdentity& identity, const char* path) {
  RawHttp2 connection(address, identity);
  EXPECT_TRUE(connection.connected());
  constexpr int kAtOnce = 30;  // fewer than the streams that a connection may have
  int calls = 0;
  while (calls < kMostCalls && connection.CallAndReset(path, kAtOnce)) calls += kAtOnce;
  return calls;
}

TEST(RapidReset, NoIdentityEverHasMoreHandlersThanItMay) {
  TestPlane plane;
  StuckPort port(plane);
  const auto anna = net::OpenChannel(port.address(), plane.Identity(v1::ROLE_VIEWER, "anna"));
  const auto mallory = plane.Identity(v1::ROLE_AGENT, "mallory");
  ASSERT_TRUE(Version(anna).ok());
  for (uint64_t connection = 1; connection <= 4; ++connection) {
    EXPECT_LT(Attack(port.address(), mallory, kVersion), kMostCalls);
    EXPECT_EQ(port.gate().connections_cut(), connection);
    EXPECT_TRUE(Version(anna).ok());
  }
  // Another certificate is not another identity.
  const auto renewed = plane.Renewed(v1::ROLE_AGENT, "mallory");
  EXPECT_LT(Attack(port.address(), renewed, kVersion), kMostCalls);
  EXPECT_TRUE(Version(anna).ok());
  // It was a real attack: all that may be alive were, though every one of them had been taken back.
  EXPECT_EQ(port.calls().most_alive(), kCap);
  EXPECT_EQ(port.calls().alive(), kCap);
  EXPECT_EQ(Version(net::OpenChannel(port.address(), mallory)).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  port.calls().Release();
  EXPECT_TRUE(
      testing::Eventually([&] { return Version(net::OpenChannel(port.address(), mallory)).ok(); }));
}

// What is called is all the same: a method that the caller may use, one that it may not, and one
// that there is not.
class RapidResetOf : public ::testing::TestWithParam<const char*> {};

TEST_P(RapidResetOf, AnyMethodCutsTheConnection) {
  TestPlane plane;
  const auto mallory = plane.Identity(v1::ROLE_AGENT, "mallory");
  const auto anna = plane.Channel(plane.Identity(v1::ROLE_VIEWER, "anna"));
  EXPECT_LT(Attack(plane.address(), mallory, GetParam()), kMostCalls);
  EXPECT_EQ(plane.gate().connections_cut(), 1u);
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
