// Results to states and transitions (promise C5). Pure: states in, states out.
#pragma once

#include <map>
#include <vector>

#include "control-plane/store/history_store.h"
#include "lib/wire/columns.h"
#include "muster/v1/check.pb.h"

namespace muster::control {

// A check state as the session knows it, and how old the store's copy is.
struct KnownState {
  CheckStateRow row;
  absl::Time stored_observed_at = absl::InfinitePast();
};
using KnownStates = std::map<uint32_t, KnownState>;
// By check number; a result of a check that is not here is kept in history and believed of nothing.
using Confirmations = std::map<uint32_t, v1::Confirm>;

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
  uint32_t results = 0;
  absl::Time first_observed_at = absl::InfiniteFuture();  // by the agent's clock
  absl::Time last_observed_at = absl::InfinitePast();
};

// A steady state is written again only when the store's copy is this old: a quiet check writes no
// rows.
inline constexpr absl::Duration kStateRefresh = absl::Seconds(30);

// Skews below this are the network's, not the clock's.
inline constexpr absl::Duration kSkewTolerance = absl::Seconds(2);

// Updates `states` as if the batch were stored.
Evaluation Evaluate(const wire::DecodedBatch& batch, const EvaluationContext& context,
                    KnownStates& states);

}  // namespace muster::control
