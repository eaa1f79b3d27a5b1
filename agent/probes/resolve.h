// Names to addresses, within a deadline: through the host's own files and resolvers, first answer
// first. Blocks the calling thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include "agent/policy/policy.h"
#include "agent/probes/report.h"
#include "lib/base/status.h"

struct ares_channeldata;

namespace muster::agent {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr& get() const { return reinterpret_cast<const sockaddr&>(storage); }
  std::string Ip() const;
  uint16_t Port() const;
  // "127.0.0.1:80", "[::1]:80".
  std::string Text() const;
};

// An address from an IP as text; NotFound if it is none.
StatusOr<Address> ParseIp(std::string_view ip, uint16_t port);
// DeadlineExceeded, or Unavailable "cannot resolve db-1: no such name".
StatusOr<Address> Resolve(const std::string& host, uint16_t port, const ProbeContext& context);
// Resolve as the phase "resolve", then the policy's word on the address.
StatusOr<Address> ResolveAllowed(const std::string& host, uint16_t port, const Policy& policy,
                                 const ProbeContext& context, Report& report);
// Turns the wheel of c-ares until done or the deadline; whether it was done.
bool DriveAres(ares_channeldata* channel, const ProbeContext& context,
               const std::function<bool()>& done);

}  // namespace muster::agent
