// What an agent should do: the checks whose selector its labels match. Pure.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control-plane/store/session_store.h"
#include "control-plane/store/spec_store.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::control {

// Every check of the control plane at one revision. Shared by sessions, never changed.
struct CheckBook {
  uint64_t revision = 0;
  std::vector<SpecRow> checks;  // ascending by check_id
};

// The plan, with its hash: the same checks give the same hash, whatever the revision.
v1::Plan PlanFor(const CheckBook& book, std::string_view agent, const Labels& labels);
// Of its checks.
std::vector<uint32_t> IdsOf(const v1::Plan& plan);

}  // namespace muster::control
