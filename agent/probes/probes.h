// The probes by kind, for MakeProbe and the tests. Each keeps its own copy of spec and policy, and
// has been checked against the policy as far as that can be done before a name is resolved.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/probes/probe.h"
#include "muster/v1/probe.pb.h"

namespace muster::agent {

using ProbeOr = StatusOr<std::unique_ptr<Probe>>;

ProbeOr MakeHttpProbe(const v1::HttpProbe& spec, const Policy& policy);
ProbeOr MakeTcpProbe(const v1::TcpProbe& spec, const Policy& policy);
ProbeOr MakeTlsProbe(const v1::TlsProbe& spec, const Policy& policy);
ProbeOr MakeDnsProbe(const v1::DnsProbe& spec, const Policy& policy);
ProbeOr MakeIcmpProbe(const v1::IcmpProbe& spec, const Policy& policy);
ProbeOr MakePostgresProbe(const v1::PostgresProbe& spec, const Policy& policy);
ProbeOr MakeRedisProbe(const v1::RedisProbe& spec, const Policy& policy);
ProbeOr MakeGrpcProbe(const v1::GrpcProbe& spec, const Policy& policy);
ProbeOr MakeFileProbe(const v1::FileProbe& spec, const Policy& policy);
ProbeOr MakePluginProbe(const v1::PluginProbe& spec, const Policy& policy);

// What the kernel says of its clock.
struct KernelClock {
  absl::Duration largest_error;
  bool synchronised = false;
};
// Where the host probes look; tests bring their own.
struct HostSources {
  std::string proc = "/proc";
  std::function<KernelClock()> clock;  // empty: adjtimex
};
ProbeOr MakeHostProbe(const v1::HostProbe& spec, HostSources sources = {});

struct ProcessSources {
  std::string proc = "/proc";
  std::string systemctl = "/usr/bin/systemctl";
};
ProbeOr MakeProcessProbe(const v1::ProcessProbe& spec, const Policy& policy,
                         ProcessSources sources = {});

}  // namespace muster::agent
