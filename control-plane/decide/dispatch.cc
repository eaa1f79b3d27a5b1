#include "control-plane/decide/dispatch.h"

#include <algorithm>
#include <optional>

#include "control-plane/decide/admission.h"
#include "control-plane/decide/job_schedule.h"
#include "control-plane/decide/retry.h"
#include "control-plane/store/run_events.h"
#include "lib/base/text.h"
#include "lib/decide/selector.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

// How late a further attempt may begin, at least.
constexpr absl::Duration kRetryWindow = absl::Hours(1);

AttemptEnd EndOf(v1::RunOutcome outcome) {
  switch (outcome) {
    case v1::RUN_OUTCOME_SUCCEEDED: return AttemptEnd::kSucceeded;
    case v1::RUN_OUTCOME_FAILED: return AttemptEnd::kFailed;
    case v1::RUN_OUTCOME_TIMED_OUT: return AttemptEnd::kTimedOut;
    case v1::RUN_OUTCOME_CANCELLED: return AttemptEnd::kCancelled;
    case v1::RUN_OUTCOME_NEVER_BEGAN: return AttemptEnd::kNeverBegan;
    default: return AttemptEnd::kUnknown;
  }
}

RetryPolicy PolicyOf(const v1::JobSpec& spec) {
  RetryPolicy policy;
  policy.attempts = std::max(1U, spec.retry().attempts());
  // What a backup or a restore leaves half done it takes away itself.
  policy.repeatable = !spec.has_command() || spec.command().repeatable();
  if (spec.retry().has_wait()) policy.wait.first = wire::FromProto(spec.retry().wait());
  if (spec.retry().has_longest_wait()) {
    policy.wait.longest = wire::FromProto(spec.retry().longest_wait());
  }
  return policy;
}

class Dispatcher {
 public:
  Dispatcher(const DispatchFacts& facts, absl::Time now) : facts_(facts), now_(now) {}

  DispatchPlan Plan() && {
    admission_.per_host = facts_.per_host;
    for (const RunRow& run : facts_.open) Look(run);
    Begin();
    return std::move(plan_);
  }

 private:
  // A run that an agent would take, and what it would do there.
  struct Waiting {
    const RunRow* run = nullptr;
    const v1::JobSpec* spec = nullptr;
    std::string agent;
  };

  void Look(const RunRow& run) {
    switch (run.phase) {
      case RunPhase::kWaiting: return LookAtWaiting(run);
      case RunPhase::kAssigned:
      case RunPhase::kBegan: return LookAtRunning(run);
      case RunPhase::kAttemptOver: return Judge(run);
      case RunPhase::kOver: return;
    }
  }

  void LookAtWaiting(const RunRow& run) {
    if (run.stop != RunStop::kNo) {
      return Conclude(run, v1::RUN_STATE_CANCELLED, "cancelled", run.stop_reason, false);
    }
    if (!facts_.jobs.contains(run.job)) return NoAttempt(run, "the job was deleted", false);
    if (run.spec.has_reported()) return LookAtExpected(run);
    const absl::Time due = Opens(run);
    if (due > now_) return LookAgain(std::min(due, run.start_by));
    const v1::JobSpec* spec = SpecOf(run);
    const std::optional<std::string> agent = spec == nullptr ? std::nullopt : Place(*spec);
    if (agent.has_value()) {
      admission_.waiting.push_back(
          {run.id, run.due_at, *agent, ClaimsOf(run.job, *spec), run.start_by});
      waiting_[run.id] = {&run, spec, *agent};
      return;
    }
    const std::string why = spec == nullptr ? NoBackupWhy(run) : NobodyWhy(*spec);
    if (now_ > run.start_by) {
      return NoAttempt(run, fmt::format("had not begun by {}: {}", TimeText(run.start_by), why),
                       true);
    }
    LookAgain(run.start_by + absl::Nanoseconds(1));
    Hold(run, why);
  }

