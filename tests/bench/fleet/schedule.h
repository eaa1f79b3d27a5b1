// What a simulated agent's checks find and when: the plan's checks at their own cadence, by the
// agent's own rules (agent/decide), without probing anything. Steady checks are OK with latencies
// that vary; a share of them fails for half of each period and mends for the other half.
//
// One thread at a time, but for PlanBook.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/decide/cadence.h"
#include "lib/decide/check_state.h"
#include "muster/v1/agent_link.pb.h"
#include "tests/bench/fleet/agent_log.h"

namespace muster::bench {

struct PlannedBrief {
  uint32_t id = 0;
  std::string name;
  absl::Duration every;
  absl::Duration retry_every;
  v1::Confirm confirm;
};

struct SharedPlan {
  std::string hash;
  std::vector<PlannedBrief> checks;  // ascending by id
};

// Agents with the same plan share one. Any thread may call.
class PlanBook {
 public:
  std::shared_ptr<const SharedPlan> Take(const v1::Plan& plan);

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<const SharedPlan>> plans_ ABSL_GUARDED_BY(mutex_);
};

struct FailureOptions {
  double share = 0.01;  // of all checks of all agents
  absl::Duration period = absl::Minutes(1);
};

struct Found {
  LoggedResult result;
  bool news = false;
};

class Schedule {
 public:
  // The agent's name spreads its checks, and says which of them fail.
  Schedule(std::string agent, FailureOptions failures);

  // Checks that are as before go on undisturbed. Times are Clock::Uptime.
  void Take(std::shared_ptr<const SharedPlan> plan, absl::Duration now);
  // When the next result is due; InfiniteFuture without any.
  absl::Duration next_due() const { return next_due_; }
  // What has fallen due, in order. `wall` is the wall time at `now`.
  std::vector<Found> Run(absl::Duration now, absl::Time wall);

 private:
  struct Check {
    absl::Duration due;
    absl::Duration splay;
    absl::Duration failing_phase = -absl::InfiniteDuration();  // never fails
    absl::Duration detail_at = -absl::InfiniteDuration();
    decide::CheckBelief belief;
    uint32_t usual_latency_us = 0;
    v1::CheckStatus said = v1::CHECK_STATUS_NO_DATA;
    bool looked = false;
  };
  Check MakeCheck(const PlannedBrief& planned, absl::Duration now) const;
  Found Look(const PlannedBrief& planned, Check& check, absl::Duration now, absl::Time wall);
  v1::CheckStatus StatusAt(const Check& check, absl::Duration uptime) const;
  uint32_t Draw(uint32_t bound);
  void SetNextDue();

  const std::string agent_;
  const FailureOptions failures_;
  std::shared_ptr<const SharedPlan> plan_;
  std::vector<Check> checks_;  // as in the plan
  absl::Duration next_due_ = absl::InfiniteDuration();
  uint64_t drawn_;
};

}  // namespace muster::bench
