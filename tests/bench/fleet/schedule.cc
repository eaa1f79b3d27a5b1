#include "tests/bench/fleet/schedule.h"

#include <algorithm>

#include "lib/wire/time.h"
#include "tests/bench/lib/http_result.h"

namespace muster::bench {
namespace {

constexpr absl::Duration kShortest = absl::Milliseconds(100);
constexpr uint32_t kLeastLatencyUs = 300;
constexpr uint32_t kLatencySpreadUs = 20'000;

PlannedBrief BriefOf(const v1::PlannedCheck& planned) {
  PlannedBrief brief;
  brief.id = planned.id();
  brief.name = planned.name();
  brief.every = std::max(wire::FromProto(planned.spec().every()), kShortest);
  brief.confirm = planned.spec().confirm();
  brief.retry_every = brief.every;
  if (brief.confirm.has_retry_every()) {
    brief.retry_every = std::max(wire::FromProto(brief.confirm.retry_every()), kShortest);
  }
  return brief;
}

bool Same(const PlannedBrief& a, const PlannedBrief& b) {
  return a.id == b.id && a.name == b.name && a.every == b.every && a.retry_every == b.retry_every &&
         a.confirm.failures() == b.confirm.failures() &&
         a.confirm.successes() == b.confirm.successes();
}

// Uniform in [0, 1), the same for the same names: the cadence's hash serves here too.
double Share(const std::string& what, const std::string& agent) {
  return absl::FDivDuration(agent::Splay(what, agent, absl::Seconds(1)), absl::Seconds(1));
}

}  // namespace

std::shared_ptr<const SharedPlan> PlanBook::Take(const v1::Plan& plan) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<const SharedPlan>& known = plans_[plan.hash()];
  if (known != nullptr) return known;
  SharedPlan shared{plan.hash(), {}};
  for (const v1::PlannedCheck& planned : plan.checks()) shared.checks.push_back(BriefOf(planned));
  known = std::make_shared<const SharedPlan>(std::move(shared));
  return known;
}

Schedule::Schedule(std::string agent, FailureOptions failures)
    : agent_(std::move(agent)),
      failures_(failures),
      drawn_(static_cast<uint64_t>(
          absl::ToInt64Nanoseconds(agent::Splay("latency", agent_, absl::Hours(1))))) {}

void Schedule::Take(std::shared_ptr<const SharedPlan> plan, absl::Duration now) {
  std::vector<Check> checks;
  checks.reserve(plan->checks.size());
  for (const PlannedBrief& planned : plan->checks) {
    const Check* kept = nullptr;
    for (size_t i = 0; i < checks_.size(); ++i) {
      if (Same(plan_->checks[i], planned)) kept = &checks_[i];
    }
    checks.push_back(kept != nullptr ? *kept : MakeCheck(planned, now));
  }
  checks_ = std::move(checks);
  plan_ = std::move(plan);
  SetNextDue();
}

Schedule::Check Schedule::MakeCheck(const PlannedBrief& planned, absl::Duration now) const {
  Check check;
  check.splay = agent::Splay(planned.name, agent_, planned.every);
  check.due = agent::FirstDue({planned.every, planned.retry_every, check.splay}, now);
  check.usual_latency_us =
      kLeastLatencyUs +
      static_cast<uint32_t>(Share("usual " + planned.name, agent_) * kLatencySpreadUs);
  if (Share("fails " + planned.name, agent_) < failures_.share) {
    check.failing_phase = agent::Splay("phase " + planned.name, agent_, failures_.period);
  }
  return check;
}

std::vector<Found> Schedule::Run(absl::Duration now, absl::Time wall) {
  std::vector<Found> found;
  while (next_due_ <= now) {
    const auto first =
        std::min_element(checks_.begin(), checks_.end(),
                         [](const Check& a, const Check& b) { return a.due < b.due; });
    found.push_back(
        Look(plan_->checks[static_cast<size_t>(first - checks_.begin())], *first, now, wall));
    SetNextDue();
  }
  return found;
}

Found Schedule::Look(const PlannedBrief& planned, Check& check, absl::Duration now,
                     absl::Time wall) {
  const absl::Duration started = check.due;
  const agent::Cadence cadence{planned.every, planned.retry_every, check.splay};
  Found found;
  LoggedResult& result = found.result;
  result.check_id = planned.id;
  result.status = StatusAt(check, started);
  result.observed_at_us = absl::ToUnixMicros(wall - (now - started));
  result.latency_us = check.usual_latency_us + Draw(check.usual_latency_us / 4);

  const agent::LastSaid last{check.said, HttpSummary(check.said), check.detail_at};
  found.news = check.said != result.status;
  result.told = agent::NeedsDetail(last, result.status, HttpSummary(result.status), started);
  if (result.told) check.detail_at = started;
  check.said = result.status;
  check.belief = decide::Believe(check.belief, result.status,
                                 absl::FromUnixMicros(result.observed_at_us), planned.confirm)
                     .belief;

  const agent::Slot slot = check.looked ? agent::NextSlot(cadence, started, now)
                                        : agent::SlotAfterFirst(cadence, started, now);
  check.looked = true;
  check.due = agent::DueAfterResult(cadence, check.belief, started, now, slot.due);
  return found;
}

v1::CheckStatus Schedule::StatusAt(const Check& check, absl::Duration uptime) const {
  if (check.failing_phase < absl::ZeroDuration()) return v1::CHECK_STATUS_OK;
  const absl::Duration into = (uptime + check.failing_phase) % failures_.period;
  return into < failures_.period / 2 ? v1::CHECK_STATUS_CRITICAL : v1::CHECK_STATUS_OK;
}

// Marsaglia's xorshift64: latencies need to vary, no more.
uint32_t Schedule::Draw(uint32_t bound) {
  drawn_ |= 1;
  drawn_ ^= drawn_ << 13;
  drawn_ ^= drawn_ >> 7;
  drawn_ ^= drawn_ << 17;
  return bound == 0 ? 0 : static_cast<uint32_t>(drawn_ >> 32) % bound;
}

void Schedule::SetNextDue() {
  next_due_ = absl::InfiniteDuration();
  for (const Check& check : checks_) next_due_ = std::min(next_due_, check.due);
}

}  // namespace muster::bench
