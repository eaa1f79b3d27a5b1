// Thousands of agents at once, for tests: the real authority issues each a certificate for a key of
// its own, and the store knows them as if each had redeemed a join token. Needs what a control
// plane has: its cluster key and its store. The control plane may run meanwhile.
#pragma once

#include <map>
#include <string>

#include "lib/base/status.h"

namespace muster::bench {

struct EnrollOptions {
  std::string data;   // the control plane's folder, which holds cluster.key
  std::string store;  // its store's URL; empty: what the control plane takes for that folder
  size_t agents = 0;
  std::string prefix = "fleet";  // of their names: fleet-00001 …
  std::map<std::string, std::string> labels = {{"fleet", "simulated"}};
  std::string out;
};

struct Enrolled {
  size_t kept = 0;  // were in the bundle, with a certificate that is good for another day
  size_t made = 0;
};

// Makes the bundle hold that many agents. What it holds already is kept; FailedPrecondition if that
// is another cluster's.
StatusOr<Enrolled> Enroll(const EnrollOptions& options);

}  // namespace muster::bench
