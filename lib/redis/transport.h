// A stream of bytes to a Redis server: TCP, Unix socket, or TLS over TCP. One thread. Opening waits
// with a deadline; afterwards nothing blocks.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/net/openssl.h"
#include "lib/net/socket.h"
#include "lib/redis/address.h"
#include "lib/redis/waiter.h"

namespace muster::redis {

class Transport {
 public:
  // With TLS the server's certificate must verify against the authorities and carry the address's
  // host, a name or an IP. Unavailable; Cancelled if the waiter was stopped.
  static StatusOr<std::unique_ptr<Transport>> Open(const Address& address, Waiter& waiter,
                                                   absl::Duration until);

  // What has come, at most 16 KiB; empty if nothing is there now. Unavailable once the peer closed.
  StatusOr<std::string> Read();
  // How much was taken; 0: nothing now.
  StatusOr<size_t> Write(std::string_view bytes);
  // To wait on: POLLIN to read, POLLOUT to write.
  int fd() const { return socket_.fd(); }
  // Bytes are here already that the descriptor will not tell of.
  bool HasBuffered() const { return ssl_ != nullptr && SSL_has_pending(ssl_.get()) == 1; }

 private:
  explicit Transport(net::Socket socket) : socket_(std::move(socket)) {}
  Status StartTls(const Address& address, Waiter& waiter, absl::Duration until);
  Status Handshake(Waiter& waiter, absl::Duration until);
  Status TlsError(int result, int error_number, std::string_view doing);

  net::Socket socket_;
  net::SslContextPtr context_;
  net::SslPtr ssl_;
};

}  // namespace muster::redis
