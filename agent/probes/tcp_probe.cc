// A TCP connection: opens, says something, and looks for something in the answer.
#include <re2/re2.h>

#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/stream.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr size_t kAnswerBytes = 4096;

class TcpProbe final : public Probe {
 public:
  TcpProbe(v1::TcpProbe spec, HostPort target, std::string send, Policy policy)
      : spec_(std::move(spec)),
        target_(std::move(target)),
        send_(std::move(send)),
        expect_(spec_.expect(), RE2::Quiet),
        policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    if (const Status status = Look(context, report); !status.ok()) return report.Failed(status);
    return report.OkWithin(wire::FromProto(spec_.latency_below()),
                           spec_.expect().empty() ? "connected" : "answer as expected");
  }

 private:
  Status Look(const ProbeContext& context, Report& report) {
    MUSTER_ASSIGN_OR_RETURN(const Address address,
                            ResolveAllowed(target_.host, target_.port, policy_, context, report));
    report.Begin("connect", "connecting to " + address.Text());
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream,
                            Stream::Connect(address, context));
    if (!send_.empty()) {
      report.Begin("send", "sending to " + address.Text());
      report.Sent(send_);
      MUSTER_RETURN_IF_ERROR(stream->Write(send_, context));
    }
    return spec_.expect().empty() ? OkStatus() : Expect(*stream, address, context, report);
  }

  Status Expect(Stream& stream, const Address& address, const ProbeContext& context,
                Report& report) {
    report.Begin("first_byte", "waiting for an answer of " + address.Text());
    std::string answer;
    while (true) {
      MUSTER_ASSIGN_OR_RETURN(const std::string bytes,
                              stream.Read(kAnswerBytes - answer.size(), context));
      if (answer.empty()) {
        report.Begin("answer",
                     fmt::format("waiting for '{}' from {}", spec_.expect(), address.Text()));
      }
      report.Received(bytes);
      answer += bytes;
      if (RE2::PartialMatch(answer, expect_)) return OkStatus();
      if (bytes.empty()) {
        return Unavailable("{} closed without an answer that matches '{}'", address.Text(),
                           spec_.expect());
      }
      if (answer.size() >= kAnswerBytes) {
        return Unavailable("the first 4 KiB from {} do not match '{}'", address.Text(),
                           spec_.expect());
      }
    }
  }

  const v1::TcpProbe spec_;
  const HostPort target_;
  const std::string send_;
  const RE2 expect_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeTcpProbe(const v1::TcpProbe& spec, const Policy& policy) {
  MUSTER_ASSIGN_OR_RETURN(HostPort target, ParseTarget(spec.address()));
  MUSTER_ASSIGN_OR_RETURN(std::string send, Unescape(spec.send()));
  MUSTER_RETURN_IF_ERROR(CheckPattern(spec.expect()));
  return std::make_unique<TcpProbe>(spec, std::move(target), std::move(send), policy);
}

}  // namespace muster::agent
