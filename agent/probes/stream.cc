#include "agent/probes/stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace muster::agent {
namespace {

Status ConnectError(int error, std::string_view peer) {
  if (error == ECONNREFUSED) return Unavailable("connection refused by {}", peer);
  if (error == ETIMEDOUT) return Unavailable("{} did not answer the connection", peer);
  return Unavailable("cannot connect to {}: {}", peer, std::strerror(error));
}

std::string OpenSslReason() {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  return reason == nullptr ? "the connection was closed" : reason;
}

bool IsIp(const std::string& name) { return ParseIp(name, 0).ok(); }

}  // namespace

Stream::Stream(int fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {}

Stream::~Stream() {
  SSL_free(ssl_);
  SSL_CTX_free(ssl_context_);
  if (fd_ >= 0) close(fd_);
}

StatusOr<std::unique_ptr<Stream>> Stream::Finish(std::unique_ptr<Stream> stream,
                                                 const sockaddr& address, socklen_t size,
                                                 const ProbeContext& context) {
  if (stream->fd_ < 0) return Unavailable("cannot make a socket: {}", std::strerror(errno));
  if (connect(stream->fd_, &address, size) == 0) return stream;
  if (errno != EINPROGRESS) return ConnectError(errno, stream->peer_);
  MUSTER_RETURN_IF_ERROR(stream->Wait(POLLOUT, context));
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(stream->fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return ConnectError(error, stream->peer_);
  return stream;
}

StatusOr<std::unique_ptr<Stream>> Stream::Connect(const Address& address,
                                                  const ProbeContext& context) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  std::unique_ptr<Stream> stream(new Stream(fd, address.Text()));
  const int on = 1;
  if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return Finish(std::move(stream), address.get(), address.size, context);
}

StatusOr<std::unique_ptr<Stream>> Stream::ConnectUnix(const std::string& path,
                                                      const ProbeContext& context) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path)
    return InvalidArgument("the path {} is too long", path);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  std::unique_ptr<Stream> stream(new Stream(fd, path));
  return Finish(std::move(stream), reinterpret_cast<const sockaddr&>(address), sizeof address,
                context);
}

Status Stream::Wait(short events, const ProbeContext& context) const {
  while (true) {
    const int left = LeftMilliseconds(context);
    if (left == 0) return DeadlineExceeded("{} took too long", peer_);
    pollfd fd{.fd = fd_, .events = events, .revents = 0};
    const int ready = poll(&fd, 1, left);
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Unavailable("poll: {}", std::strerror(errno));
  }
}

Status Stream::TlsError(int result, std::string_view doing) const {
  const int saved = errno;
  const long verdict = SSL_get_verify_result(ssl_);
  if (verdict != X509_V_OK) {
    ERR_clear_error();
    return Unavailable("the certificate of {} does not verify: {}", peer_,
                       X509_verify_cert_error_string(verdict));
  }
  if (SSL_get_error(ssl_, result) == SSL_ERROR_SYSCALL && saved != 0) {
    ERR_clear_error();
    return Unavailable("{} with {} failed: {}", doing, peer_, std::strerror(saved));
  }
  return Unavailable("{} with {} failed: {}", doing, peer_, OpenSslReason());
}

Status Stream::StartTls(const TlsOptions& options, const ProbeContext& context) {
  ERR_clear_error();
  ssl_context_ = SSL_CTX_new(TLS_client_method());
  if (ssl_context_ == nullptr) return Internal("OpenSSL: {}", OpenSslReason());
  if (options.ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(ssl_context_);
  } else if (SSL_CTX_load_verify_locations(ssl_context_, options.ca_file.c_str(), nullptr) != 1) {
    return InvalidArgument("cannot read authorities from {}: {}", options.ca_file, OpenSslReason());
  }
  SSL_CTX_set_verify(ssl_context_, SSL_VERIFY_PEER, nullptr);
  // Old versions are looked at and judged, rather than failing as a riddle of a handshake.
  SSL_CTX_set_min_proto_version(ssl_context_, TLS1_VERSION);
  ssl_ = SSL_new(ssl_context_);
  if (ssl_ == nullptr || SSL_set_fd(ssl_, fd_) != 1)
    return Internal("OpenSSL: {}", OpenSslReason());
  if (IsIp(options.server_name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), options.server_name.c_str());
  } else {
    SSL_set1_host(ssl_, options.server_name.c_str());
    SSL_set_tlsext_host_name(ssl_, options.server_name.c_str());
  }
  while (true) {
    errno = 0;
    const int result = SSL_connect(ssl_);
    if (result == 1) return OkStatus();
    const int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ) {
      MUSTER_RETURN_IF_ERROR(Wait(POLLIN, context));
    } else if (error == SSL_ERROR_WANT_WRITE) {
      MUSTER_RETURN_IF_ERROR(Wait(POLLOUT, context));
    } else {
      return TlsError(result, "the TLS handshake");
    }
  }
}

Status Stream::Write(std::string_view bytes, const ProbeContext& context) {
  while (!bytes.empty()) {
    short events = POLLOUT;
    errno = 0;
    const ssize_t written =
        ssl_ != nullptr ? SSL_write(ssl_, bytes.data(),
                                    static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)))
                        : send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written > 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    if (ssl_ != nullptr) {
      const int error = SSL_get_error(ssl_, static_cast<int>(written));
      if (error == SSL_ERROR_WANT_READ) events = POLLIN;
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return TlsError(static_cast<int>(written), "sending");
      }
    } else if (errno != EAGAIN && errno != EINTR) {
      return Unavailable("cannot send to {}: {}", peer_, std::strerror(errno));
    }
    MUSTER_RETURN_IF_ERROR(Wait(events, context));
  }
  return OkStatus();
}

StatusOr<std::string> Stream::Read(size_t most, const ProbeContext& context) {
  std::string bytes(most, '\0');
  while (true) {
    short events = POLLIN;
    errno = 0;
    const ssize_t count = ssl_ != nullptr ? SSL_read(ssl_, bytes.data(), static_cast<int>(most))
                                          : recv(fd_, bytes.data(), most, 0);
    if (count > 0) {
      bytes.resize(static_cast<size_t>(count));
      return bytes;
    }
    if (ssl_ != nullptr) {
      const int error = SSL_get_error(ssl_, static_cast<int>(count));
      if (error == SSL_ERROR_ZERO_RETURN) return std::string();
      if (error == SSL_ERROR_WANT_WRITE) events = POLLOUT;
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return TlsError(static_cast<int>(count), "receiving");
      }
    } else if (count == 0) {
      return std::string();
    } else if (errno != EAGAIN && errno != EINTR) {
      return Unavailable("cannot receive from {}: {}", peer_, std::strerror(errno));
    }
    MUSTER_RETURN_IF_ERROR(Wait(events, context));
  }
}

}  // namespace muster::agent
