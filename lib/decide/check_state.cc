#include "lib/decide/check_state.h"

#include <algorithm>

#include <fmt/format.h>

namespace muster::decide {
namespace {

constexpr auto kOk = v1::CHECK_STATUS_OK;

uint32_t Needed(v1::CheckStatus status, const v1::Confirm& confirm) {
  return std::max<uint32_t>(1, status == kOk ? confirm.successes() : confirm.failures());
}

// Results of two statuses belong to one suspicion: both bad, or the same.
bool SameSuspicion(v1::CheckStatus a, v1::CheckStatus b) {
  return a == b || (a != kOk && b != kOk);
}

std::string Counted(uint32_t seen, uint32_t needed, v1::CheckStatus status) {
  return fmt::format("{} of {} {}", seen, needed, status == kOk ? "successes" : "failures");
}

BeliefChange Settle(CheckBelief belief, v1::CheckStatus status, Step step, std::string reason) {
  belief.hard = true;
  belief.seen = 0;
  belief.needed = 0;
  belief.confirmed = status;
  return {belief, step, std::move(reason)};
}

}  // namespace

BeliefChange Believe(const CheckBelief& before, v1::CheckStatus status, absl::Time observed_at,
                     const v1::Confirm& confirm) {
  CheckBelief belief = before;
  if (status != before.shown) belief.since = observed_at;
  belief.shown = status;

  if (status == before.confirmed) {
    if (before.hard) return {belief, Step::kSame, ""};
    return Settle(belief, status, Step::kFalseAlarm, "back before it was confirmed");
  }
  const bool goes_on = !before.hard && SameSuspicion(before.shown, status);
  const uint32_t needed = Needed(status, confirm);
  const uint32_t seen = goes_on ? before.seen + 1 : 1;
  if (seen >= needed) return Settle(belief, status, Step::kHard, Counted(seen, needed, status));

  belief.hard = false;
  belief.seen = seen;
  belief.needed = needed;
  const bool news = !goes_on || before.shown != status;
  return {belief, news ? Step::kSoft : Step::kSame, Counted(seen, needed, status)};
}

BeliefChange BelieveNoData(const CheckBelief& before, absl::Time since, std::string reason) {
  CheckBelief belief = before;
  if (before.shown == v1::CHECK_STATUS_NO_DATA) return {belief, Step::kSame, ""};
  belief.shown = v1::CHECK_STATUS_NO_DATA;
  belief.since = since;
  return Settle(belief, v1::CHECK_STATUS_NO_DATA, Step::kHard, std::move(reason));
}

}  // namespace muster::decide
