// What a fleet's run found, as JSON and as a table.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <absl/time/time.h>
#include <nlohmann/json.hpp>

namespace muster::bench {

// Milliseconds.
struct Spread {
  uint64_t count = 0;
  double p50 = 0;
  double p99 = 0;
  double most = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Spread, count, p50, p99, most)
Spread SpreadOf(const std::vector<absl::Duration>& ascending);

// CPU and memory of one process while something went on.
struct Cost {
  double cores = 0;  // CPU seconds a second
  double resident_mib = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Cost, cores, resident_mib)

// Everybody dials.
struct Rush {
  double seconds = 0;  // until the last one was welcomed
  Spread handshake;    // dialling until the Hello leaves
  Spread welcome;      // dialling until the Welcome
  Spread back;         // from the loss to the Welcome; empty at the first time
  Cost fleet;
  Cost plane;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Rush, seconds, handshake, welcome, back, fleet, plane)

// The specs were changed for all.
struct Change {
  double call_seconds = 0;  // the call that changed them
  Spread reached;           // from its beginning until an agent had its plan
  Cost fleet;
  Cost plane;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Change, call_seconds, reached, fleet, plane)

struct Steady {
  double seconds = 0;
  double results_a_second = 0;  // found
  double news_a_second = 0;
  double acknowledged_a_second = 0;  // records
  double batches_a_second = 0;
  Spread acknowledged_in;  // from sending a batch
  uint64_t lost_sessions = 0;
  Spread back;
  Cost fleet;
  Cost plane;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Steady, seconds, results_a_second, news_a_second,
                                   acknowledged_a_second, batches_a_second, acknowledged_in,
                                   lost_sessions, back, fleet, plane)

struct Report {
  uint64_t agents = 0;
  uint64_t connected = 0;  // at the end
  uint64_t settled = 0;    // agents of whose results all are acknowledged
  uint64_t results = 0;
  uint64_t acknowledged = 0;
  uint64_t folded = 0;
  uint64_t went_back = 0;
  uint64_t renewed = 0;
  double plane_mib_a_session = 0;  // at the end of the measured time, over what it took before
  double settle_seconds = 0;
  Rush connect;
  Steady steady;
  Change change;                         // empty unless asked for
  Rush storm;                            // the same
  std::map<std::string, uint64_t> ends;  // why sessions and attempts ended, but for the last ones
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Report, agents, connected, settled, results, acknowledged,
                                   folded, went_back, renewed, plane_mib_a_session, settle_seconds,
                                   connect, steady, change, storm, ends)

std::string Table(const Report& report);

}  // namespace muster::bench
