// A TLS handshake: the chain verifies, lasts, and the version is new enough.
#include <openssl/ssl.h>

#include "agent/probes/certificate.h"
#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/stream.h"
#include "lib/base/text.h"

namespace muster::agent {
namespace {

class TlsProbe final : public Probe {
 public:
  TlsProbe(v1::TlsProbe spec, HostPort target, Policy policy)
      : spec_(std::move(spec)), target_(std::move(target)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<std::unique_ptr<Stream>> stream = Shake(context, report);
    if (!stream.ok()) return report.Failed(stream.status());
    return Judge(*(*stream)->tls(), context, report);
  }

 private:
  StatusOr<std::unique_ptr<Stream>> Shake(const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const Address address,
                            ResolveAllowed(target_.host, target_.port, policy_, context, report));
    report.Begin("connect", "connecting to " + address.Text());
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream, Stream::Connect(address, context));
    report.Begin("tls", fmt::format("shaking hands with {} (TLS)", address.Text()));
    const std::string name = spec_.server_name().empty() ? target_.host : spec_.server_name();
    const Status shaken =
        stream->StartTls({.server_name = name, .ca_file = spec_.ca_file()}, context);
    report.End();
    if (stream->tls() != nullptr) Describe(*stream->tls(), context, report);
    MUSTER_RETURN_IF_ERROR(shaken);
    return stream;
  }

  static void Describe(const SSL& tls, const ProbeContext& context, Report& report) {
    report.Note(fmt::format("{}, {}", SSL_get_version(&tls), SSL_get_cipher_name(&tls)));
    const std::optional<ChainEnd> end = PeerChainEnd(tls);
    if (!end) return;
    report.Note(fmt::format("{} ends {}", end->subject, TimeText(end->not_after)));
    report.AddMetric("certificate_days_left",
                     absl::ToDoubleHours(end->not_after - context.clock.Now()) / 24, "");
  }

  ProbeResult Judge(const SSL& tls, const ProbeContext& context, Report& report) {
    const int least = spec_.minimum_version() == "1.3" ? TLS1_3_VERSION : TLS1_2_VERSION;
    if (SSL_version(&tls) < least) {
      return report.Critical(fmt::format("the server chose {}, older than TLS {}",
                                         SSL_get_version(&tls),
                                         least == TLS1_3_VERSION ? "1.3" : "1.2"));
    }
    const std::optional<ChainEnd> end = PeerChainEnd(tls);
    if (!end) return report.Critical("the server sent no certificate");
    const absl::Duration left = end->not_after - context.clock.Now();
    if (left <= absl::ZeroDuration()) {
      return report.Critical(fmt::format("the certificate {} has expired", end->subject));
    }
    const uint32_t days = spec_.days_left() == 0 ? 14 : spec_.days_left();
    if (left < absl::Hours(24) * days) {
      return report.Warning(fmt::format("the certificate {} ends in {}, less than {} days",
                                        end->subject, ShortDuration(left), days));
    }
    return report.Ok(fmt::format("{}, certificate good", SSL_get_version(&tls)));
  }

  const v1::TlsProbe spec_;
  const HostPort target_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeTlsProbe(const v1::TlsProbe& spec, const Policy& policy) {
  MUSTER_ASSIGN_OR_RETURN(HostPort target, ParseTarget(spec.address()));
  if (!spec.ca_file().empty()) MUSTER_RETURN_IF_ERROR(policy.AllowPath(spec.ca_file()));
  return std::make_unique<TlsProbe>(spec, std::move(target), policy);
}

}  // namespace muster::agent
