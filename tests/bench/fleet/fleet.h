// A fleet of simulated agents in one process, against a control plane that runs elsewhere.
//
//   all dial ─► warm-up ─► measured ─► (specs change) ─► (all are cut, and come back) ─► flush, end
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "tests/bench/fleet/bundle.h"
#include "tests/bench/fleet/report.h"
#include "tests/bench/fleet/sim_agent.h"
#include "tests/bench/fleet/wheel.h"

namespace muster::bench {

struct FleetOptions {
  std::vector<std::string> servers;
  bool learn_servers = true;  // more of them from the control plane
  size_t agents = 0;          // the first of the bundle
  FailureOptions failures;
  size_t log_bound = 50'000;
  std::string journal;  // empty: none
  absl::Duration warm_up = absl::Seconds(10);
  absl::Duration measure = absl::Minutes(1);
  std::function<Status()> change_specs;  // so that every agent gets another plan; may be none
  bool reconnect_storm = false;
  size_t most_dialling = 500;   // at once; the others wait for their turn
  absl::Duration connect_over;  // the first time; zero: all at once
  absl::Duration connect_within = absl::Minutes(3);
  absl::Duration settle_within = absl::Minutes(2);
  pid_t plane = 0;  // whose memory and CPU are looked at; 0: none
};

class Fleet {
 public:
  // The bundle holds at least as many agents. `stop` ends the run early, in order.
  Fleet(FleetOptions options, const Bundle& bundle, const std::atomic<bool>& stop);
  ~Fleet();

  // The whole run, once. An error says what did not come about; the report holds what was seen
  // until then.
  Status Run(Report& report);

 private:
  Status Connect(Report& report);
  void Measure(Report& report);
  Status Change(Report& report);
  Status Storm(Report& report);
  Status Settle(Report& report);
  void Sleep(absl::Duration how_long) const;
  // Whether it came to hold.
  bool Until(absl::Duration within, const std::function<bool()>& holds) const;
  size_t Count(bool (SimAgent::*holds)() const) const;
  Status Missing(std::string_view what, size_t have) const;

  const FleetOptions options_;
  const Clock& clock_;
  const std::unique_ptr<Random> random_;
  const std::atomic<bool>& stop_;
  uint64_t plane_bytes_before_ = 0;
  Shared shared_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<std::unique_ptr<Wheel>> wheels_;  // last: their threads use the agents
};

}  // namespace muster::bench
