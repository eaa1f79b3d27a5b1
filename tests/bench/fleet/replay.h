// Whether the stored transitions of a check are those that lib/decide makes of its results. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control-plane/store/history_store.h"
#include "muster/v1/check.pb.h"
#include "tests/bench/fleet/journal.h"

namespace muster::bench {

struct Replay {
  bool matches = false;
  std::string difference;  // where they part
  uint64_t moved = 0;      // transitions whose time is not their result's
};

// `results` in the order of the log, `stored` in the order of the store. Nothing was believed
// before. When silence was noticed is not known, so a stored NO_DATA may come before any result;
// all such places are followed side by side, and one that fits is enough.
Replay ReplayTransitions(const std::vector<Journalled>& results, const v1::Confirm& confirm,
                         const std::vector<control::TransitionRow>& stored);

}  // namespace muster::bench