  // Its host begins it, and tells.
  void LookAtExpected(const RunRow& run) {
    if (now_ <= run.start_by) return LookAgain(run.start_by + absl::Nanoseconds(1));
    const bool nobody = !Place(run.spec).has_value();
    NoAttempt(run,
              fmt::format("nobody has told of it by {}{}{}", TimeText(run.start_by),
                          nobody ? ": " : "", nobody ? NobodyWhy(run.spec) : ""),
              true);
  }

  // Its moment, or the end of the blackout window that this lies in.
  static absl::Time Opens(const RunRow& run) {
    if (run.trigger != v1::RUN_TRIGGER_SCHEDULE || run.spec.schedule().blackouts().empty()) {
      return run.due_at;
    }
    const auto schedule = ScheduleOf(run.spec);
    if (!schedule.ok() || !schedule->has_value()) return run.due_at;
    return FirstOpen((*schedule)->blackouts, run.due_at);
  }

  // What the run does; nullptr: a drill, and nothing to prove.
  const v1::JobSpec* SpecOf(const RunRow& run) const {
    if (!run.spec.has_drill_backup()) return &run.spec;
    const auto drill = facts_.drills.find(run.id);
    return drill == facts_.drills.end() ? nullptr : &drill->second;
  }

  static std::string NoBackupWhy(const RunRow& run) {
    return fmt::format("there is no whole backup of {} to prove: musterctl backup list {}",
                       run.spec.drill_backup().job(), run.spec.drill_backup().job());
  }

  std::optional<std::string> Place(const v1::JobSpec& spec) const {
    if (const auto named = spec.agents().find("agent"); named != spec.agents().end()) {
      const auto agent = facts_.agents.find(named->second);
      if (agent != facts_.agents.end() && Takes(agent->first, agent->second, spec)) {
        return agent->first;
      }
      // Another agent may carry that as a label of its own.
    }
    for (const auto& [name, agent] : facts_.agents) {
      if (Takes(name, agent, spec)) return name;
    }
    return std::nullopt;
  }

  static bool Takes(const std::string& name, const HostView& agent, const v1::JobSpec& spec) {
    return agent.connected && !agent.revoked && decide::Selects(spec.agents(), name, agent.labels);
  }

  std::string NobodyWhy(const v1::JobSpec& spec) const {
    std::string names;
    for (const auto& [name, agent] : facts_.agents) {
      if (agent.revoked || !decide::Selects(spec.agents(), name, agent.labels)) continue;
      names += (names.empty() ? "" : ", ") + name;
    }
    if (names.empty()) return "no agent carries the labels that the job asks for";
    if (names.size() > 200) names = names.substr(0, 200) + "…";
    return fmt::format("no agent that the job asks for is connected: {}", names);
  }

  void LookAtRunning(const RunRow& run) {
    const auto agent = facts_.agents.find(run.agent);
    if (agent == facts_.agents.end() || agent->second.revoked) {
      return Conclude(run, v1::RUN_STATE_UNKNOWN, "given up",
                      fmt::format("agent {} was revoked while it had the run", run.agent), true);
    }
    const absl::Time until = GiveUpAt(run);
    if (now_ >= until) {
      return Conclude(run, v1::RUN_STATE_UNKNOWN, "given up",
                      fmt::format("agent {} has told of no end by {}", run.agent, TimeText(until)),
                      true);
    }
    LookAgain(until);
    if (run.spec.has_reported()) return;
    admission_.running.push_back({run.id, run.due_at, run.agent, ClaimsOf(run.job, run.spec)});
  }

  static absl::Time GiveUpAt(const RunRow& run) {
    const absl::Time began = run.phase == RunPhase::kAssigned
                                 ? std::max(run.assigned_at, run.start_by)
                                 : std::max(run.assigned_at, run.started_at);
    return began + wire::FromProto(run.spec.deadline()) + kGiveUpAfter;
  }

