// What is there before the control plane serves: the HTTP port, which answers from the start of the
// program to its end, and the wait for the store.
#pragma once

#include <memory>
#include <optional>

#include "control-plane/config.h"
#include "control-plane/http/metrics.h"
#include "control-plane/http/readiness.h"
#include "control-plane/http/server.h"
#include "control-plane/pki/authority.h"
#include "control-plane/store/store.h"
#include "lib/base/secret.h"
#include "lib/program/program.h"

namespace muster::control {

struct Front {
  Status Open(const Config& config) {
    if (config.http_listen == Config::kOff) return OkStatus();
    MUSTER_ASSIGN_OR_RETURN(http, HttpServer::Start({.listen = config.http_listen}, metrics,
                                                    [this] { return readiness.Now(); }));
    return OkStatus();
  }
  uint16_t port() const { return http == nullptr ? 0 : http->port(); }

  Metrics metrics{MUSTER_VERSION};
  Readiness readiness;
  std::unique_ptr<HttpServer> http;  // last: it uses the others
};

struct Opened {
  std::unique_ptr<Store> store;
  std::unique_ptr<Authority> authority;
};

// Waits for a PostgreSQL that is away: it may be started after us, or failing over. What waiting
// does not mend is an error at once. Nothing if it was told to stop meanwhile.
StatusOr<std::optional<Opened>> AwaitStore(const Config& config, const Secret& key, Front& front,
                                           const StopSignals& signals);

}  // namespace muster::control
