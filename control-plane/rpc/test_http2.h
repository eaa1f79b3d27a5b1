// An HTTP/2 client by hand, which can do what a well-behaved one does not.
#pragma once

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <absl/time/time.h>
#include <fmt/format.h>

#include "lib/net/openssl.h"
#include "lib/net/socket.h"
#include "lib/net/tls.h"

namespace muster::control {

// A TLS connection that offers h2, with the identity's certificate if it has one.
class RawTls {
 public:
  explicit RawTls(const std::string& address, const net::ClientIdentity& identity = {})
      : socket_(*net::ConnectTo(address, absl::Seconds(10))),
        context_(SSL_CTX_new(TLS_client_method())) {
    signal(SIGPIPE, SIG_IGN);  // the connection is meant to be cut
    if (!identity.key_pem.empty()) {
      const net::KeyPtr key = *net::ReadPrivateKey(identity.key_pem);
      const auto chain = *net::PemToDer(identity.chain_pem);
      const net::CertificatePtr leaf = *net::ParseCertificate(chain.front());
      SSL_CTX_use_certificate(context_.get(), leaf.get());
      SSL_CTX_use_PrivateKey(context_.get(), key.get());
    }
    SSL_CTX_set_app_data(context_.get(), &tickets_);
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(context_.get(), [](SSL* ssl, SSL_SESSION*) {
      ++*static_cast<int*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
      return 0;
    });
    constexpr unsigned char kHttp2[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context_.get(), kHttp2, sizeof kHttp2);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), socket_.fd());
    connected_ = SSL_connect(ssl_.get()) == 1;
  }
  RawTls(const RawTls&) = delete;
  RawTls& operator=(const RawTls&) = delete;
  bool connected() const { return connected_; }
  // This end, as gRPC names it.
  std::string peer() const {
    sockaddr_in own{};
    socklen_t size = sizeof own;
    getsockname(socket_.fd(), reinterpret_cast<sockaddr*>(&own), &size);
    return fmt::format("ipv4:127.0.0.1:{}", ntohs(own.sin_port));
  }
  // Session tickets that came before the server's first word; -1 if it says none.
  int Tickets() {
    char byte = 0;
    return SSL_read(ssl_.get(), &byte, 1) == 1 ? tickets_ : -1;
  }
  // The certificate that the server shows, DER.
  std::string Leaf() const {
    const net::CertificatePtr leaf(SSL_get1_peer_certificate(ssl_.get()));
    return leaf == nullptr ? "" : net::CertificateDer(leaf.get());
  }
  // False once the connection is gone.
  bool Send(const std::string& bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
  }
  // Whether the server has ended it. Reads and drops what came before.
  bool Ended() {
    char byte = 0;
    while (recv(socket_.fd(), &byte, 1, MSG_DONTWAIT) > 0) continue;
    return recv(socket_.fd(), &byte, 1, MSG_DONTWAIT) == 0 || errno != EAGAIN;
  }
  // What has come is read and dropped, so that the server is never the one that waits.
  void Drain() {
    char answers[4096];
    char first = 0;
    while (recv(socket_.fd(), &first, 1, MSG_DONTWAIT | MSG_PEEK) > 0 &&
           SSL_read(ssl_.get(), answers, sizeof answers) > 0) {
    }
    ERR_clear_error();
  }

 private:
  net::Socket socket_;
  net::SslContextPtr context_;
  net::SslPtr ssl_;
  int tickets_ = 0;
  bool connected_ = false;
};

class RawHttp2 {
 public:
  RawHttp2(const std::string& address, const net::ClientIdentity& identity)
      : tls_(address, identity),
        connected_(tls_.connected() &&
                   tls_.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, ""))) {}
  bool connected() const { return connected_; }
  std::string peer() const { return tls_.peer(); }

  // Makes `count` calls with an empty message each. False once the connection is gone.
  bool Call(const std::string& path, int count) {
    std::string calls;
    for (int i = 0; i < count; ++i) {
      const uint32_t stream = std::exchange(next_, next_ + 2);
      // HEADERS with END_HEADERS, DATA with END_STREAM.
      calls += Frame(1, 4, stream, Headers(path)) + Frame(0, 1, stream, std::string(5, '\0'));
    }
    tls_.Drain();
    return tls_.Send(calls);
  }
  // Takes back all calls since the last Reset. False once the connection is gone.
  bool Reset() {
    std::string resets;
    for (; reset_ < next_; reset_ += 2) {
      resets += Frame(3, 0, reset_, std::string("\0\0\0\x8", 4));  // RST_STREAM with CANCEL
    }
    return tls_.Send(resets);
  }
  // Says something that asks for nothing but its acknowledgement. False once the connection is
  // gone.
  bool Speak() {
    tls_.Drain();
    return tls_.Send(Frame(4, 0, 0, ""));  // SETTINGS
  }
  // Whether the server has ended the connection.
  bool Ended() { return tls_.Ended(); }

 private:
  static std::string Headers(const std::string& path) {
    std::string headers;
    for (const auto& [name, value] : {std::pair<std::string, std::string>{":method", "POST"},
                                      {":scheme", "https"},
                                      {":path", path},
                                      {":authority", "x"},
                                      {"te", "trailers"},
                                      {"content-type", "application/grpc"}}) {
      headers += '\0';  // HPACK: literal, not indexed, new name
      headers += static_cast<char>(name.size());
      headers += name;
      headers += static_cast<char>(value.size());
      headers += value;
    }
    return headers;
  }
  static std::string Frame(uint8_t type, uint8_t flags, uint32_t stream,
                           const std::string& payload) {
    const auto byte = [](size_t number, int shift) { return static_cast<char>(number >> shift); };
    std::string frame{byte(payload.size(), 16), byte(payload.size(), 8),  byte(payload.size(), 0),
                      static_cast<char>(type),  static_cast<char>(flags), byte(stream, 24),
                      byte(stream, 16),         byte(stream, 8),          byte(stream, 0)};
    return frame + payload;
  }

  RawTls tls_;
  bool connected_ = false;
  uint32_t next_ = 1;   // stream to be opened
  uint32_t reset_ = 1;  // the first that was not reset
};

}  // namespace muster::control
