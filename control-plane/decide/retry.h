// Whether a run whose attempt ended gets another one, and when. Pure: the draw comes from the run's
// id, so that every leader finds the same time.
//
//   attempt ended   another attempt
//   succeeded       no
//   failed          if the task may be repeated and attempts are left
//   timed out       the same: the agent ended it and said so
//   never began     if attempts are left: nothing was done
//   cancelled       no: somebody wanted it
//   unknown         no: it may have happened, and only somebody who looks can tell (promise C4)
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <absl/time/time.h>

#include "lib/base/backoff.h"

namespace muster::control {

struct RetryPolicy {
  uint32_t attempts = 1;    // in all, the first one included
  bool repeatable = false;  // doing the task's effect twice is as good as once
  Backoff wait = {.first = absl::Seconds(30), .longest = absl::Minutes(10)};
};

enum class AttemptEnd { kSucceeded, kFailed, kTimedOut, kNeverBegan, kCancelled, kUnknown };

struct RetryFacts {
  std::string run;
  RetryPolicy policy;
  uint32_t attempts = 1;  // that were made
  AttemptEnd end = AttemptEnd::kFailed;
  absl::Time ended_at;
  absl::Time deadline = absl::InfiniteFuture();  // of the run: no attempt begins at or after it
  absl::Time not_before = absl::InfinitePast();  // what the attempt itself asked for
};

struct RetryDecision {
  std::optional<absl::Time> at;
  std::string reason;
};

// At, if it is given, lies between half and all of min(longest, first · 2^(attempts - 1)) after the
// end, or at not_before if that is later.
RetryDecision DecideRetry(const RetryFacts& facts);

}  // namespace muster::control
