// A program started as a process of its own: an argument vector and no shell, exactly the
// environment that is given, no open files of ours, no signals blocked or ignored, and a session
// and process group of its own, so that it can be ended with what it started.
//
// Of one thread at a time. The number of the process is not given away before Reap or the
// destructor: until then Signal reaches no stranger.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/exec/confine.h"

namespace muster::exec {

// A file descriptor, closed with the object.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { Close(); }
  Fd(Fd&& other) noexcept;
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_;
};

struct ProgramSpec {
  // The program by its path, and its arguments.
  std::vector<std::string> argv;
  // What is executed, where that is not argv[0].
  std::string file;
  // "NAME=value", all of it.
  std::vector<std::string> environment;
  std::string directory = "/";
  // Its stdin, stdout and stderr; borrowed until Start returns. -1: /dev/null, and a pipe to us.
  int in = -1;
  int out = -1;
  int err = -1;
  // What it may do, where that is less than its user may.
  std::optional<Confinement> confinement;
};

struct ProgramStatus {
  int exit_code = -1;  // -1 if a signal ended it
  int signal = 0;
};

// Where programs are looked for: PATH=…
std::string_view ProgramPath();

class Program {
 public:
  // NotFound, PermissionDenied or Unavailable say why it cannot be started, and name the file.
  static StatusOr<Program> Start(const ProgramSpec& spec);
  Program(Program&&) = default;
  Program& operator=(Program&&) = delete;
  // Ends the group with SIGKILL, and waits.
  ~Program();

  // Also the number of its process group and of its session.
  pid_t pid() const { return pid_; }
  // Readable for poll once the process has ended.
  int pidfd() const { return pidfd_.get(); }
  // What it writes, not blocking; closed after the end of the pipe.
  Fd& out() { return out_; }
  Fd& err() { return err_; }
  // Whether the process itself has ended: it may have left others in its group.
  bool HasEnded() const;
  // To the whole group.
  void Signal(int signal) const;
  // Ends with SIGKILL what is left of the group, and waits for the process.
  ProgramStatus Reap();

 private:
  // The process's number, once.
  class Pid {
   public:
    explicit Pid(pid_t pid) : pid_(pid) {}
    Pid(Pid&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
    Pid& operator=(Pid&&) = delete;
    operator pid_t() const { return pid_; }
    void Clear() { pid_ = -1; }

   private:
    pid_t pid_;
  };
  Program(pid_t pid, Fd out, Fd err);

  Pid pid_;
  Fd pidfd_;
  Fd out_;
  Fd err_;
};

// Reads what is there, at most `most` bytes, and gives it to `take`. Closes the descriptor at the
// end of the pipe. False once nothing more is there for now.
bool ReadSome(Fd& fd, size_t most, const std::function<void(std::string_view)>& take);

}  // namespace muster::exec
