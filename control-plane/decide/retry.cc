#include "control-plane/decide/retry.h"

#include <algorithm>

#include "lib/base/hash.h"
#include "lib/base/status.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

RetryDecision No(std::string reason) { return {std::nullopt, std::move(reason)}; }

// Why the way that it ended forbids another attempt, or nothing.
std::optional<std::string> Forbidden(const RetryFacts& facts) {
  switch (facts.end) {
    case AttemptEnd::kSucceeded: return "it succeeded";
    case AttemptEnd::kCancelled: return "it was cancelled";
    case AttemptEnd::kUnknown: return "its outcome is unknown: look, then run it again by hand";
    case AttemptEnd::kNeverBegan: return std::nullopt;
    case AttemptEnd::kFailed:
    case AttemptEnd::kTimedOut: break;
  }
  if (facts.policy.repeatable) return std::nullopt;
  return "its task may not be repeated by itself";
}

absl::Duration Wait(const RetryFacts& facts) {
  const Backoff& wait = facts.policy.wait;
  absl::Duration bound = wait.first;
  for (uint32_t i = 1; i < facts.attempts && bound < wait.longest; ++i) bound *= 2;
  bound = std::min(bound, wait.longest);
  return bound / 2 + NameDraw(fmt::format("retry/{}#{}", facts.run, facts.attempts), bound / 2);
}

}  // namespace

RetryDecision DecideRetry(const RetryFacts& facts) {
  if (auto why = Forbidden(facts)) return No(*std::move(why));
  if (facts.attempts >= facts.policy.attempts) {
    return No(fmt::format("attempt {} of {} was the last", facts.attempts, facts.policy.attempts));
  }
  const absl::Time at = std::max(facts.ended_at + Wait(facts), facts.not_before);
  if (at >= facts.deadline) {
    return No(fmt::format("the run's deadline {} comes before the next attempt",
                          TimeText(facts.deadline)));
  }
  return {at, fmt::format("attempt {} of {}", facts.attempts + 1, facts.policy.attempts)};
}

}  // namespace muster::control
