#include "agent/probes/resolve.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

struct Answer {
  bool done = false;
  int status = ARES_SUCCESS;
  std::optional<Address> address;
};

void TakeAnswer(void* arg, int status, int, ares_addrinfo* found) {
  Answer& answer = *static_cast<Answer*>(arg);
  answer.done = true;
  answer.status = status;
  if (found == nullptr) return;
  if (status == ARES_SUCCESS && found->nodes != nullptr &&
      found->nodes->ai_addrlen <= sizeof(sockaddr_storage)) {
    Address address;
    address.size = found->nodes->ai_addrlen;
    std::memcpy(&address.storage, found->nodes->ai_addr, address.size);
    answer.address = address;
  }
  ares_freeaddrinfo(found);
}

void SetPort(Address& address, uint16_t port) {
  if (address.storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address.storage).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address.storage).sin_port = htons(port);
  }
}

int StartAres(ares_channel& channel, const ProbeContext& context) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  if (library != ARES_SUCCESS) return library;
  ares_options options{};
  options.timeout = std::clamp(LeftMilliseconds(context), 1, 5000);
  options.tries = 2;
  return ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
}

}  // namespace

std::string Address::Ip() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes =
      storage.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr)
          : &reinterpret_cast<const sockaddr_in&>(storage).sin_addr;
  if (inet_ntop(storage.ss_family, bytes, text.data(), text.size()) == nullptr) return "?";
  return text.data();
}

uint16_t Address::Port() const {
  return ntohs(storage.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(storage).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

std::string Address::Text() const { return FormatHostPort({.host = Ip(), .port = Port()}); }

StatusOr<Address> ParseIp(std::string_view ip, uint16_t port) {
  const std::string text(ip);
  Address address;
  auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    address.storage.ss_family = AF_INET;
    address.size = sizeof v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    address.storage.ss_family = AF_INET6;
    address.size = sizeof v6;
  } else {
    return NotFound("{} is not an IP address", ip);
  }
  SetPort(address, port);
  return address;
}

bool DriveAres(ares_channeldata* channel, const ProbeContext& context,
               const std::function<bool()>& done) {
  while (!done()) {
    const int left = LeftMilliseconds(context);
    if (left == 0) return false;
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
    const auto mask =
        static_cast<unsigned>(ares_getsock(channel, sockets.data(), ARES_GETSOCK_MAXNUM));
    std::array<pollfd, ARES_GETSOCK_MAXNUM> fds{};
    nfds_t count = 0;
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
      const bool read = ARES_GETSOCK_READABLE(mask, i) != 0;
      const bool write = ARES_GETSOCK_WRITABLE(mask, i) != 0;
      if (!read && !write) continue;
      const int events = (read ? POLLIN : 0) | (write ? POLLOUT : 0);
      fds[count++] = {.fd = sockets[i], .events = static_cast<short>(events), .revents = 0};
    }
    timeval most{.tv_sec = left / 1000, .tv_usec = (left % 1000) * 1000};
    timeval next{};
    const timeval* wait = ares_timeout(channel, &most, &next);
    poll(fds.data(), count, static_cast<int>(wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1));
    // Time-outs of queries are looked at by each call, whatever is readable.
    ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (nfds_t i = 0; i < count; ++i) {
      const bool read = (fds[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0;
      const bool write = (fds[i].revents & POLLOUT) != 0;
      ares_process_fd(channel, read ? fds[i].fd : ARES_SOCKET_BAD,
                      write ? fds[i].fd : ARES_SOCKET_BAD);
    }
  }
  return true;
}

StatusOr<Address> Resolve(const std::string& host, uint16_t port, const ProbeContext& context) {
  if (StatusOr<Address> address = ParseIp(host, port); address.ok()) return address;
  ares_channel raw = nullptr;
  if (const int error = StartAres(raw, context); error != ARES_SUCCESS) {
    return Unavailable("cannot start the resolver: {}", ares_strerror(error));
  }
  Answer answer;  // outlives the channel, whose end calls back
  const std::unique_ptr<ares_channeldata, decltype(&ares_destroy)> channel(raw, &ares_destroy);
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  ares_getaddrinfo(raw, host.c_str(), nullptr, &hints, TakeAnswer, &answer);
  if (!DriveAres(raw, context, [&] { return answer.done; })) {
    return DeadlineExceeded("resolving {} took too long", host);
  }
  if (answer.status == ARES_ENOTFOUND || answer.status == ARES_ENODATA) {
    return Unavailable("cannot resolve {}: no such name", host);
  }
  if (!answer.address) {
    return Unavailable("cannot resolve {}: {}", host, ares_strerror(answer.status));
  }
  SetPort(*answer.address, port);
  return *answer.address;
}

StatusOr<Address> ResolveAllowed(const std::string& host, uint16_t port, const Policy& policy,
                                 const ProbeContext& context, Report& report) {
  report.Begin("resolve", "resolving " + host);
  MUSTER_ASSIGN_OR_RETURN(const Address address, Resolve(host, port, context));
  report.Note(fmt::format("{} is {}", host, address.Ip()));
  MUSTER_RETURN_IF_ERROR(policy.AllowAddress(address.get()));
  return address;
}

}  // namespace muster::agent
