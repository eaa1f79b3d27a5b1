// What the leader does in one term: the loops, and the notifier that empties the outbox.
#pragma once

#include <functional>
#include <memory>

#include "control-plane/config.h"
#include "control-plane/http/metrics.h"
#include "control-plane/loops/heartbeat.h"
#include "control-plane/loops/leader.h"
#include "control-plane/rpc/agent_hub.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"

namespace muster::control {

// All of it outlives every term.
struct TermSurroundings {
  const Config& config;
  const Clock& clock;
  Random& random;
  Store& store;
  Metrics& metrics;
  AgentHub& hub;
  const Heartbeat& heartbeat;
  std::function<void()> on_transitions;  // states became NO_DATA
  std::function<void()> on_runs;         // runs were assigned, or are over
  // Of this agent; its session may be on another replica.
  std::function<void(const std::string& agent)> on_states;
};

// Works from its construction to its destruction, as long as the term holds.
std::unique_ptr<LeaderWork> BeginTerm(const TermSurroundings& around, std::shared_ptr<Term> term);

}  // namespace muster::control
