#include "lib/redis/transport.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/base/clock.h"
#include "lib/redis/resolve.h"

namespace muster::redis {
namespace {

constexpr size_t kChunk = 16 << 10;  // also the largest record of TLS
constexpr size_t kMostAtOnce = 1 << 20;

StatusOr<net::Socket> ConnectTo(const Endpoint& endpoint, Waiter& waiter, absl::Duration until) {
  net::Socket socket(
      ::socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return Unavailable("cannot make a socket: {}", std::strerror(errno));
  if (connect(socket.fd(), endpoint.get(), endpoint.size) == 0) return socket;
  if (errno != EINPROGRESS) return Unavailable("{}", std::strerror(errno));
  while (true) {
    pollfd ready{.fd = socket.fd(), .events = POLLOUT, .revents = 0};
    MUSTER_RETURN_IF_ERROR(Annotate(waiter.Wait({&ready, 1}, until), "cannot connect"));
    if (ready.revents != 0) break;
  }
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return Unavailable("{}", std::strerror(error));
  return socket;
}

// Each address gets its share of the time that is left.
StatusOr<net::Socket> ConnectToHost(const Address& address, Waiter& waiter, absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                          Resolve(address.host(), address.port(), waiter, until));
  Status failed;
  for (size_t i = 0; i < endpoints.size(); ++i) {
    const absl::Duration now = SystemClock().Uptime();
    const auto shares = static_cast<int64_t>(endpoints.size() - i);
    StatusOr<net::Socket> socket = ConnectTo(endpoints[i], waiter, now + (until - now) / shares);
    if (socket.ok()) {
      const int on = 1;
      setsockopt(socket->fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (socket.ok() || waiter.stopped()) return socket;
    failed = socket.status();
  }
  return failed;
}

StatusOr<net::Socket> ConnectToPath(const std::string& path, Waiter& waiter, absl::Duration until) {
  Endpoint endpoint;
  auto& local = reinterpret_cast<sockaddr_un&>(endpoint.storage);
  if (path.size() >= sizeof local.sun_path) return InvalidArgument("the path {} is too long", path);
  local.sun_family = AF_UNIX;
  std::memcpy(local.sun_path, path.data(), path.size());
  endpoint.size = sizeof local;
  return ConnectTo(endpoint, waiter, until);
}

bool IsIp(const std::string& host) {
  in6_addr bytes{};
  return inet_pton(AF_INET, host.c_str(), &bytes) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &bytes) == 1;
}

StatusOr<net::SslContextPtr> NewContext(const Address& address) {
  net::SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return Internal("OpenSSL: {}", net::LastSslError());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (address.ca_file().empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else if (SSL_CTX_load_verify_locations(context.get(), address.ca_file().c_str(), nullptr) !=
             1) {
    return Unavailable("cannot read authorities from {}: {}", address.ca_file(),
                       net::LastSslError());
  }
  return context;
}

// OpenSSL takes part of what is asked for in ints.
int Bounded(size_t size) { return static_cast<int>(std::min(size, kMostAtOnce)); }

}  // namespace

StatusOr<std::unique_ptr<Transport>> Transport::Open(const Address& address, Waiter& waiter,
                                                     absl::Duration until) {
  MUSTER_ASSIGN_OR_RETURN(net::Socket socket, address.scheme() == Scheme::kUnix
                                                  ? ConnectToPath(address.path(), waiter, until)
                                                  : ConnectToHost(address, waiter, until));
  std::unique_ptr<Transport> transport(new Transport(std::move(socket)));
  if (address.scheme() == Scheme::kTls)
    MUSTER_RETURN_IF_ERROR(transport->StartTls(address, waiter, until));
  return transport;
}

Status Transport::StartTls(const Address& address, Waiter& waiter, absl::Duration until) {
  ERR_clear_error();
  MUSTER_ASSIGN_OR_RETURN(context_, NewContext(address));
  ssl_.reset(SSL_new(context_.get()));
  if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), socket_.fd()) != 1)
    return Internal("OpenSSL: {}", net::LastSslError());
  const std::string& host = address.host();
  const int named = IsIp(host)
                        ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), host.c_str())
                        : SSL_set1_host(ssl_.get(), host.c_str());
  if (named != 1) return Internal("OpenSSL: {}", net::LastSslError());
  if (!IsIp(host)) SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
  return Handshake(waiter, until);
}

Status Transport::Handshake(Waiter& waiter, absl::Duration until) {
  while (true) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(ssl_.get());
    if (result == 1) return OkStatus();
    const int error_number = errno;
    const int error = SSL_get_error(ssl_.get(), result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
      return TlsError(result, error_number, "the TLS handshake");
    const short events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    MUSTER_RETURN_IF_ERROR(Annotate(waiter.Wait(fd(), events, until), "the TLS handshake"));
  }
}

Status Transport::TlsError(int result, int error_number, std::string_view doing) {
  const int error = SSL_get_error(ssl_.get(), result);
  const long verdict = SSL_get_verify_result(ssl_.get());
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (verdict != X509_V_OK) {
    return Unavailable("the server's certificate does not verify: {}",
                       X509_verify_cert_error_string(verdict));
  }
  if (error == SSL_ERROR_ZERO_RETURN) return Unavailable("the server closed the connection");
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  if (reason != nullptr) return Unavailable("{} failed: {}", doing, reason);
  return Unavailable(
      "{} failed: {}", doing,
      error_number == 0 ? "the server closed the connection" : std::strerror(error_number));
}

StatusOr<std::string> Transport::Read() {
  std::string bytes(kChunk, '\0');
  errno = 0;
  if (ssl_ == nullptr) {
    const ssize_t got = recv(fd(), bytes.data(), bytes.size(), 0);
    if (got == 0) return Unavailable("the server closed the connection");
    if (got < 0 && errno != EAGAIN && errno != EINTR)
      return Unavailable("cannot receive: {}", std::strerror(errno));
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return bytes;
  }
  ERR_clear_error();
  const int got = SSL_read(ssl_.get(), bytes.data(), Bounded(bytes.size()));
  const int error_number = errno;
  const int error = got > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), got);
  if (got <= 0 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
    return TlsError(got, error_number, "receiving");
  bytes.resize(static_cast<size_t>(std::max(got, 0)));
  return bytes;
}

StatusOr<size_t> Transport::Write(std::string_view bytes) {
  errno = 0;
  if (ssl_ == nullptr) {
    const ssize_t sent = send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
      return Unavailable("cannot send: {}", std::strerror(errno));
    return static_cast<size_t>(std::max<ssize_t>(sent, 0));
  }
  ERR_clear_error();
  const int sent = SSL_write(ssl_.get(), bytes.data(), Bounded(bytes.size()));
  const int error_number = errno;
  const int error = sent > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), sent);
  if (sent <= 0 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
    return TlsError(sent, error_number, "sending");
  return static_cast<size_t>(std::max(sent, 0));
}

}  // namespace muster::redis
