#include "agent/probes/run_program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/probes/report.h"

namespace muster::agent {
namespace {

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { Close(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  void Set(int fd) {
    Close();
    fd_ = fd;
  }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct Pipe {
  Fd read;
  Fd write;
  Status Open() {
    std::array<int, 2> fds{};
    if (pipe2(fds.data(), O_CLOEXEC) != 0) return Unavailable("pipe: {}", std::strerror(errno));
    read.Set(fds[0]);
    write.Set(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    return OkStatus();
  }
};

StatusOr<pid_t> Spawn(const std::vector<std::string>& argv, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawn_file_actions_addchdir_np(&actions, "/");
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);

  std::vector<char*> arguments;
  for (const std::string& text : argv) arguments.push_back(const_cast<char*>(text.c_str()));
  arguments.push_back(nullptr);
  std::string path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  std::string language = "LC_ALL=C.UTF-8";
  std::array<char*, 3> environment = {path.data(), language.data(), nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, argv[0].c_str(), &actions, &attributes, arguments.data(),
                                environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) return NotFound("there is no program {}", argv[0]);
  if (error == EACCES) return PermissionDenied("{} may not be executed by this user", argv[0]);
  if (error != 0) return Unavailable("cannot start {}: {}", argv[0], std::strerror(error));
  return pid;
}

// Reads what is there. Closes at the end of the pipe.
void Drain(Fd& fd, std::string& text, bool& cut, size_t most) {
  std::array<char, 4096> buffer{};
  while (fd.get() >= 0) {
    const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      fd.Close();
      return;
    }
    const size_t kept = std::min(static_cast<size_t>(count), most - std::min(most, text.size()));
    text.append(buffer.data(), kept);
    if (kept < static_cast<size_t>(count)) {
      cut = true;
      return;  // a program that never stops talking must not keep us from the clock
    }
  }
}

// Until the process has ended (not yet reaped) or the deadline; whether it has ended.
bool Listen(int pidfd, Fd& out, Fd& err, ProgramEnd& end, const ProbeContext& context,
            size_t most) {
  while (true) {
    const int left = LeftMilliseconds(context);
    std::array<pollfd, 3> fds = {pollfd{pidfd, POLLIN, 0}, pollfd{out.get(), POLLIN, 0},
                                 pollfd{err.get(), POLLIN, 0}};
    const int ready = poll(fds.data(), fds.size(), left);
    Drain(out, end.output, end.cut, most);
    Drain(err, end.errors, end.cut, most);
    if (ready > 0 && fds[0].revents != 0) return true;
    if (left == 0) return false;
  }
}

// The group is signalled before its leader is reaped: until then its number is not given away.
int EndGroup(pid_t pid, int pidfd, bool ended, absl::Duration grace) {
  if (!ended) {
    kill(-pid, SIGTERM);
    pollfd fd{pidfd, POLLIN, 0};
    while (poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(grace))) < 0 && errno == EINTR) {
    }
  }
  kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

StatusOr<ProgramEnd> RunToEnd(const std::vector<std::string>& argv, const ProbeContext& context,
                              const ProgramOptions& options) {
  if (argv.empty()) return InvalidArgument("no program is named");
  Pipe out;
  Pipe err;
  MUSTER_RETURN_IF_ERROR(out.Open());
  MUSTER_RETURN_IF_ERROR(err.Open());
  MUSTER_ASSIGN_OR_RETURN(const pid_t pid, Spawn(argv, out.write.get(), err.write.get()));
  out.write.Close();
  err.write.Close();
  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  ProgramEnd end;
  const bool ended = pidfd.get() >= 0 &&
                     Listen(pidfd.get(), out.read, err.read, end, context, options.most_output);
  const int status = EndGroup(pid, pidfd.get(), ended, options.grace);
  Drain(out.read, end.output, end.cut, options.most_output);
  Drain(err.read, end.errors, end.cut, options.most_output);
  end.timed_out = !ended;
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  return end;
}

}  // namespace muster::agent
