#include "control-plane/http/server.h"

#include <civetweb.h>

#include <cstring>

#include "lib/base/text.h"

namespace muster::control {
namespace {

// civetweb answers so many at once; it queues a few more, and the kernel the rest.
constexpr char kThreads[] = "4";
constexpr char kQueue[] = "28";

struct Reply {
  int status = 200;
  std::string body;
  std::string_view content_type = "text/plain; charset=utf-8";
};

std::string_view StatusText(int status) {
  switch (status) {
    case 200: return "OK";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    default: return "Service Unavailable";
  }
}

void Write(mg_connection* connection, const Reply& reply, bool with_body) {
  const std::string head = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
      "X-Content-Type-Options: nosniff\r\nConnection: close\r\n{}\r\n",
      reply.status, StatusText(reply.status), reply.content_type, reply.body.size(),
      reply.status == 405 ? "Allow: GET, HEAD\r\n" : "");
  mg_write(connection, head.data(), head.size());
  if (with_body) mg_write(connection, reply.body.data(), reply.body.size());
}

Reply ReadyReply(const std::function<Status()>& ready) {
  const Status status = ready();
  if (status.ok()) return {.body = "ok\n"};
  return {.status = 503, .body = OneLine(Message(status)) + "\n"};
}

Reply ReplyTo(std::string_view path, const Metrics& metrics, const std::function<Status()>& ready) {
  if (path == "/metrics") {
    return {.body = metrics.Text(), .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (path == "/-/healthy") return {.body = "ok\n"};
  if (path == "/-/ready") return ReadyReply(ready);
  return {.status = 404, .body = "there are /metrics, /-/healthy and /-/ready\n"};
}

}  // namespace

HttpServer::HttpServer(const Metrics& metrics, std::function<Status()> ready)
    : metrics_(metrics), ready_(std::move(ready)) {}

int HttpServer::Answer(mg_connection* connection, void* self) {
  const auto& server = *static_cast<HttpServer*>(self);
  const mg_request_info* request = mg_get_request_info(connection);
  const std::string_view method = request->request_method;
  if (method != "GET" && method != "HEAD") {
    Write(connection, {.status = 405, .body = "GET only\n"}, true);
    return 405;
  }
  const Reply reply = ReplyTo(request->local_uri, server.metrics_, server.ready_);
  Write(connection, reply, method == "GET");
  return reply.status;
}

StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                        const Metrics& metrics,
                                                        std::function<Status()> ready) {
  MUSTER_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(options.listen));
  const std::string listen =
      address.host.empty() ? fmt::format("{}", address.port) : FormatHostPort(address);
  const char* settings[] = {"listening_ports",
                            listen.c_str(),
                            "num_threads",
                            kThreads,
                            "listen_backlog",
                            kQueue,
                            "request_timeout_ms",
                            "5000",
                            "max_request_size",
                            "8192",
                            "enable_keep_alive",
                            "no",
                            "enable_directory_listing",
                            "no",
                            nullptr};
  std::unique_ptr<HttpServer> server(new HttpServer(metrics, std::move(ready)));
  mg_callbacks callbacks;
  std::memset(&callbacks, 0, sizeof callbacks);
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };
  server->context_ = mg_start(&callbacks, nullptr, settings);
  if (server->context_ == nullptr) {
    return Unavailable(
        "cannot listen on {} for HTTP: free the port, or choose another with --http-listen",
        options.listen);
  }
  mg_set_request_handler(server->context_, "/", &HttpServer::Answer, server.get());
  mg_server_port port;
  if (mg_get_server_ports(server->context_, 1, &port) == 1) {
    server->port_ = static_cast<uint16_t>(port.port);
  }
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
}

}  // namespace muster::control
