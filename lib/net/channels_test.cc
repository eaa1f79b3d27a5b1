#include "lib/net/channels.h"

#include <fmt/format.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <optional>

#include "lib/base/clock.h"
#include "lib/testing/servers.h"

namespace muster::net {
namespace {

using testing::Eventually;

auto Soon() { return absl::ToChronoTime(SystemClock().Now() + absl::Seconds(20)); }

class Server {
 public:
  Server() : port_(testing::FreePort()) { Start(); }
  ~Server() { Stop(); }
  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address(), grpc::InsecureServerCredentials());
    generic_.emplace();
    builder.RegisterCallbackGenericService(&*generic_);
    server_ = builder.BuildAndStart();
  }
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(SystemClock().Now()));
    server_.reset();
  }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }

 private:
  const uint16_t port_;
  std::optional<grpc::CallbackGenericService> generic_;
  std::unique_ptr<grpc::Server> server_;
};

class ChannelsTest : public ::testing::Test {
 protected:
  std::shared_ptr<grpc::Channel> To(const Server& server, const std::string& chain = "one") {
    return channels_.To(server.address(), {"roots", chain, "key"});
  }
  static bool IsIdle(const std::shared_ptr<grpc::Channel>& channel) {
    return Eventually([&] { return channel->GetState(false) == GRPC_CHANNEL_IDLE; });
  }

  Server server_;
  int opened_ = 0;
  Channels channels_{[this](const std::string& server, const ClientIdentity&) {
    ++opened_;
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
  }};
};

TEST_F(ChannelsTest, OneWhoseConnectionIsGoneConnectsAgain) {
  const auto channel = To(server_);
  for (int times = 0; times < 3; ++times) {
    ASSERT_TRUE(channel->WaitForConnected(Soon()));
    server_.Stop();
    ASSERT_TRUE(IsIdle(channel));
    server_.Start();
    EXPECT_EQ(To(server_), channel);
  }
  EXPECT_EQ(opened_, 1);
}

TEST_F(ChannelsTest, OneThatIsConnectedIsNotUsedAgain) {
  const auto channel = To(server_);
  ASSERT_TRUE(channel->WaitForConnected(Soon()));
  EXPECT_NE(To(server_), channel) << "its connection may be the one that answers no more";
}

TEST_F(ChannelsTest, OneWhoseAttemptFailedIsNotUsedAgain) {
  server_.Stop();
  const auto channel = To(server_);
  // Somebody must wait on the channel for it to get anywhere.
  ASSERT_TRUE(Eventually([&] {
    const auto state = channel->GetState(true);
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) return true;
    channel->WaitForStateChange(state, Soon());
    return false;
  }));
  EXPECT_NE(To(server_), channel) << "it rests before the next";
}

TEST_F(ChannelsTest, AnotherIdentityGetsNewOnes) {
  Server other;
  const auto channel = To(server_, "one");
  const auto of_other = To(other, "one");
  EXPECT_EQ(To(server_, "one"), channel);
  EXPECT_EQ(To(other, "one"), of_other);
  const auto renewed = To(server_, "two");
  EXPECT_NE(renewed, channel);
  EXPECT_NE(To(other, "two"), of_other);
  EXPECT_EQ(To(server_, "two"), renewed);
}

TEST_F(ChannelsTest, SoManyServersAreKeptAndNoMore) {
  const ClientIdentity identity{"roots", "chain", "key"};
  std::weak_ptr<grpc::Channel> first = channels_.To("127.0.0.1:1", identity);
  for (int port = 2; port <= 20; ++port) {
    channels_.To(fmt::format("127.0.0.1:{}", port), identity);
  }
  EXPECT_TRUE(first.expired());
}

}  // namespace
}  // namespace muster::net
