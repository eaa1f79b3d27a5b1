// What becomes of the attempts that the control plane assigned: which begin now, which never do,
// which are asked to end. Pure.
//
//   new ──a slot is free──► runs ──its end──► over
//    │  │                     │
//    │  └ start_by, stop ─► never began
//    └ waits: no slot, or an earlier attempt of the same run is not over
//
// Leaving the assignments changes nothing for an attempt that runs; one that is new is forgotten.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "muster/v1/agent_link.pb.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

enum class AttemptPhase { kNew, kRuns, kOver };

struct AttemptFacts {
  AttemptPhase phase = AttemptPhase::kNew;
  // An earlier attempt of the run is not over.
  bool another_runs = false;
  absl::Time start_by = absl::InfiniteFuture();
  v1::Assignment::Stop stop = v1::Assignment::STOP_UNSPECIFIED;
  std::string stop_reason;
};

enum class AttemptAction { kNone, kBegin, kNever, kCancel, kTerminate };

struct AttemptDecision {
  AttemptAction action = AttemptAction::kNone;
  std::string reason;
};

// One decision for each, in their order; at most `slots` begin.
std::vector<AttemptDecision> DecideAttempts(std::span<const AttemptFacts> attempts, size_t slots,
                                            absl::Time now);

// Why an attempt that runs is to end before it is done.
struct EndWanted {
  v1::RunOutcome outcome = v1::RUN_OUTCOME_UNSPECIFIED;
  std::string reason;
  absl::Duration since;  // uptime
  bool at_once = false;  // SIGKILL
};

enum class Demand { kNone, kEnd, kKill };

// An attempt that was asked to end has so long for it.
inline constexpr absl::Duration kEndGrace = absl::Seconds(30);

Demand DemandOn(const std::optional<EndWanted>& wanted, absl::Duration now);

}  // namespace muster::agent
