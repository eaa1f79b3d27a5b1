#include <csignal>
#include <exception>

#include <pthread.h>

#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/wal_archive_probe.h"

namespace muster::agent {
namespace {

// What holds for every probe: no SIGPIPE, no exception, a result within its bounds.
class GuardedProbe final : public Probe {
 public:
  explicit GuardedProbe(std::unique_ptr<Probe> probe) : probe_(std::move(probe)) {}

  ProbeResult Run(const ProbeContext& context) override {
    // OpenSSL writes to sockets without MSG_NOSIGNAL.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    if (context.Left() <= absl::ZeroDuration()) return Report(context).TimedOut();
    return Bounded(Caught(context));
  }

 private:
  ProbeResult Caught(const ProbeContext& context) try {
    return probe_->Run(context);
  } catch (const std::exception& error) {
    return Report(context).Unknown(fmt::format("the probe failed: {}", error.what()));
  }

  const std::unique_ptr<Probe> probe_;
};

StatusOr<std::string_view> KindOf(const v1::Probe& spec) {
  switch (spec.kind_case()) {
    case v1::Probe::kHttp: return "http";
    case v1::Probe::kTcp: return "tcp";
    case v1::Probe::kTls: return "tls";
    case v1::Probe::kDns: return "dns";
    case v1::Probe::kIcmp: return "icmp";
    case v1::Probe::kPostgres: return "postgres";
    case v1::Probe::kRedis: return "redis";
    case v1::Probe::kGrpc: return "grpc";
    case v1::Probe::kHost: return "host";
    case v1::Probe::kProcess: return "process";
    case v1::Probe::kFile: return "file";
    case v1::Probe::kPlugin: return "plugin";
    case v1::Probe::kWalArchive: return "wal_archive";
    case v1::Probe::KIND_NOT_SET: break;
  }
  return InvalidArgument("this agent does not know the kind of probe that is asked for");
}

ProbeOr MakeBare(const v1::Probe& spec, const Policy& policy) {
  switch (spec.kind_case()) {
    case v1::Probe::kHttp: return MakeHttpProbe(spec.http(), policy);
    case v1::Probe::kTcp: return MakeTcpProbe(spec.tcp(), policy);
    case v1::Probe::kTls: return MakeTlsProbe(spec.tls(), policy);
    case v1::Probe::kDns: return MakeDnsProbe(spec.dns(), policy);
    case v1::Probe::kIcmp: return MakeIcmpProbe(spec.icmp(), policy);
    case v1::Probe::kPostgres: return MakePostgresProbe(spec.postgres(), policy);
    case v1::Probe::kRedis: return MakeRedisProbe(spec.redis(), policy);
    case v1::Probe::kGrpc: return MakeGrpcProbe(spec.grpc(), policy);
    case v1::Probe::kHost: return MakeHostProbe(spec.host());
    case v1::Probe::kProcess: return MakeProcessProbe(spec.process(), policy);
    case v1::Probe::kFile: return MakeFileProbe(spec.file(), policy);
    case v1::Probe::kPlugin: return MakePluginProbe(spec.plugin(), policy);
    case v1::Probe::kWalArchive: return MakeWalArchiveProbe(spec.wal_archive(), policy);
    case v1::Probe::KIND_NOT_SET: break;
  }
  return InvalidArgument("this agent does not know the kind of probe that is asked for");
}

}  // namespace

StatusOr<std::unique_ptr<Probe>> MakeProbe(const v1::Probe& spec, const Policy& policy) {
  MUSTER_ASSIGN_OR_RETURN(const std::string_view kind, KindOf(spec));
  MUSTER_RETURN_IF_ERROR(policy.AllowProbe(kind));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Probe> probe, MakeBare(spec, policy));
  return std::make_unique<GuardedProbe>(std::move(probe));
}

}  // namespace muster::agent
