#include "agent/checks/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include <absl/synchronization/notification.h>

#include "lib/testing/servers.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

using testing::Eventually;
using testing::Pause;

// What probes of a test do, and what came of it.
struct Stage {
  absl::Mutex mutex;
  std::vector<v1::CheckResult> results ABSL_GUARDED_BY(mutex);
  std::function<ProbeResult(const ProbeContext&)> act = [](const ProbeContext&) {
    ProbeResult result;
    result.status = v1::CHECK_STATUS_OK;
    result.detail.set_summary("fine");
    return result;
  };
  std::atomic<int> made = 0;
  std::atomic<int> running = 0;
  std::atomic<int> most_running = 0;
  absl::Notification release;

  size_t Count(uint32_t check) {
    absl::MutexLock lock(&mutex);
    return static_cast<size_t>(std::count_if(results.begin(), results.end(),
                                             [&](const auto& r) { return r.check_id() == check; }));
  }
  std::vector<v1::CheckResult> Of(uint32_t check) {
    absl::MutexLock lock(&mutex);
    std::vector<v1::CheckResult> found;
    for (const auto& result : results) {
      if (result.check_id() == check) found.push_back(result);
    }
    return found;
  }
};

class StagedProbe final : public Probe {
 public:
  StagedProbe(Stage& stage, bool stuck) : stage_(stage), stuck_(stuck) {}
  ProbeResult Run(const ProbeContext& context) override {
    const int running = ++stage_.running;
    if (running > stage_.most_running) stage_.most_running = running;
    if (stuck_) stage_.release.WaitForNotification();
    ProbeResult result = stage_.act(context);
    --stage_.running;
    return result;
  }

 private:
  Stage& stage_;
  const bool stuck_;
};

std::unique_ptr<Checker> MakeChecker(Stage& stage, CheckerOptions options = {}) {
  options.agent = "db-1";
  return std::make_unique<Checker>(
      SystemClock(), options,
      [&stage](const v1::Probe& spec) -> StatusOr<std::unique_ptr<Probe>> {
        ++stage.made;
        if (spec.has_tcp() && spec.tcp().address() == "refused") {
          return PermissionDenied("add tcp to probes in the policy file");
        }
        return std::unique_ptr<Probe>(std::make_unique<StagedProbe>(
            stage, spec.has_tcp() && spec.tcp().address() == "stuck"));
      },
      [&stage](v1::CheckResult result, Novelty) {
        absl::MutexLock lock(&stage.mutex);
        stage.results.push_back(std::move(result));
      });
}

v1::PlannedCheck& AddCheck(v1::Plan& plan, uint32_t id, const std::string& address,
                           absl::Duration every = absl::Milliseconds(100)) {
  v1::PlannedCheck& check = *plan.add_checks();
  check.set_id(id);
  check.set_name(fmt::format("check-{}", id));
  *check.mutable_spec()->mutable_every() = wire::ToProto(every);
  *check.mutable_spec()->mutable_timeout() = wire::ToProto(absl::Milliseconds(50));
  check.mutable_spec()->mutable_probe()->mutable_tcp()->set_address(address);
  return check;
}

TEST(Checker, RunsEachCheckAgainAndAgain) {
  Stage stage;
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  AddCheck(plan, 1, "a");
  AddCheck(plan, 2, "b");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 5 && stage.Count(2) >= 5; }));
  EXPECT_TRUE(checker->Stop(absl::Seconds(5)));
  const auto results = stage.Of(1);
  EXPECT_EQ(results[0].detail().summary(), "fine");
  EXPECT_FALSE(results[1].has_detail());
  EXPECT_LT(wire::FromProto(results[0].observed_at()), wire::FromProto(results[1].observed_at()));
}

TEST(Checker, LooksAgainSoonerToConfirm) {
  Stage stage;
  stage.act = [](const ProbeContext&) {
    ProbeResult result;
    result.status = v1::CHECK_STATUS_CRITICAL;
    return result;
  };
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  v1::CheckSpec& spec = *AddCheck(plan, 1, "a", absl::Hours(1)).mutable_spec();
  spec.mutable_confirm()->set_failures(3);
  *spec.mutable_confirm()->mutable_retry_every() = wire::ToProto(absl::Milliseconds(100));
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) == 3; }));
  Pause(absl::Milliseconds(300));
  EXPECT_EQ(stage.Count(1), 3u);
}

