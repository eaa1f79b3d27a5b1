#include "lib/redis/waiter.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "lib/base/clock.h"

namespace muster::redis {

Waiter::Waiter() : wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (wake_.fd() < 0) std::abort();
}

void Waiter::Wake() {
  const uint64_t one = 1;
  // It fails only while it is awake 2^64 times over.
  [[maybe_unused]] const ssize_t wrote = write(wake_.fd(), &one, sizeof one);
}

void Waiter::Stop() {
  stopped_ = true;
  Wake();
}

Status Waiter::Wait(std::span<pollfd> fds, absl::Duration until) {
  std::vector<pollfd> all(fds.begin(), fds.end());
  all.push_back({.fd = wake_.fd(), .events = POLLIN, .revents = 0});
  while (!stopped_) {
    const absl::Duration left = until - SystemClock().Uptime();
    const timespec timeout = absl::ToTimespec(std::max(left, absl::ZeroDuration()));
    const int ready = ppoll(all.data(), all.size(), &timeout, nullptr);
    if (ready == 0 && left <= absl::ZeroDuration()) return DeadlineExceeded("it took too long");
    if (ready <= 0) continue;
    for (size_t i = 0; i < fds.size(); ++i) fds[i].revents = all[i].revents;
    if (all.back().revents != 0) {
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = read(wake_.fd(), &count, sizeof count);
    }
    if (!stopped_) return OkStatus();
  }
  return absl::CancelledError("it is being stopped");
}

Status Waiter::Wait(int fd, short events, absl::Duration until) {
  pollfd one{.fd = fd, .events = events, .revents = 0};
  return Wait({&one, 1}, until);
}

bool Waiter::Sleep(absl::Duration until) {
  while (Wait({}, until).ok()) {
  }
  return !stopped_;
}

}  // namespace muster::redis
