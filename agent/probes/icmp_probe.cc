// Echo requests over the kernel's unprivileged ping socket, or a raw one where the agent may.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probes/probes.h"
#include "agent/probes/report.h"
#include "agent/probes/resolve.h"
#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(200);
constexpr uint8_t kEchoRequest4 = 8;
constexpr uint8_t kEchoReply4 = 0;
constexpr uint8_t kEchoRequest6 = 128;
constexpr uint8_t kEchoReply6 = 129;
constexpr size_t kCookieBytes = 16;

uint16_t Checksum(std::string_view bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint32_t byte = static_cast<unsigned char>(bytes[i]);
    sum += i % 2 == 0 ? byte << 8 : byte;
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

class Socket {
 public:
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  Status Open(const Address& address) {
    const int family = address.storage.ss_family;
    const int protocol =
        family == AF_INET6 ? static_cast<int>(IPPROTO_ICMPV6) : static_cast<int>(IPPROTO_ICMP);
    fd_ = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd_ < 0) {
      fd_ = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
      with_ip_header_ = family == AF_INET;
    }
    if (fd_ < 0) {
      return PermissionDenied(
          "the kernel does not let the agent ping: set sysctl net.ipv4.ping_group_range=\"0 "
          "2147483647\" ({})",
          std::strerror(errno));
    }
    if (connect(fd_, &address.get(), address.size) != 0) {
      return Unavailable("cannot reach {}: {}", address.Ip(), std::strerror(errno));
    }
    return OkStatus();
  }

  int fd() const { return fd_; }

  // The ICMP message, without the IP header that raw IPv4 sockets bring.
  std::string Receive() const {
    std::array<char, 2048> buffer{};
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
    if (size <= 0) return "";
    std::string_view message(buffer.data(), static_cast<size_t>(size));
    if (with_ip_header_) {
      const size_t header = static_cast<size_t>(buffer[0] & 0x0f) * 4;
      message.remove_prefix(std::min(header, message.size()));
    }
    return std::string(message);
  }

 private:
  int fd_ = -1;
  bool with_ip_header_ = false;
};

class IcmpProbe final : public Probe {
 public:
  IcmpProbe(v1::IcmpProbe spec, Policy policy)
      : spec_(std::move(spec)), policy_(std::move(policy)) {}

  ProbeResult Run(const ProbeContext& context) override {
    Report report(context);
    const StatusOr<Address> address = ResolveAllowed(spec_.host(), 0, policy_, context, report);
    if (!address.ok()) return report.Failed(address.status());
    Socket socket;
    if (const Status status = socket.Open(*address); !status.ok()) return report.Failed(status);
    report.Begin("echo", "waiting for echoes of " + address->Ip());
    Train train{.v6 = address->storage.ss_family == AF_INET6,
                .count = spec_.count() == 0 ? 3 : spec_.count(),
                .cookie = RandomBytes(kCookieBytes)};
    if (const Status status = Drive(train, socket, context, report); !status.ok()) {
      return report.Failed(status);
    }
    return Judge(train, *address, report);
  }

 private:
  // One run's requests: when each was sent, and how long its echo took.
  struct Train {
    bool v6 = false;
    uint32_t count = 0;
    std::string cookie;  // tells our echoes from those of others on a raw socket
    std::vector<absl::Duration> sent;
    std::map<uint16_t, absl::Duration> took;
  };

  // Sends one each interval and takes echoes until all are there or time is up.
  static Status Drive(Train& train, const Socket& socket, const ProbeContext& context,
                      Report& report) {
    while (train.took.size() < train.count && context.Left() > absl::ZeroDuration()) {
      const absl::Duration now = context.clock.Uptime();
      const bool more = train.sent.size() < train.count;
      if (more && (train.sent.empty() || now - train.sent.back() >= kInterval)) {
        MUSTER_RETURN_IF_ERROR(Send(train, socket, now, report));
        continue;
      }
      int wait = LeftMilliseconds(context);
      if (more) {
        const absl::Duration next = train.sent.back() + kInterval - now;
        wait = std::min(wait, static_cast<int>(absl::ToInt64Milliseconds(next)) + 1);
      }
      pollfd fd{.fd = socket.fd(), .events = POLLIN, .revents = 0};
      if (poll(&fd, 1, wait) > 0) Take(train, socket.Receive(), context.clock.Uptime(), report);
    }
    return OkStatus();
  }

