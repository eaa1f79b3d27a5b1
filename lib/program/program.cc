#include "lib/program/program.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <absl/synchronization/mutex.h>

namespace muster {
namespace {

const char* NameOf(int signal) { return signal == SIGINT ? "SIGINT" : "SIGTERM"; }

}  // namespace

int ExitCode(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return 0;
    case absl::StatusCode::kInvalidArgument: return 2;
    case absl::StatusCode::kNotFound: return 3;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated: return 4;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted: return 5;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded: return 6;
    case absl::StatusCode::kCancelled: return 130;
    default: return 1;
  }
}

void LeaveLockOrderToTests() {
#ifdef MUSTER_RELEASE
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
}

size_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlimit raised = limit;
  raised.rlim_cur = raised.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

std::string StopSignals::Wait() const {
  int signal = 0;
  sigwait(&signals_, &signal);
  return NameOf(signal);
}

std::optional<std::string> StopSignals::WaitFor(absl::Duration within) const {
  const timespec time = absl::ToTimespec(within);
  const int signal = sigtimedwait(&signals_, nullptr, &time);
  if (signal < 0) return std::nullopt;
  return NameOf(signal);
}

StatusOr<FolderLock> FolderLock::Take(const std::string& folder, std::string_view program) {
  const std::string path = folder + "/lock";
  FolderLock lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.fd_ < 0) {
    return FailedPrecondition("{}: {}; is it the data folder of {}?", path, std::strerror(errno),
                              program);
  }
  if (flock(lock.fd_, LOCK_EX | LOCK_NB) == 0) return lock;
  return FailedPrecondition("another {} works in {}; stop it, or use another folder", program,
                            folder);
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace muster
