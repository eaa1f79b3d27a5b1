#include <atomic>
#include <memory>

#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <gtest/gtest.h>

#include "control-plane/http/metrics.h"
#include "control-plane/http/readiness.h"
#include "control-plane/http/server.h"
#include "lib/exec/threads.h"
#include "lib/testing/servers.h"

namespace muster::control {
namespace {

using testing::RunProgram;

TEST(Readiness, IsNoUntilThereIsSomebodyToAsk) {
  Readiness readiness;
  EXPECT_EQ(Text(readiness.Now()), "UNAVAILABLE: starting");
  readiness.Not(Unavailable("waits for the store"));
  EXPECT_EQ(Text(readiness.Now()), "UNAVAILABLE: waits for the store");
  readiness.Ask([] { return OkStatus(); });
  EXPECT_TRUE(readiness.Now().ok());
  readiness.Not(Unavailable("stopping"));
  EXPECT_EQ(Text(readiness.Now()), "UNAVAILABLE: stopping");
}

TEST(Readiness, WhoIsAskedMayGoOnceNoQuestionIsOpen) {
  Readiness readiness;
  auto asked = std::make_unique<absl::Notification>();
  absl::Notification go;
  std::atomic<bool> answered = false;
  readiness.Ask([&] {
    asked->Notify();
    go.WaitForNotification();
    asked.reset();
    answered = true;
    return OkStatus();
  });
  exec::Thread asker("asker", [&] { EXPECT_TRUE(readiness.Now().ok()); });
  asked->WaitForNotification();
  exec::Thread freer("freer", [&] { go.Notify(); });
  readiness.Not(Unavailable("stopping"));
  EXPECT_TRUE(answered);
}

// One server for all tests: civetweb takes two seconds to stop after it has served.
class Http : public ::testing::Test {
 protected:
  struct Served {
    Metrics metrics{"1.2.3"};
    absl::Mutex mutex;
    Status ready ABSL_GUARDED_BY(mutex);
    std::unique_ptr<HttpServer> server;
  };

  static void SetUpTestSuite() {
    served_ = new Served;
    auto started = HttpServer::Start({.listen = "127.0.0.1:0"}, served_->metrics, [] {
      const absl::MutexLock lock(&served_->mutex);
      return served_->ready;
    });
    ASSERT_TRUE(started.ok()) << started.status();
    served_->server = std::move(*started);
  }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }
  void SetUp() override { ASSERT_NE(served_->server, nullptr); }

  static std::string Url(const std::string& path) {
    return fmt::format("http://127.0.0.1:{}{}", served_->server->port(), path);
  }
  static void SetReady(const Status& status) {
    const absl::MutexLock lock(&served_->mutex);
    served_->ready = status;
  }

  // "BODY CODE"
  std::string Ask(const std::string& path, std::vector<std::string> more = {}) {
    std::vector<std::string> argv{"curl", "-s", "--max-time", "10", "-w", " %{http_code}"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back(Url(path));
    return RunProgram(argv).out;
  }

  static Served* served_;
};

Http::Served* Http::served_ = nullptr;

TEST_F(Http, SaysThatItIsHealthyAndReady) {
  EXPECT_EQ(Ask("/-/healthy"), "ok\n 200");
  EXPECT_EQ(Ask("/-/ready"), "ok\n 200");
}

TEST_F(Http, IsNotReadyWithoutItsStoreAndSaysWhy) {
  SetReady(Unavailable("the store does not answer"));
  EXPECT_EQ(Ask("/-/ready"), "the store does not answer\n 503");
  EXPECT_EQ(Ask("/-/healthy"), "ok\n 200");
  SetReady(OkStatus());
}

TEST_F(Http, RefusesWhatItDoesNotKnow) {
  EXPECT_TRUE(Ask("/").ends_with(" 404"));
  EXPECT_TRUE(Ask("/etc/passwd").ends_with(" 404"));
  EXPECT_TRUE(Ask("/metrics/more").ends_with(" 404"));
  EXPECT_TRUE(Ask("/metrics", {"-X", "POST", "-d", "x"}).ends_with(" 405"));
  EXPECT_TRUE(Ask("/-/ready", {"-X", "DELETE"}).ends_with(" 405"));
}

TEST_F(Http, RefusesLongHeaders) {
  const std::string answer = Ask("/metrics", {"-H", "X-Long: " + std::string(10'000, 'x')});
  EXPECT_FALSE(answer.ends_with(" 200")) << answer;
}

TEST_F(Http, ServesMetricsThatPromtoolAccepts) {
  const auto text = RunProgram({"curl", "-s", Url("/metrics")});
  ASSERT_EQ(text.exit_code, 0);
  const auto checked = RunProgram({"promtool", "check", "metrics"}, text.out);
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
}

TEST_F(Http, SaysWhenThePortIsTaken) {
  auto second = HttpServer::Start({.listen = fmt::format("127.0.0.1:{}", served_->server->port())},
                                  served_->metrics, [] { return OkStatus(); });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST(Metrics, AreAllThereFromTheStart) {
  const std::string text = Metrics("1.2.3").Text();
  for (const char* line :
       {"muster_agents_connected 0",
        "muster_connections 0",
        "muster_connections_limit 0",
        "muster_results_stored_total 0",
        "muster_batches_stored_total 0",
        "muster_batches_refused_total{reason=\"fenced\"} 0",
        "muster_commit_duration_seconds_count 0",
        "muster_ingest_queue_batches 0",
        "muster_alerts_firing 0",
        "muster_outbox_waiting 0",
        "muster_notifications_total{outcome=\"delivered\",receiver_kind=\"slack\"} 0",
        "muster_sessions_opened_total 0",
        "muster_connections_refused_total{reason=\"limit\"} 0",
        "muster_connections_refused_total{reason=\"busy\"} 0",
        "muster_connections_refused_total{reason=\"denied\"} 0",
        "muster_connections_silent_total 0",
        "muster_certificate_authority_not_after_timestamp_seconds 0",
        "muster_leader 0",
        "muster_leader_epoch 0",
        "muster_leader_writes_refused_total 0",
        "muster_replicas{state=\"lost\"} 0",
        "muster_build_info{version=\"1.2.3\"} 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST(Metrics, CountUnlistedReasonsAsOther) {
  Metrics metrics("1");
  metrics.batches_refused.With("a reason nobody foresaw").Increment();
  EXPECT_NE(metrics.Text().find("muster_batches_refused_total{reason=\"other\"} 1"),
            std::string::npos);
}

}  // namespace
}  // namespace muster::control
