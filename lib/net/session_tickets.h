// A TLS 1.3 server sends each caller two session tickets, with which it could come back without its
// certificate. No client of ours takes one up, and making them costs a sixth of a handshake. gRPC
// has no setting for it; OpenSSL's configuration has one, of all contexts that are made later.
#pragma once

#include <string>

#include "lib/base/status.h"

namespace muster::net {

// Once a process, before the first credential is made. What the system's openssl.cnf (or the file
// that OPENSSL_CONF names) asks of all contexts stays. Internal with OpenSSL's reason: tickets are
// sent then, which costs time alone.
Status SendNoSessionTickets();

// For SendNoSessionTickets: a configuration in OpenSSL's own form, of the text of the system's.
// InvalidArgument if that cannot be read.
StatusOr<std::string> ConfigurationWithoutTickets(const std::string& system);

}  // namespace muster::net
