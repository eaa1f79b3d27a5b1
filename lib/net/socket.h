// A TCP connection to host:port, with a deadline. For the few places that speak TLS by hand.
#pragma once

#include <string>
#include <utility>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::net {

// Owns a file descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// Blocking, with send and receive timeouts of `within`. Unavailable says which step failed.
StatusOr<Socket> ConnectTo(const std::string& host_port, absl::Duration within);

}  // namespace muster::net