  static Status Send(Train& train, const Socket& socket, absl::Duration now, Report& report) {
    const auto sequence = static_cast<uint16_t>(train.sent.size() + 1);
    std::string message(8, '\0');
    message[0] = static_cast<char>(train.v6 ? kEchoRequest6 : kEchoRequest4);
    message[4] = train.cookie[0];
    message[5] = train.cookie[1];
    message[7] = static_cast<char>(sequence);
    message += train.cookie;
    const uint16_t checksum = Checksum(message);  // the kernel makes that of IPv6 itself
    message[2] = static_cast<char>(checksum >> 8);
    message[3] = static_cast<char>(checksum & 0xff);
    train.sent.push_back(now);
    report.Sent(fmt::format("echo request {}", sequence));
    const ssize_t size = send(socket.fd(), message.data(), message.size(), MSG_NOSIGNAL);
    if (size >= 0 || errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED)
      return OkStatus();
    return Unavailable("cannot send an echo request: {}", std::strerror(errno));
  }

  static void Take(Train& train, std::string_view message, absl::Duration now, Report& report) {
    if (message.size() < 8 + kCookieBytes || message.substr(8, kCookieBytes) != train.cookie)
      return;
    if (static_cast<uint8_t>(message[0]) != (train.v6 ? kEchoReply6 : kEchoReply4)) return;
    const auto sequence = static_cast<uint16_t>(static_cast<unsigned char>(message[7]));
    if (sequence == 0 || sequence > train.sent.size()) return;
    if (!train.took.emplace(sequence, now - train.sent[sequence - 1]).second) return;
    report.Received(
        fmt::format("echo reply {} after {}", sequence, ShortDuration(train.took[sequence])));
  }

  ProbeResult Judge(const Train& train, const Address& address, Report& report) {
    if (train.took.empty()) return report.TimedOut();
    const double loss = 100.0 * static_cast<double>(train.count - train.took.size()) / train.count;
    absl::Duration sum;
    absl::Duration longest;
    for (const auto& [sequence, took] : train.took) {
      sum += took;
      longest = std::max(longest, took);
    }
    const absl::Duration mean = sum / static_cast<int64_t>(train.took.size());
    report.AddMetric("loss_percent", loss, "%");
    report.AddMetric("rtt_mean", absl::ToDoubleSeconds(mean), "s");
    report.AddMetric("rtt_longest", absl::ToDoubleSeconds(longest), "s");
    if (loss > spec_.loss_at_most()) {
      return report.Critical(fmt::format("{} of {} echoes of {} came back, {:.0f} % are lost",
                                         train.took.size(), train.count, address.Ip(), loss));
    }
    if (spec_.has_latency_below() && mean > wire::FromProto(spec_.latency_below())) {
      return report.Warning(fmt::format("echoes of {} take {}, more than {}", address.Ip(),
                                        ShortDuration(mean),
                                        DurationText(wire::FromProto(spec_.latency_below()))));
    }
    return report.Ok("echoes come back");
  }

  const v1::IcmpProbe spec_;
  const Policy policy_;
};

}  // namespace

ProbeOr MakeIcmpProbe(const v1::IcmpProbe& spec, const Policy& policy) {
  if (spec.count() > 20) return InvalidArgument("an ICMP probe sends at most 20 echo requests");
  return std::make_unique<IcmpProbe>(spec, policy);
}

}  // namespace muster::agent
