// What the programs have in common: how they stop, how they end, that one of them at a time works
// in a folder, and what they leave to the tests.
#pragma once

#include <signal.h>

#include <optional>
#include <string>
#include <utility>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster {

// docs/reference/exit-codes.md: 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict,
// 6 unreachable or timed out, 130 interrupted.
int ExitCode(const Status& status);

// absl's mutexes, gRPC's among them, remember in which order they were taken, and end the process
// at a cycle. In a release build that is off from this call on, and what it costs is saved; every
// other build goes on watching. Call it first thing in main().
void LeaveLockOrderToTests();

// Lets this process open as many descriptors as it is allowed to, and not only as many as it was
// given; how many those are.
size_t RaiseDescriptorLimit();

// SIGTERM and SIGINT, blocked for every thread that starts later; SIGPIPE is ignored. Make it
// before any thread.
class StopSignals {
 public:
  StopSignals();
  // Until one of them comes; its name.
  std::string Wait() const;
  // For so long at most; nothing if none came.
  std::optional<std::string> WaitFor(absl::Duration within) const;

 private:
  sigset_t signals_;
};

// The lock on `folder`/lock, held while the object lives; the kernel lets go of it with the
// process.
class FolderLock {
 public:
  // FailedPrecondition if another process holds it, or the folder cannot be written.
  static StatusOr<FolderLock> Take(const std::string& folder, std::string_view program);
  FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock();

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace muster
