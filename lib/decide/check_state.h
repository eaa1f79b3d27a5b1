// What to believe of a check, result by result (promise C5). Pure: the agent uses it to decide when
// to look again, the control plane to decide what is so.
//
//                     result as believed: refreshes
//        ┌──────┐     ┌──────────────────────────┐
//        │ hard │─────┘        another status    ▼
//        │  S   │ ───────────────────────────► soft T, seen 1
//        └──────┘ ◄─── S again: false alarm ───── │  │ T' (also not S, not OK): soft T', seen + 1
//            ▲                                    │  ▼
//            └──────────── seen = needed ─────────┘
//
// `needed` is Confirm.failures for anything but OK, Confirm.successes for OK. Needing one makes it
// hard at once. A first result ever, and the first after NO_DATA, count as leaving "nothing known".
#pragma once

#include <cstdint>
#include <string>

#include <absl/time/time.h>

#include "muster/v1/check.pb.h"

namespace muster::decide {

struct CheckBelief {
  v1::CheckStatus shown = v1::CHECK_STATUS_NO_DATA;  // what the newest results say
  bool hard = true;
  uint32_t seen = 0;    // while soft: results in a row that are not `confirmed`
  uint32_t needed = 0;  // while soft
  v1::CheckStatus confirmed = v1::CHECK_STATUS_NO_DATA;  // the last hard one
  absl::Time since = absl::InfinitePast();               // of `shown`
};

enum class Step {
  kSame,        // as believed before
  kSoft,        // a new suspicion, or one that goes on with another status
  kHard,        // confirmed: a hard transition
  kFalseAlarm,  // back to the confirmed status before the suspicion was confirmed
};

struct BeliefChange {
  CheckBelief belief;
  Step step = Step::kSame;
  std::string reason;  // "3 of 3 failures", "1 of 3 failures", "recovered before confirmation"
};

// `status` is OK, WARNING, CRITICAL or UNKNOWN.
BeliefChange Believe(const CheckBelief& before, v1::CheckStatus status, absl::Time observed_at,
                     const v1::Confirm& confirm);

// Nothing was heard: NO_DATA, hard at once.
BeliefChange BelieveNoData(const CheckBelief& before, absl::Time since, std::string reason);

}  // namespace muster::decide
