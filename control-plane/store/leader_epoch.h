// The fence of everything that only the leader may write (promise C9): such a write carries the
// epoch of the term it was decided in, and changes nothing once a newer term has begun.
#pragma once

#include <compare>
#include <cstdint>

#include "lib/base/status.h"
#include "lib/sql/database.h"

namespace muster::control {

// Of one term of one leader; 0 is nobody's.
struct LeaderEpoch {
  uint64_t value = 0;
  auto operator<=>(const LeaderEpoch&) const = default;
};

// At the beginning of a leader's write, within its transaction. Writers take turns, so nobody can
// take the lease between this and the commit. An error of IsFenced's kind if the term is over.
Status CheckLeader(sql::Transaction& transaction, LeaderEpoch epoch);

// Whether a write was refused because a newer leader has taken over: stop, nothing will get better.
bool IsFenced(const Status& status);

}  // namespace muster::control
