// What agents are to have on their hands, as it is sent to them. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "control-plane/store/run_store.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::control {

// By agent. Shared by streams, never changed.
using AssignmentBook = std::map<std::string, v1::Assignments>;

// Of one agent at most so many: those that were assigned first.
inline constexpr int kMostAssignments = 256;

// `runs`: assigned or begun, in the order in which they were assigned.
AssignmentBook MakeAssignmentBook(const std::vector<RunRow>& runs);

}  // namespace muster::control
