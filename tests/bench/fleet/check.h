// Holds a store against the journal of a fleet, after the fact: every record that was acknowledged
// is in the history exactly once and as it was generated, nothing is there that was not, and the
// transitions are those that lib/decide makes of the stored results.
//
// An agent whose store holds logs that the journal does not know is compared log by log, but not
// its transitions: what was believed before is not known. Nor are those of a check whose
// confirmation changed on the way. Transitions to NO_DATA are the control plane's own finding and
// may stand wherever a result may have followed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "control-plane/store/store.h"
#include "tests/bench/fleet/journal.h"

namespace muster::bench {

struct Verdict {
  // Seen.
  uint64_t agents = 0;
  uint64_t logs = 0;
  uint64_t generated = 0;     // results
  uint64_t acknowledged = 0;  // records
  uint64_t stored = 0;        // results
  uint64_t gaps = 0;          // records that are in a gap which their agent made
  uint64_t transitions = 0;   // stored
  uint64_t no_data = 0;       // of them
  uint64_t not_compared = 0;  // checks of agents whose transitions were not
  uint64_t moved = 0;         // transitions whose time is not their result's: a clock was corrected
  // Wrong. All must be 0.
  uint64_t lost = 0;             // acknowledged, and not stored
  uint64_t uncovered = 0;        // not acknowledged, not stored, and later records are
  uint64_t doubled = 0;          // stored more than once
  uint64_t out_of_order = 0;     // stored in the place of another record of its log
  uint64_t altered = 0;          // stored otherwise than generated
  uint64_t unknown = 0;          // stored, and never generated
  uint64_t wrong_histories = 0;  // checks of an agent whose transitions are not what decide says
  // The first few of what is wrong, in words.
  std::vector<std::string> findings;

  bool good() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Verdict, agents, logs, generated, acknowledged, stored, gaps,
                                   transitions, no_data, not_compared, moved, lost, uncovered,
                                   doubled, out_of_order, altered, unknown, wrong_histories,
                                   findings)

StatusOr<Verdict> CheckStore(control::Store& store, const JournalContents& journal);

std::string Table(const Verdict& verdict);

}  // namespace muster::bench
