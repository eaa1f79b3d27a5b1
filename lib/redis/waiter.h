// How a thread that does I/O waits: for a descriptor, until a moment, until somebody wakes it.
#pragma once

#include <poll.h>

#include <atomic>
#include <span>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/net/socket.h"

namespace muster::redis {

// One thread waits; any thread may wake or stop it.
class Waiter {
 public:
  Waiter();

  // The wait that runs, or else the next one, ends now.
  void Wake();
  // Every wait from now on is Cancelled at once.
  void Stop();
  bool stopped() const { return stopped_; }

  // Moments are uptimes of SystemClock(). OK: something is ready, or it was woken. Cancelled;
  // DeadlineExceeded.
  Status Wait(std::span<pollfd> fds, absl::Duration until);
  Status Wait(int fd, short events, absl::Duration until);
  // Until the moment, whatever wakes. False if stopped.
  bool Sleep(absl::Duration until);

 private:
  net::Socket wake_;
  std::atomic<bool> stopped_ = false;
};

}  // namespace muster::redis
