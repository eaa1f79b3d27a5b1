// What can be said of a restic repository in a folder by its files alone. restic gives each file
// but `config` the SHA-256 of its content as its name; of one that is spoilt it often says
// something else: that a password is wrong, that there is no such snapshot. Packs are not looked
// at: they may be large, and restic compares what it reads of them.
#pragma once

#include <string>

#include "lib/base/status.h"

namespace muster::agent::backup {

// DataLoss names the first file that is missing or not what its name says. OK where there is
// nothing of a repository.
Status LookForDamage(const std::string& repository);

// FailedPrecondition where somebody was cut off who made one: it holds a key, and restic would add
// another.
Status CheckNotBegun(const std::string& repository);

}  // namespace muster::agent::backup
