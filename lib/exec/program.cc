#include "lib/exec/program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/exec/threads.h"

namespace muster::exec {
namespace {

constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Pipe {
  Fd read;
  Fd write;
  Status Open() {
    std::array<int, 2> fds{};
    if (pipe2(fds.data(), O_CLOEXEC) != 0) return Unavailable("pipe: {}", std::strerror(errno));
    read = Fd(fds[0]);
    write = Fd(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    return OkStatus();
  }
};

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What the new process does before it is the program.
class SpawnActions {
 public:
  SpawnActions(int in, int out, int err, const std::string& directory) {
    posix_spawn_file_actions_init(&actions_);
    if (in < 0) {
      posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    } else {
      posix_spawn_file_actions_adddup2(&actions_, in, 0);
    }
    posix_spawn_file_actions_adddup2(&actions_, out, 1);
    posix_spawn_file_actions_adddup2(&actions_, err, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
    posix_spawn_file_actions_addchdir_np(&actions_, directory.c_str());
  }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class SpawnAttributes {
 public:
  SpawnAttributes() {
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
  }
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

bool IsFolder(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

Status WhyNot(const std::string& file, const std::string& directory, int error) {
  if (!IsFolder(directory)) return NotFound("there is no folder {} to run {} in", directory, file);
  if (error == ENOENT && access(file.c_str(), F_OK) == 0) {
    return NotFound("{} cannot be started: its interpreter is missing", file);
  }
  if (error == ENOENT) {
    return NotFound("{} cannot be started: No such file or directory", file);
  }
  if (error == EACCES) return PermissionDenied("{} may not be executed by this user", file);
  return Unavailable("{} cannot be started: {}", file, std::strerror(error));
}

StatusOr<pid_t> Spawn(const ProgramSpec& spec, int out, int err) {
  const std::string& file = spec.file.empty() ? spec.argv[0] : spec.file;
  const SpawnActions actions(spec.in, spec.out >= 0 ? spec.out : out,
                             spec.err >= 0 ? spec.err : err, spec.directory);
  const SpawnAttributes attributes;
  pid_t pid = -1;
  const int error = posix_spawn(&pid, file.c_str(), actions.get(), attributes.get(),
                                Pointers(spec.argv).data(), Pointers(spec.environment).data());
  if (error != 0) return WhyNot(file, spec.directory, error);
  return pid;
}

// A process may do what the thread may that starts it, and what was taken from a thread does not
// come back: it is one for this process alone.
StatusOr<pid_t> SpawnConfined(const ProgramSpec& spec, int out, int err) {
  StatusOr<pid_t> pid = -1;
  Thread("confined", [&] {
    const Status confined = ConfineThread(*spec.confinement);
    pid = confined.ok() ? Spawn(spec, out, err) : confined;
  }).Join();
  return pid;
}

}  // namespace

Fd::Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this == &other) return *this;
  Close();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

void Fd::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

std::string_view ProgramPath() { return kPath; }

Program::Program(pid_t pid, Fd out, Fd err)
    : pid_(pid),
      pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))),
      out_(std::move(out)),
      err_(std::move(err)) {}

StatusOr<Program> Program::Start(const ProgramSpec& spec) {
  if (spec.argv.empty()) return InvalidArgument("no program is named");
  Pipe out;
  Pipe err;
  if (spec.out < 0) MUSTER_RETURN_IF_ERROR(out.Open());
  if (spec.err < 0) MUSTER_RETURN_IF_ERROR(err.Open());
  const auto spawn = spec.confinement ? SpawnConfined : Spawn;
  MUSTER_ASSIGN_OR_RETURN(const pid_t pid, spawn(spec, out.write.get(), err.write.get()));
  Program program(pid, std::move(out.read), std::move(err.read));
  if (!program.pidfd_.open()) return Unavailable("pidfd_open: {}", std::strerror(errno));
  return program;
}

Program::~Program() {
  if (pid_ > 0) (void)Reap();
}

bool Program::HasEnded() const {
  pollfd fd{pidfd_.get(), POLLIN, 0};
  return poll(&fd, 1, 0) == 1;
}

void Program::Signal(int signal) const {
  if (pid_ > 0) kill(-pid_, signal);
}

ProgramStatus Program::Reap() {
  Signal(SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_.Clear();
  ProgramStatus result;
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

bool ReadSome(Fd& fd, size_t most, const std::function<void(std::string_view)>& take) {
  std::array<char, 16384> buffer{};
  while (fd.open() && most > 0) {
    const ssize_t count = read(fd.get(), buffer.data(), std::min(buffer.size(), most));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return false;
    if (count <= 0) {
      fd.Close();
      return false;
    }
    take({buffer.data(), static_cast<size_t>(count)});
    most -= static_cast<size_t>(count);
  }
  return fd.open();
}

}  // namespace muster::exec
