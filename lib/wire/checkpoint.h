// What the authority signs of a checkpoint of the audit chain.
#pragma once

#include <string>

#include "muster/v1/agent_link.pb.h"

namespace muster::wire {

// See Checkpoint.signature. No certificate begins like it, so a signature over it is good for
// nothing else.
std::string CheckpointText(const v1::Checkpoint& checkpoint);

}  // namespace muster::wire
