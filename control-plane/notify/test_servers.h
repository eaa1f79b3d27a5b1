// Receivers for the tests of this folder: tests/support's servers, started and read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/testing/servers.h"

namespace muster::testing {

inline std::vector<nlohmann::json> ReadLines(const std::string& file) {
  std::vector<nlohmann::json> lines;
  const auto text = ReadFile(file);
  if (!text.ok()) return lines;
  for (const std::string_view line : Split(*text, '\n')) {
    if (!line.empty()) lines.push_back(nlohmann::json::parse(line, nullptr, false));
  }
  return lines;
}

class HttpSink {
 public:
  explicit HttpSink(const std::vector<std::string>& answers = {}) : port_(FreePort()) {
    std::string script;
    for (const std::string& answer : answers) script += answer + "\n";
    (void)WriteFileAtomically(folder_.File("script"), script);
    server_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"/usr/bin/python3",
                                 MUSTER_SOURCE_DIR "/tests/support/http_sink.py", "--port",
                                 fmt::format("{}", port_), "--record", folder_.File("record"),
                                 "--script", folder_.File("script")},
        folder_.File("log"));
    WaitForPort(port_);
  }
  std::string url(const std::string& path) const {
    return fmt::format("http://127.0.0.1:{}{}", port_, path);
  }
  std::vector<nlohmann::json> Requests() const { return ReadLines(folder_.File("record")); }
  // "event" of each webhook request, in order.
  std::vector<std::string> Events() const {
    std::vector<std::string> events;
    for (const auto& request : Requests()) {
      events.push_back(nlohmann::json::parse(request["body"].get<std::string>())["event"]);
    }
    return events;
  }

 private:
  TempFolder folder_;
  uint16_t port_;
  std::unique_ptr<ServerProcess> server_;
};

struct MailSettings {
  std::string user;
  std::string password;
  bool tls = true;
  int defer = 0;
  bool refuse = false;
  bool hang = false;
};

class MailServer {
 public:
  explicit MailServer(const MailSettings& settings = {}) : port_(FreePort()) {
    std::vector<std::string> argv{
        "/usr/bin/python3", MUSTER_SOURCE_DIR "/tests/support/smtp_server.py",
        "--port",           fmt::format("{}", port_),
        "--record",         folder_.File("record")};
    const auto add = [&argv](std::vector<std::string> more) {
      argv.insert(argv.end(), more.begin(), more.end());
    };
    if (settings.tls) {
      MakeCertificate();
      add({"--certificate", ca_file(), "--key", folder_.File("key.pem")});
    }
    if (!settings.user.empty()) add({"--user", settings.user, "--password", settings.password});
    if (settings.defer > 0) add({"--defer", fmt::format("{}", settings.defer)});
    if (settings.refuse) add({"--refuse"});
    if (settings.hang) add({"--hang"});
    server_ = std::make_unique<ServerProcess>(argv, folder_.File("log"));
    WaitForPort(port_);
  }
  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  std::string ca_file() const { return folder_.File("certificate.pem"); }
  std::vector<nlohmann::json> Record() const { return ReadLines(folder_.File("record")); }
  std::vector<nlohmann::json> Messages() const {
    std::vector<nlohmann::json> messages;
    for (auto& line : Record()) {
      if (line.contains("message")) messages.push_back(line);
    }
    return messages;
  }

 private:
  void MakeCertificate() {
    RunProgram({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", folder_.File("key.pem"), "-out", ca_file(), "-days", "2",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"});
  }

  TempFolder folder_;
  uint16_t port_;
  std::unique_ptr<ServerProcess> server_;
};

}  // namespace muster::testing
