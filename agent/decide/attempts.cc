#include "agent/decide/attempts.h"

#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

AttemptDecision DecideRunning(const AttemptFacts& attempt) {
  switch (attempt.stop) {
    case v1::Assignment::STOP_CANCEL: return {AttemptAction::kCancel, attempt.stop_reason};
    case v1::Assignment::STOP_TERMINATE: return {AttemptAction::kTerminate, attempt.stop_reason};
    default: return {};
  }
}

std::string LateReason(const AttemptFacts& attempt) {
  const std::string by = TimeText(absl::FromUnixSeconds(absl::ToUnixSeconds(attempt.start_by)));
  if (attempt.another_runs) {
    return fmt::format("not begun by {}: an earlier attempt of this run was not over", by);
  }
  return fmt::format("not begun by {}: other jobs ran on this host, or it heard of it too late",
                     by);
}

AttemptDecision DecideNew(const AttemptFacts& attempt, size_t& slots, absl::Time now) {
  if (attempt.stop != v1::Assignment::STOP_UNSPECIFIED) {
    return {AttemptAction::kNever,
            attempt.stop_reason.empty() ? "stopped before it began" : attempt.stop_reason};
  }
  if (now > attempt.start_by) return {AttemptAction::kNever, LateReason(attempt)};
  if (attempt.another_runs || slots == 0) return {};
  --slots;
  return {AttemptAction::kBegin, ""};
}

}  // namespace

std::vector<AttemptDecision> DecideAttempts(std::span<const AttemptFacts> attempts, size_t slots,
                                            absl::Time now) {
  std::vector<AttemptDecision> decisions;
  decisions.reserve(attempts.size());
  for (const AttemptFacts& attempt : attempts) {
    switch (attempt.phase) {
      case AttemptPhase::kNew: decisions.push_back(DecideNew(attempt, slots, now)); break;
      case AttemptPhase::kRuns: decisions.push_back(DecideRunning(attempt)); break;
      case AttemptPhase::kOver: decisions.emplace_back(); break;
    }
  }
  return decisions;
}

Demand DemandOn(const std::optional<EndWanted>& wanted, absl::Duration now) {
  if (!wanted) return Demand::kNone;
  return wanted->at_once || now >= wanted->since + kEndGrace ? Demand::kKill : Demand::kEnd;
}

}  // namespace muster::agent
