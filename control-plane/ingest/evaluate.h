// Results to states and transitions (promise C5). Pure: states in, states out.
#pragma once

#include <vector>

#include <absl/container/flat_hash_map.h>

#include "control-plane/store/history_store.h"
#include "lib/wire/columns.h"
#include "muster/v1/check.pb.h"

namespace muster::control {

// Check states as the session knows them, by check number.
using KnownStates = absl::flat_hash_map<uint32_t, CheckStateRow>;
// By check number; a result of a check that is not here is kept in history and believed of nothing.
using Confirmations = absl::flat_hash_map<uint32_t, v1::Confirm>;

struct EvaluationContext {
  std::string agent;
  const Confirmations& confirmations;
  absl::Duration clock_skew;  // the agent's clock less ours: results are corrected by it
  absl::Time now;
};

struct Evaluation {
  std::vector<CheckStateRow> states;  // that the store must take, one a check
  std::vector<TransitionRow> transitions;
  std::vector<v1::Gap> gaps;
  std::vector<v1::RunEvent> run_events;  // their times corrected
  uint32_t results = 0;
  // Of results and gaps, by the agent's clock; infinite if there is none.
  absl::Time first_observed_at = absl::InfiniteFuture();
  absl::Time last_observed_at = absl::InfinitePast();
};

// Skews below this are the network's, not the clock's.
inline constexpr absl::Duration kSkewTolerance = absl::Seconds(2);

// Updates `states` as if the batch were stored. A result that says what is believed already, and
// nothing else, changes no row: when it was observed goes with the batch (PackObservations).
Evaluation Evaluate(const wire::DecodedBatch& batch, const EvaluationContext& context,
                    KnownStates& states);

}  // namespace muster::control
