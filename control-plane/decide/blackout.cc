#include "control-plane/decide/blackout.h"

#include <algorithm>

namespace muster::control {
namespace {

constexpr int kMostInARow = 1000;

}  // namespace

std::optional<BlackoutSpan> BlackoutAt(const std::vector<Blackout>& blackouts, absl::Time at) {
  std::optional<BlackoutSpan> found;
  for (const Blackout& blackout : blackouts) {
    const auto begin = PreviousSlot(blackout.begins, at + absl::Nanoseconds(1));
    if (!begin || at >= *begin + blackout.lasts) continue;
    if (found && found->end >= *begin + blackout.lasts) continue;
    found = BlackoutSpan{blackout.name, *begin, *begin + blackout.lasts};
  }
  return found;
}

absl::Time NextBlackout(const std::vector<Blackout>& blackouts, absl::Time after) {
  absl::Time next = absl::InfiniteFuture();
  for (const Blackout& blackout : blackouts) {
    next = std::min(next, NextSlot(blackout.begins, after).value_or(absl::InfiniteFuture()));
  }
  return next;
}

absl::Time FirstOpen(const std::vector<Blackout>& blackouts, absl::Time at) {
  for (int i = 0; i < kMostInARow; ++i) {
    const auto window = BlackoutAt(blackouts, at);
    if (!window) return at;
    at = window->end;
  }
  return absl::InfiniteFuture();
}

}  // namespace muster::control
