// One question to a DNS server, over UDP, and over TCP where the answer is long.
#include <algorithm>
#include <memory>
#include <optional>

#include <ares.h>

#include "agent/probes/dns_answer.h"
#include "agent/probes/escape.h"
#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/resolve.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

struct Reply {
  bool done = false;
  int status = ARES_SUCCESS;
  std::string bytes;
};

void TakeReply(void* arg, int status, int, unsigned char* bytes, int size) {
  Reply& reply = *static_cast<Reply*>(arg);
  reply.done = true;
  reply.status = status;
  if (bytes != nullptr)
    reply.bytes.assign(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
}

// "db.example." and "DB.example" are one name.
std::string Canonical(std::string_view text) {
  std::string lower(text.ends_with('.') ? text.substr(0, text.size() - 1) : text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

class DnsProbe final : public Probe {
 public:
  DnsProbe(v1::DnsProbe spec, std::string type, std::optional<Address> server)
      : spec_(std::move(spec)), type_(std::move(type)), server_(server) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<std::vector<std::string>> answers = Ask(context, report);
    if (!answers.ok()) return report.Failed(answers.status());
    for (const std::string& answer : *answers) report.Received(answer);
    report.AddMetric("answers", static_cast<double>(answers->size()), "");
    return Judge(*answers, report);
  }

 private:
  std::string Asked() const { return server_ ? server_->Text() : "the host's resolver"; }

  StatusOr<std::vector<std::string>> Ask(const ProbeContext& context, Report& report) {
    report.Begin("query", fmt::format("asking {} for {} {}", Asked(), type_, spec_.name()));
    report.Sent(fmt::format("{} {} to {}", type_, spec_.name(), Asked()));
    ares_channel raw = nullptr;
    ares_options options{};
    options.tries = 1;
    options.flags = ARES_FLAG_NOCHECKRESP;  // SERVFAIL and REFUSED are answers to report
    options.timeout = std::max(1, LeftMilliseconds(context));
    static const int library = ares_library_init(ARES_LIB_INIT_ALL);
    if (library != ARES_SUCCESS ||
        ares_init_options(&raw, &options, ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS) !=
            ARES_SUCCESS) {
      return Unavailable("the resolver cannot start");
    }
    Reply reply;  // outlives the channel, whose end calls back
    const std::unique_ptr<ares_channeldata, decltype(&ares_destroy)> channel(raw, &ares_destroy);
    if (server_ && ares_set_servers_ports_csv(raw, server_->Text().c_str()) != ARES_SUCCESS) {
      return InvalidArgument("cannot ask {}", server_->Text());
    }
    ares_query(raw, spec_.name().c_str(), 1, DnsTypeNumber(type_), TakeReply, &reply);
    if (!DriveAres(raw, context, [&] { return reply.done; }) || reply.status == ARES_ETIMEOUT) {
      return DeadlineExceeded("{} did not answer", Asked());
    }
    if (reply.status != ARES_SUCCESS) return Refused(reply.status);
    return ParseDnsAnswers(reply.bytes, DnsTypeNumber(type_));
  }

  Status Refused(int status) const {
    switch (status) {
      case ARES_ENOTFOUND: return Unavailable("{}: no such name (NXDOMAIN)", spec_.name());
      case ARES_ENODATA: return Unavailable("{} has no {} record", spec_.name(), type_);
      case ARES_ESERVFAIL: return Unavailable("{} could not answer (SERVFAIL)", Asked());
      case ARES_EREFUSED: return Unavailable("{} refuses to answer (REFUSED)", Asked());
      case ARES_ECONNREFUSED: return Unavailable("connection refused by {}", Asked());
      case ARES_EBADNAME: return InvalidArgument("'{}' is not a name", spec_.name());
      default: return Unavailable("{}: {}", Asked(), ares_strerror(status));
    }
  }

  ProbeResult Judge(const std::vector<std::string>& answers, Report& report) const {
    if (answers.empty())
      return report.Critical(fmt::format("{} has no {} record", spec_.name(), type_));
    for (const std::string& expected : spec_.expect()) {
      const bool there =
          std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
            return type_ == "TXT" ? answer == expected : Canonical(answer) == Canonical(expected);
          });
      if (there) continue;
      return report.Critical(fmt::format("{} {} is {}, expected {} among them", type_, spec_.name(),
                                         fmt::join(answers, ", "), expected));
    }
    return report.OkWithin(wire::FromProto(spec_.latency_below()),
                           fmt::format("{} {} resolves", type_, spec_.name()));
  }

  const v1::DnsProbe spec_;
  const std::string type_;
  const std::optional<Address> server_;
};

}  // namespace

ProbeOr MakeDnsProbe(const v1::DnsProbe& spec, const Policy& policy) {
  const std::string type = spec.type().empty() ? "A" : spec.type();
  if (DnsTypeNumber(type) == 0) return InvalidArgument("'{}' is not a type of DNS record", type);
  std::optional<Address> server;
  if (!spec.server().empty()) {
    StatusOr<Address> address = ParseIp(spec.server(), 53);
    if (!address.ok()) {
      MUSTER_ASSIGN_OR_RETURN(const HostPort target, ParseTarget(spec.server()));
      address = ParseIp(target.host, target.port);
    }
    if (!address.ok()) return InvalidArgument("'{}' is not IP or IP:PORT", spec.server());
    MUSTER_RETURN_IF_ERROR(policy.AllowAddress(address->get()));
    server = *address;
  }
  return std::make_unique<DnsProbe>(spec, type, server);
}

}  // namespace muster::agent
