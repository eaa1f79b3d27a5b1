#include "lib/testing/redis_server.h"

#include <cstdio>

#include "lib/base/file.h"

namespace muster::testing {
namespace {

void OpenSsl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "openssl");
  const ProgramResult ran = RunProgram(arguments);
  if (ran.exit_code != 0) std::fprintf(stderr, "openssl: %s\n", ran.err.c_str());
}

std::vector<std::string> NewKey(const std::string& file) {
  return {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file};
}

std::vector<std::string> Joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TestCertificates::TestCertificates(const std::string& folder, const std::string& names, int days)
    : ca(folder + "/ca.pem"), certificate(folder + "/server.pem"), key(folder + "/server.key") {
  const std::string ca_key = folder + "/ca.key";
  const std::string request = folder + "/server.csr";
  const std::string extensions = folder + "/server.ext";
  OpenSsl(Joined({"req", "-x509", "-subj", "/CN=test authority", "-days", "2", "-out", ca},
                 NewKey(ca_key)));
  OpenSsl(Joined({"req", "-subj", "/CN=redis", "-out", request}, NewKey(key)));
  if (!WriteFileAtomically(extensions, "subjectAltName=" + names + "\n").ok())
    std::fprintf(stderr, "cannot write %s\n", extensions.c_str());
  OpenSsl({"x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days",
           std::to_string(days), "-extfile", extensions, "-out", certificate});
}

RedisServer::RedisServer(std::vector<std::string> settings)
    : port_(FreePort()), settings_(std::move(settings)) {
  Start();
}

RedisServer::RedisServer(std::vector<std::string> settings, const TestCertificates& certificates)
    : port_(FreePort()), tls_port_(FreePort()), settings_(std::move(settings)) {
  for (const std::string& argument :
       {std::string("--tls-port"), std::to_string(tls_port_), std::string("--tls-cert-file"),
        certificates.certificate, std::string("--tls-key-file"), certificates.key,
        std::string("--tls-ca-cert-file"), certificates.ca, std::string("--tls-auth-clients"),
        std::string("no")}) {
    settings_.push_back(argument);
  }
  Start();
}

void RedisServer::Start() {
  std::vector<std::string> argv = {"/usr/bin/redis-server",
                                   "--port",
                                   std::to_string(port_),
                                   "--bind",
                                   "127.0.0.1",
                                   "--save",
                                   "",
                                   "--dir",
                                   folder_.path(),
                                   "--unixsocket",
                                   socket()};
  argv.insert(argv.end(), settings_.begin(), settings_.end());
  process_ = std::make_unique<ServerProcess>(argv, folder_.File("log"));
  if (!WaitForPort(port_)) std::fprintf(stderr, "redis-server: %s\n", process_->Log().c_str());
}

void RedisServer::Kill() { process_->Stop(9); }

std::string RedisServer::Cli(const std::vector<std::string>& command) {
  std::vector<std::string> argv = {"redis-cli", "-s", socket()};
  argv.insert(argv.end(), command.begin(), command.end());
  std::string out = RunProgram(argv).out;
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

}  // namespace muster::testing
