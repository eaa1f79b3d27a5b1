// The cheapest server that agents connect to: behind the product's own door, with its certificates
// and settings of gRPC, it greets whoever comes, acknowledges what it is sent and keeps nothing.
// What it takes to connect thousands of agents to it, nobody can do without.
#pragma once

#include <atomic>
#include <string>

#include "lib/base/status.h"

namespace muster::bench {

// Serves with a certificate of the authority in the control plane's folder until `stop`.
Status ServeGreeter(const std::string& data, const std::string& listen,
                    const std::atomic<bool>& stop);

}  // namespace muster::bench
