#include "lib/net/socket.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/base/text.h"

namespace muster::net {

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

StatusOr<Socket> ConnectTo(const std::string& host_port, absl::Duration within) {
  MUSTER_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(host_port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int resolved =
      getaddrinfo(address.host.c_str(), fmt::format("{}", address.port).c_str(), &hints, &found);
  if (resolved != 0)
    return Unavailable("cannot resolve {}: {}", address.host, gai_strerror(resolved));
  Status failed = Unavailable("{} has no address", address.host);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Socket socket(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval timeout = absl::ToTimeval(within);
    setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    if (connect(socket.fd(), at->ai_addr, at->ai_addrlen) == 0) {
      freeaddrinfo(found);
      return socket;
    }
    failed = Unavailable("cannot connect to {}: {}", host_port,
                         errno == EINPROGRESS ? "no answer" : std::strerror(errno));
  }
  freeaddrinfo(found);
  return failed;
}

}  // namespace muster::net
