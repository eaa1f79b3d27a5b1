// The plain HTTP port: /metrics, /-/healthy, /-/ready. GET only, small requests only, loopback by
// default; it tells nothing that is secret. civetweb serves it with its own few threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "control-plane/http/metrics.h"
#include "lib/base/status.h"

struct mg_context;
struct mg_connection;

namespace muster::control {

struct HttpOptions {
  std::string listen = "127.0.0.1:7480";  // port 0: any free one
};

class HttpServer {
 public:
  // `ready` is asked for /-/ready, by any thread; it may block for a moment. `metrics` must outlive
  // the server.
  static StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                     const Metrics& metrics,
                                                     std::function<Status()> ready);
  ~HttpServer();
  uint16_t port() const { return port_; }

 private:
  HttpServer(const Metrics& metrics, std::function<Status()> ready);
  static int Answer(mg_connection* connection, void* self);

  const Metrics& metrics_;
  const std::function<Status()> ready_;
  mg_context* context_ = nullptr;
  uint16_t port_ = 0;
};

}  // namespace muster::control
