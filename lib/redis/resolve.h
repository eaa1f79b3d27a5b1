// The addresses of a host, with a deadline: the C library's own resolver has none.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/redis/waiter.h"

namespace muster::redis {

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// /etc/hosts and DNS; an IP is taken as it is. Never empty. Unavailable says what does not resolve.
StatusOr<std::vector<Endpoint>> Resolve(const std::string& host, uint16_t port, Waiter& waiter,
                                        absl::Duration until);

}  // namespace muster::redis
