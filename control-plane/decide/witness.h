// What a checkpoint that somebody kept says of the audit chain as it is now (promise C14). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/store/audit.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::control {

enum class Testimony {
  kAgrees,   // the chain holds the entry as it was
  kMissing,  // entries that were there are not
  kDiffers,  // an entry, or one before it, is not what it was
};

struct Verdict {
  Testimony testimony = Testimony::kAgrees;
  // kMissing: the entries that are not there. kDiffers: at least one of these was changed.
  uint64_t first = 0;
  uint64_t last = 0;
  bool operator==(const Verdict&) const = default;
};

// `chain` was looked up at the checkpoint's sequence.
Verdict Compare(const v1::Checkpoint& checkpoint, const ChainPlace& chain);
// "entries 4 to 5 are missing", "something in entries 1 to 5 was changed".
std::string Text(const Verdict& verdict);

// One holder's newest checkpoint.
struct WitnessFact {
  std::string holder;  // an agent's name; empty for the control plane that made it
  uint64_t sequence = 0;
  absl::Time at;
  Verdict verdict;
};

// What others agree on was not changed: narrows each kDiffers to what comes after.
std::vector<WitnessFact> Narrow(std::vector<WitnessFact> facts);

}  // namespace muster::control
