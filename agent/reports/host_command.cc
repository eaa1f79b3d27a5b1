#include "agent/reports/host_command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

namespace muster::agent {
namespace {

constexpr std::array kPassedOn = {SIGTERM, SIGINT, SIGHUP};
// What is read at the end, at most: who goes on writing is not waited for.
constexpr int kLastPieces = 64;
// Between looks at a command where the kernel cannot say when it ends.
constexpr int kLookEveryMs = 50;

// As kill() takes it; 0: nobody.
volatile sig_atomic_t target = 0;
// A signal of the terminal has reached the command by itself.
volatile sig_atomic_t shares_terminal = 0;

void PassSignalOn(int signal, siginfo_t* info, void*) {
  const int saved = errno;
  const bool has_it = shares_terminal != 0 && info->si_code == SI_KERNEL;
  if (target != 0 && !has_it) kill(static_cast<pid_t>(target), signal);
  errno = saved;
}

sigset_t PassedOn() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kPassedOn) sigaddset(&set, signal);
  return set;
}

// What the caller has ignored stays ignored, for the command as well.
void TakeSignals() {
  for (const int signal : kPassedOn) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_sigaction = PassSignalOn;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    action.sa_mask = PassedOn();
    sigaction(signal, &action, nullptr);
  }
}

bool SameFile(int a, int b) {
  struct stat one {};
  struct stat other {};
  return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote >= 0) {
      bytes.remove_prefix(static_cast<size_t>(wrote));
    } else if (errno == EAGAIN) {
      pollfd room{fd, POLLOUT, 0};
      poll(&room, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

int HostCommand::Start(const std::vector<std::string>& argv, Output output) {
  if (output == Output::kReadToo) OpenWays();
  std::array<int, 2> problem{};
  if (pipe2(problem.data(), O_CLOEXEC) != 0) return errno;
  exec::Fd problem_read(problem[0]);
  exec::Fd problem_write(problem[1]);
  own_group_ = !(isatty(0) != 0 && tcgetpgrp(0) == getpgrp());
  const sigset_t passed_on = PassedOn();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &passed_on, &before);
  struct sigaction default_action {};
  default_action.sa_handler = SIG_DFL;
  struct sigaction childs_before {};
  sigaction(SIGCHLD, &default_action, &childs_before);  // ignored, nobody could wait for it
  pid_ = fork();
  if (pid_ == 0) {
    sigaction(SIGCHLD, &childs_before, nullptr);
    if (own_group_) setpgid(0, 0);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    BeChild(argv, problem_write.get());
  }
  const int failed = pid_ < 0 ? errno : 0;
  if (failed == 0) {
    if (own_group_) setpgid(pid_, pid_);
    target = own_group_ ? -pid_ : pid_;
    shares_terminal = own_group_ ? 0 : 1;
    TakeSignals();
    signal(SIGPIPE, SIG_IGN);
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (failed != 0) return failed;
  childs_ends_.clear();
  problem_write.Close();
  int reason = 0;
  ssize_t got = 0;
  do got = read(problem_read.get(), &reason, sizeof reason);
  while (got < 0 && errno == EINTR);
  if (got == sizeof reason) {
    target = 0;
    ways_.clear();
    waitpid(pid_, nullptr, 0);
    return reason;
  }
  ended_ = exec::Fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  return 0;
}

// Where there can be no pipe its output goes past us.
void HostCommand::OpenWays() {
  std::vector<std::pair<v1::RunOutput::Stream, int>> wanted = {
      {v1::RunOutput::STREAM_STDOUT, STDOUT_FILENO}};
  one_way_ = SameFile(STDOUT_FILENO, STDERR_FILENO);
  if (!one_way_) wanted.emplace_back(v1::RunOutput::STREAM_STDERR, STDERR_FILENO);
  for (const auto& [stream, to] : wanted) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) continue;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ways_.push_back({stream, to, exec::Fd(ends[0])});
    childs_ends_.emplace_back(ends[1]);
  }
}

// Between fork and exec.
void HostCommand::BeChild(const std::vector<std::string>& argv, int problem) {
  for (size_t i = 0; i < ways_.size(); ++i) {
    dup2(childs_ends_[i].get(), ways_[i].to);
    if (one_way_) dup2(childs_ends_[i].get(), STDERR_FILENO);
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  const int reason = errno;
  [[maybe_unused]] const ssize_t wrote = write(problem, &reason, sizeof reason);
  _exit(127);
}

bool HostCommand::HasEnded() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

int HostCommand::Wait(const Sink& sink) {
  while (!HasEnded()) {
    std::vector<pollfd> waits = {{ended_.get(), POLLIN, 0}};
    for (const Way& way : ways_) waits.push_back({way.from.get(), POLLIN, 0});
    poll(waits.data(), waits.size(), ended_.open() ? -1 : kLookEveryMs);
    for (Way& way : ways_) PassOn(way, sink);
  }
  for (Way& way : ways_)
    for (int i = 0; i < kLastPieces && PassOn(way, sink); ++i) continue;
  // From here on the number may be another's.
  const sigset_t passed_on = PassedOn();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &passed_on, &before);
  target = 0;
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return status;
}

bool HostCommand::PassOn(Way& way, const Sink& sink) {
  if (!way.from.open()) return false;
  const ssize_t got = read(way.from.get(), piece_.data(), piece_.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  const std::string_view bytes(piece_.data(), got > 0 ? static_cast<size_t>(got) : 0);
  if (!bytes.empty()) sink(way.stream, bytes);
  // Where nobody takes it the command finds its pipe broken, as it would have without us.
  if (bytes.empty() || !WriteAll(way.to, bytes)) way.from.Close();
  return way.from.open();
}

bool HostCommand::AnyOpen() const {
  return std::any_of(ways_.begin(), ways_.end(), [](const Way& way) { return way.from.open(); });
}

void HostCommand::LeaveOutput() {
  if (!AnyOpen() || fork() != 0) return;
  for (const int signal : kPassedOn) std::signal(signal, SIG_DFL);
  while (AnyOpen()) {
    std::array<pollfd, 2> waits = {{{-1, POLLIN, 0}, {-1, POLLIN, 0}}};
    for (size_t i = 0; i < ways_.size(); ++i) waits[i].fd = ways_[i].from.get();
    poll(waits.data(), waits.size(), -1);
    for (Way& way : ways_) PassOn(way, [](v1::RunOutput::Stream, std::string_view) {});
  }
  _exit(0);
}

}  // namespace muster::agent