TEST(Checker, SaysWhatThePolicyRefusesAtEverySlot) {
  Stage stage;
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  AddCheck(plan, 1, "refused");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 3; }));
  const auto results = stage.Of(1);
  EXPECT_EQ(results[2].status(), v1::CHECK_STATUS_UNKNOWN);
  EXPECT_THAT(results[2].detail().summary(), ::testing::HasSubstr("policy file"));
}

TEST(Checker, StuckProbesAreReportedAndDoNotStopTheOthers) {
  Stage stage;
  auto checker =
      MakeChecker(stage, {.threads = 2, .most_threads = 8, .grace = absl::Milliseconds(50)});
  v1::Plan plan;
  for (uint32_t id = 1; id <= 4; ++id) AddCheck(plan, id, "stuck");
  AddCheck(plan, 9, "a");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually(
      [&] { return stage.Count(9) >= 5 && stage.Count(1) >= 2 && stage.Count(4) >= 2; }));
  EXPECT_EQ(stage.Of(1)[0].status(), v1::CHECK_STATUS_UNKNOWN);
  EXPECT_EQ(stage.Of(1)[0].detail().summary(), "probe did not return");
  EXPECT_EQ(checker->counts().stuck, 4u);
  EXPECT_LE(checker->counts().threads, 6u);
  EXPECT_FALSE(checker->Stop(absl::Milliseconds(20)));
  stage.release.Notify();
  EXPECT_TRUE(checker->Stop(absl::Seconds(5)));
}

TEST(Checker, AStuckProbeThatReturnsWorksAgain) {
  Stage stage;
  auto checker = MakeChecker(stage, {.threads = 1, .grace = absl::Milliseconds(10)});
  v1::Plan plan;
  AddCheck(plan, 1, "stuck");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 2; }));
  stage.release.Notify();
  EXPECT_TRUE(Eventually([&] {
    const auto results = stage.Of(1);
    return results.back().status() == v1::CHECK_STATUS_OK;
  }));
  EXPECT_EQ(checker->counts().stuck, 0u);
}

TEST(Checker, NeverRunsACheckTwiceAtOnce) {
  Stage stage;
  stage.act = [&](const ProbeContext&) {
    Pause(absl::Milliseconds(250));
    return ProbeResult{v1::CHECK_STATUS_OK, {}};
  };
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  AddCheck(plan, 1, "a");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 3; }));
  EXPECT_EQ(stage.most_running, 1);
  EXPECT_GE(checker->counts().skipped, 3u);
}

TEST(Checker, LeavesUnchangedChecksAloneWhenThePlanChanges) {
  Stage stage;
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  AddCheck(plan, 1, "a");
  AddCheck(plan, 2, "b");
  checker->Apply(plan);
  EXPECT_EQ(stage.made, 2);
  plan.mutable_checks(1)->mutable_spec()->mutable_probe()->mutable_tcp()->set_address("c");
  checker->Apply(plan);
  EXPECT_EQ(stage.made, 3);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 2 && stage.Count(2) >= 2; }));
  checker->Apply({});
  const size_t before = stage.Count(1);
  Pause(absl::Milliseconds(250));
  EXPECT_LE(stage.Count(1), before + 1);
  EXPECT_EQ(checker->counts().checks, 0u);
}

TEST(Checker, HoldsAThousandChecksOnFewThreads) {
  Stage stage;
  auto checker = MakeChecker(stage, {.threads = 4});
  v1::Plan plan;
  for (uint32_t id = 1; id <= 1000; ++id) AddCheck(plan, id, "a", absl::Seconds(1));
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return checker->counts().results >= 2000; }));
  EXPECT_LE(checker->counts().threads, 4u);
}

TEST(Checker, PassesOnValidTextOnly) {
  Stage stage;
  stage.act = [](const ProbeContext&) {
    ProbeResult result;
    result.status = v1::CHECK_STATUS_CRITICAL;
    result.detail.set_summary("bad \xff byte\n" + std::string(600, 'x'));
    return result;
  };
  auto checker = MakeChecker(stage);
  v1::Plan plan;
  AddCheck(plan, 1, "a");
  checker->Apply(plan);
  EXPECT_TRUE(Eventually([&] { return stage.Count(1) >= 1; }));
  const std::string bytes = stage.Of(1)[0].SerializeAsString();
  EXPECT_TRUE(v1::CheckResult().ParseFromString(bytes));
  EXPECT_LE(stage.Of(1)[0].detail().summary().size(), 512u);
}

}  // namespace
}  // namespace muster::agent
