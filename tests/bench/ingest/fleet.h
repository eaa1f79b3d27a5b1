// The load generator: N agents, each with a channel and a certificate of its own, on gRPC's
// callback threads. Each speaks as an agent does, by the agent's own session machine, and never
// has more batches on their way than the server grants.
//
// Unpaced, an agent sends as soon as it has credit (closed loop). Paced, batches fall due at a
// fixed rate whatever the server does (open loop), and count from the moment they fall due.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/net/tls.h"
#include "tests/bench/ingest/feed.h"
#include "tests/bench/lib/usage.h"

namespace muster::bench {

struct FleetOptions {
  std::string address;
  std::vector<std::string> names;
  std::vector<net::ClientIdentity> identities;  // one a name
  double batches_a_second = 0;                  // of all agents together; 0: unpaced
};

// What one agent has been told.
struct Told {
  std::string agent;
  std::string log_epoch;
  uint64_t acknowledged = 0;  // the last sequence
};

// What was seen between two moments.
struct Sample {
  absl::Duration took;
  uint64_t results = 0;  // acknowledged
  uint64_t batches = 0;
  Usage used;
  std::vector<absl::Duration> waits;  // from send (or due) to acknowledgement, ascending
};

class Fleet {
 public:
  // The feed must outlive the fleet.
  Fleet(FleetOptions options, Feed& feed);
  ~Fleet();

  // Returns when every agent has been welcomed.
  void Connect();
  // Sends for `warm_up`, then for `measure`, which is what the sample is of.
  Sample Run(absl::Duration warm_up, absl::Duration measure);
  // Waits until all that was sent is acknowledged, and ends the streams.
  std::vector<Told> Finish();

 private:
  struct Shared;
  class Agent;
  void Pace(absl::Duration until);
  void CheckAlive() const;

  const FleetOptions options_;
  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Agent>> agents_;
};

}  // namespace muster::bench
