// A connection with a deadline, plain or TLS: every call blocks until it is done or the context's
// deadline has come (DeadlineExceeded). One thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "agent/probes/probe.h"
#include "agent/probes/resolve.h"
#include "lib/base/status.h"

struct ssl_st;
struct ssl_ctx_st;

namespace muster::agent {

struct TlsOptions {
  std::string server_name;
  std::string ca_file;  // empty: the host's own authorities
};

class Stream {
 public:
  // Unavailable "connection refused by 127.0.0.1:8080".
  static StatusOr<std::unique_ptr<Stream>> Connect(const Address& address,
                                                   const ProbeContext& context);
  static StatusOr<std::unique_ptr<Stream>> ConnectUnix(const std::string& path,
                                                       const ProbeContext& context);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The handshake; refuses what does not verify against the authorities and the name.
  Status StartTls(const TlsOptions& options, const ProbeContext& context);
  Status Write(std::string_view bytes, const ProbeContext& context);
  // At least one byte and at most `most`; "" once the peer has closed.
  StatusOr<std::string> Read(size_t most, const ProbeContext& context);

  // Null before StartTls. Valid after a failed handshake too, as long as the stream lives.
  ssl_st* tls() const { return ssl_; }

 private:
  Stream(int fd, std::string peer);
  static StatusOr<std::unique_ptr<Stream>> Finish(std::unique_ptr<Stream> stream,
                                                  const sockaddr& address, socklen_t size,
                                                  const ProbeContext& context);
  Status Wait(short events, const ProbeContext& context) const;
  Status TlsError(int result, std::string_view doing) const;

  int fd_;
  std::string peer_;
  ssl_ctx_st* ssl_context_ = nullptr;
  ssl_st* ssl_ = nullptr;
};

}  // namespace muster::agent
