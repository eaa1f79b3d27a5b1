#include "lib/redis/resolve.h"

#include <ares.h>

#include <array>
#include <cstring>
#include <memory>

#include "lib/base/clock.h"

namespace muster::redis {
namespace {

constexpr absl::Duration kOneTry = absl::Milliseconds(700);
constexpr int kTries = 3;

struct Freer {
  void operator()(ares_channeldata* channel) const { ares_destroy(channel); }
};
using Channel = std::unique_ptr<ares_channeldata, Freer>;

struct Answer {
  bool done = false;
  int status = ARES_SUCCESS;
  std::vector<Endpoint> endpoints;
};

void TakeAnswer(void* arg, int status, int, ares_addrinfo* found) {
  Answer& answer = *static_cast<Answer*>(arg);
  answer.done = true;
  answer.status = status;
  if (found == nullptr) return;
  for (const ares_addrinfo_node* node = found->nodes; node != nullptr; node = node->ai_next) {
    Endpoint endpoint;
    if (node->ai_addrlen > sizeof endpoint.storage) continue;
    endpoint.size = node->ai_addrlen;
    std::memcpy(&endpoint.storage, node->ai_addr, endpoint.size);
    answer.endpoints.push_back(endpoint);
  }
  ares_freeaddrinfo(found);
}

Channel OpenChannel() {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  ares_options options{};
  options.timeout = static_cast<int>(absl::ToInt64Milliseconds(kOneTry));
  options.tries = kTries;
  ares_channel raw = nullptr;
  if (library == ARES_SUCCESS)
    ares_init_options(&raw, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
  return Channel(raw);
}

// One wait for the resolver's sockets and its own time-outs.
Status Turn(ares_channeldata* channel, Waiter& waiter, absl::Duration until) {
  std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
  const auto mask =
      static_cast<unsigned>(ares_getsock(channel, sockets.data(), ARES_GETSOCK_MAXNUM));
  std::vector<pollfd> fds;
  for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
    const bool read = ARES_GETSOCK_READABLE(mask, i) != 0;
    const bool write = ARES_GETSOCK_WRITABLE(mask, i) != 0;
    const auto events = static_cast<short>((read ? POLLIN : 0) | (write ? POLLOUT : 0));
    if (events != 0) fds.push_back({.fd = sockets[i], .events = events, .revents = 0});
  }
  const absl::Duration now = SystemClock().Uptime();
  timeval most = absl::ToTimeval(std::max(until - now, absl::ZeroDuration()));
  timeval next{};
  const absl::Duration wait = absl::DurationFromTimeval(*ares_timeout(channel, &most, &next));
  const Status waited = waiter.Wait(fds, std::min(until, now + wait));
  // Time-outs of queries are looked at by each call, whatever is readable.
  ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  for (const pollfd& fd : fds) {
    const bool read = (fd.revents & (POLLIN | POLLERR | POLLHUP)) != 0;
    const bool write = (fd.revents & POLLOUT) != 0;
    ares_process_fd(channel, read ? fd.fd : ARES_SOCKET_BAD, write ? fd.fd : ARES_SOCKET_BAD);
  }
  if (absl::IsDeadlineExceeded(waited) && SystemClock().Uptime() < until) return OkStatus();
  return waited;
}

}  // namespace

StatusOr<std::vector<Endpoint>> Resolve(const std::string& host, uint16_t port, Waiter& waiter,
                                        absl::Duration until) {
  Answer answer;
  const Channel channel = OpenChannel();
  if (channel == nullptr) return Unavailable("cannot resolve {}: no resolver on this host", host);
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = ARES_AI_NUMERICSERV;
  ares_getaddrinfo(channel.get(), host.c_str(), fmt::format("{}", port).c_str(), &hints,
                   &TakeAnswer, &answer);
  while (!answer.done) {
    MUSTER_RETURN_IF_ERROR(
        Annotate(Turn(channel.get(), waiter, until), fmt::format("cannot resolve {}", host)));
  }
  if (answer.status != ARES_SUCCESS)
    return Unavailable("cannot resolve {}: {}", host, ares_strerror(answer.status));
  if (answer.endpoints.empty()) return Unavailable("{} has no address", host);
  return std::move(answer.endpoints);
}

}  // namespace muster::redis
