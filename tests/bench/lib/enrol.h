// Identities that the store knows, without the round trips of joining: what the authority issues
// and what redeeming a join token, or an operator's certificate, leaves in the store, through their
// own methods.
#pragma once

#include <string>

#include "control-plane/pki/authority.h"
#include "control-plane/store/store.h"
#include "lib/net/tls.h"

namespace muster::bench {

StatusOr<net::ClientIdentity> EnrolAgent(control::Store& store, const control::Authority& authority,
                                         const std::string& name, const control::Labels& labels);
StatusOr<net::ClientIdentity> AddViewer(control::Store& store, const control::Authority& authority,
                                        const std::string& name);

}  // namespace muster::bench
