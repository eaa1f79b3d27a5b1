// What a new epoch of the store begins with. Commits that were acknowledged may be missing: numbers
// that they gave out are known outside (to agents, watchers, other replicas), and must never mean
// something else.
#pragma once

#include <absl/time/time.h>

#include "lib/sql/database.h"

namespace muster::control {

// Every counter jumps ahead of whatever was given out, every session that was open is fenced, and
// the audit says so. Within the first write of the epoch. Agents then say Hello again, hear the
// cursor that is here, and offer what they kept beyond it.
Status RecoverStore(sql::Transaction& t, const sql::EpochChange& change, absl::Time now);

// What was decided before that moment may be missing here; InfinitePast: nothing is.
StatusOr<absl::Time> LostUntil(sql::Transaction& t);

// Whether this store ever began a new epoch: then an agent may be rightly unknown here.
StatusOr<bool> WasRecovered(sql::Transaction& t);

}  // namespace muster::control
