// The identities of a fleet in one file: JSON a line, the cluster's authority first, then an agent
// a line with its certificate chain and key. Mode 0600: whoever reads it is those agents.
#pragma once

#include <string>
#include <vector>

#include "lib/base/status.h"
#include "lib/net/tls.h"

namespace muster::bench {

struct BundledAgent {
  std::string name;
  std::string chain_pem;
  std::string key_pem;
};

struct Bundle {
  std::string roots_pem;
  std::vector<BundledAgent> agents;

  net::ClientIdentity IdentityOf(size_t agent) const {
    return {roots_pem, agents.at(agent).chain_pem, agents.at(agent).key_pem};
  }
};

// NotFound without the file; DataLoss names the line that is no identity.
StatusOr<Bundle> ReadBundle(const std::string& path);
Status WriteBundle(const std::string& path, const Bundle& bundle);

}  // namespace muster::bench
