// A real Redis for tests: loopback TCP, a Unix socket and, if wanted, TLS; nothing is saved.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/testing/servers.h"

namespace muster::testing {

// An authority and a server certificate of it, made by the openssl program.
struct TestCertificates {
  // Files ca.pem, server.pem and server.key in the folder. `names` as in a subjectAltName:
  // "DNS:localhost,IP:127.0.0.1". Days may be negative: a certificate that has expired.
  TestCertificates(const std::string& folder, const std::string& names, int days = 2);
  std::string ca;
  std::string certificate;
  std::string key;
};

class RedisServer {
 public:
  // `settings` are further arguments of redis-server: {"--requirepass", "x"}.
  explicit RedisServer(std::vector<std::string> settings = {});
  // With TLS on tls_port() besides.
  RedisServer(std::vector<std::string> settings, const TestCertificates& certificates);

  uint16_t port() const { return port_; }
  uint16_t tls_port() const { return tls_port_; }
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(port_); }
  std::string socket() const { return folder_.File("socket"); }
  ServerProcess& process() { return *process_; }

  // kill -9, and the same server again: everything in it is gone.
  void Kill();
  void Start();
  // What redis-cli prints, without the last line break.
  std::string Cli(const std::vector<std::string>& command);

 private:
  TempFolder folder_;
  uint16_t port_;
  uint16_t tls_port_ = 0;
  std::vector<std::string> settings_;
  std::unique_ptr<ServerProcess> process_;
};

}  // namespace muster::testing
