// What the tests of probes share: specs as text, a policy open to loopback, certificates, and
// servers that never answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/policy/policy.h"
#include "agent/probes/probe.h"
#include "agent/probes/probes.h"

namespace muster::agent::testing {

// From protobuf's text format: "tcp { address: '127.0.0.1:80' }".
v1::Probe Spec(const std::string& text);

// Every kind, loopback, and these paths and programs.
Policy OpenPolicy(const std::string& paths = "/nowhere", const std::string& programs = "/nowhere");

ProbeResult RunSpec(const std::string& spec, const Policy& policy,
                    absl::Duration within = absl::Seconds(10));
ProbeResult RunProbe(Probe& probe, absl::Duration within = absl::Seconds(10));
// Why MakeProbe refuses.
Status Refusal(const std::string& spec, const Policy& policy);

double MetricOf(const ProbeResult& result, std::string_view name);  // NaN if it is not there
bool HasPhase(const ProbeResult& result, std::string_view name);

// Listens on loopback, and says nothing to whom the kernel lets in.
class SilentServer {
 public:
  explicit SilentServer(int backlog = 16);
  ~SilentServer();
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;
  uint16_t port() const { return port_; }

 private:
  int fd_;
  uint16_t port_ = 0;
};

// A self-signed certificate for localhost and 127.0.0.1, CN=localhost, and its key, as PEM files.
void MakeCertificate(const std::string& certificate_file, const std::string& key_file,
                     absl::Duration from, absl::Duration until);

}  // namespace muster::agent::testing