  void Judge(const RunRow& run) {
    const RetryPolicy policy = PolicyOf(run.spec);
    const AttemptEnd end = EndOf(run.outcome);
    const RetryDecision retry = DecideRetry({.run = run.id,
                                             .policy = policy,
                                             .attempts = static_cast<uint32_t>(run.fence),
                                             .end = end,
                                             .ended_at = std::min(run.finished_at, now_)});
    if (retry.at.has_value() && run.stop == RunStop::kNo && facts_.jobs.contains(run.job)) {
      RunRow next = run;
      next.phase = RunPhase::kWaiting;
      next.state = v1::RUN_STATE_QUEUED;
      next.due_at = *retry.at;
      next.start_by = *retry.at + kRetryWindow;
      next.finished_at = absl::InfiniteFuture();
      next.reason = fmt::format("attempt {} of {}: {}; the next at {}", run.fence, policy.attempts,
                                run.reason, TimeText(*retry.at));
      return Change(run, std::move(next), "retry");
    }
    const bool tells = end != AttemptEnd::kCancelled;
    Conclude(run, StateOf(run.outcome), "over", Said(run, policy), tells);
  }

  static std::string Said(const RunRow& run, const RetryPolicy& policy) {
    if (policy.attempts == 1 || run.outcome == v1::RUN_OUTCOME_SUCCEEDED) return run.reason;
    return fmt::format("attempt {} of {}: {}", run.fence, policy.attempts, run.reason);
  }

  void Begin() {
    const AdmissionPlan admitted = Admit(std::move(admission_), now_);
    for (const std::string& id : admitted.start) Assign(waiting_.at(id));
    for (const HeldRun& held : admitted.held) Hold(*waiting_.at(held.run).run, held.reason);
    for (const HeldRun& missed : admitted.missed) {
      NoAttempt(*waiting_.at(missed.run).run, missed.reason, true);
    }
    LookAgain(admitted.next_look);
  }

  void Assign(const Waiting& waiting) {
    const RunRow& run = *waiting.run;
    RunRow next = run;
    next.phase = RunPhase::kAssigned;
    next.spec = *waiting.spec;
    next.agent = waiting.agent;
    next.fence = run.fence + 1;
    next.assigned_at = now_;
    next.outcome = v1::RUN_OUTCOME_UNSPECIFIED;
    next.exit_code = -1;
    next.reason = fmt::format("assigned to {}", next.agent);
    Change(run, std::move(next), "assigned");
    plan_.changes.back().new_spec = run.spec.has_drill_backup();
  }

  void Hold(const RunRow& run, const std::string& why) {
    if (run.reason == why) return;
    RunRow next = run;
    next.reason = why;
    Change(run, std::move(next), "held");
  }

  // It waits, and will not begin: missed, or, where an attempt was made, as that ended.
  void NoAttempt(const RunRow& run, const std::string& why, bool tells) {
    if (run.fence == 0) return Conclude(run, v1::RUN_STATE_MISSED, "missed", why, tells);
    Conclude(
        run, StateOf(run.outcome), "over",
        fmt::format("attempt {} did not succeed, and no further one began: {}", run.fence, why),
        tells);
  }

  void Conclude(const RunRow& run, v1::RunState state, std::string what, std::string reason,
                bool tells) {
    RunRow next = run;
    next.phase = RunPhase::kOver;
    next.state = state;
    next.reason = std::move(reason);
    if (next.finished_at == absl::InfiniteFuture()) next.finished_at = now_;
    Change(run, std::move(next), std::move(what));
    plan_.changes.back().concludes = tells;
  }

  void Change(const RunRow& before, RunRow after, std::string what) {
    plan_.changes.push_back({.row = std::move(after),
                             .expected_phase = before.phase,
                             .expected_fence = before.fence,
                             .what = std::move(what)});
  }

  void LookAgain(absl::Time at) { plan_.next_look = std::min(plan_.next_look, at); }

  const DispatchFacts& facts_;
  const absl::Time now_;
  AdmissionFacts admission_;
  std::map<std::string, Waiting> waiting_;
  DispatchPlan plan_;
};

}  // namespace

DispatchPlan DecideDispatch(const DispatchFacts& facts, absl::Time now) {
  return Dispatcher(facts, now).Plan();
}

}  // namespace muster::control
