#include "lib/testing/servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <absl/time/clock.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"

extern char** environ;

namespace muster::testing {
namespace {

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

Pipe MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
  return {ends[0], ends[1]};
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) all.emplace_back(*entry);
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

// Forks and execs; the three fds become stdin, stdout and stderr.
pid_t Spawn(std::vector<std::string> argv, const std::vector<std::string>& added, int in, int out,
            int err) {
  std::vector<std::string> environment = Environment(added);
  std::vector<char*> arguments = Pointers(argv);
  std::vector<char*> variables = Pointers(environment);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  setpgid(0, 0);
  execvpe(arguments[0], arguments.data(), variables.data());
  _exit(127);
}

int ExitCodeOf(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Reads both pipes to their ends, feeding `input` meanwhile; false if time ran out.
bool Pump(Pipe in, Pipe out, Pipe err, std::string_view input, ProgramResult& result,
          absl::Duration within) {
  const absl::Duration deadline = SystemClock().Uptime() + within;
  fcntl(in.write_end, F_SETFL, O_NONBLOCK);
  bool out_open = true;
  bool err_open = true;
  bool in_open = true;
  while (out_open || err_open) {
    if (input.empty() && in_open) {
      close(in.write_end);
      in_open = false;
    }
    pollfd fds[3] = {{out_open ? out.read_end : -1, POLLIN, 0},
                     {err_open ? err.read_end : -1, POLLIN, 0},
                     {in_open ? in.write_end : -1, POLLOUT, 0}};
    poll(fds, 3, 100);
    if (SystemClock().Uptime() > deadline) break;
    char buffer[65536];
    const auto drain = [&](const pollfd& fd, bool& open, std::string& into) {
      if (fd.revents == 0) return;
      const ssize_t got = read(fd.fd, buffer, sizeof buffer);
      if (got > 0) into.append(buffer, static_cast<size_t>(got));
      if (got == 0) open = false;
    };
    drain(fds[0], out_open, result.out);
    drain(fds[1], err_open, result.err);
    if (fds[2].revents != 0) {
      const ssize_t wrote = write(in.write_end, input.data(), input.size());
      input.remove_prefix(wrote > 0 ? static_cast<size_t>(wrote)
                                    : (errno == EAGAIN ? 0 : input.size()));
    }
  }
  if (in_open) close(in.write_end);
  return !out_open && !err_open;
}

}  // namespace

TempFolder::TempFolder() {
  const char* root = std::getenv("TMPDIR");
  std::string made = std::string(root != nullptr ? root : "/tmp") + "/muster-test-XXXXXX";
  if (mkdtemp(made.data()) == nullptr) std::abort();
  path_ = made;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

uint16_t FreePort() {
  // Processes start at different places, so that tests that run side by side rarely meet.
  static std::atomic<uint32_t> next{static_cast<uint32_t>(getpid()) * 61U};
  while (true) {
    const auto port = static_cast<uint16_t>(10'000 + next.fetch_add(1) % 20'000);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool free = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    if (free) return port;
  }
}

bool Eventually(const std::function<bool()>& holds, absl::Duration within) {
  const absl::Duration deadline = SystemClock().Uptime() + within;
  absl::Duration pause = absl::Milliseconds(2);
  while (true) {
    if (holds()) return true;
    if (SystemClock().Uptime() > deadline) return false;
    Pause(pause);
    pause = std::min(pause * 2, absl::Milliseconds(50));
  }
}

void Pause(absl::Duration how_long) { absl::SleepFor(how_long); }

ProgramResult RunProgram(const std::vector<std::string>& argv, const std::string& input,
                         const std::vector<std::string>& environment, absl::Duration within) {
  const Pipe in = MakePipe();
  const Pipe out = MakePipe();
  const Pipe err = MakePipe();
  signal(SIGPIPE, SIG_IGN);
  const pid_t pid = Spawn(argv, environment, in.read_end, out.write_end, err.write_end);
  close(in.read_end);
  close(out.write_end);
  close(err.write_end);
  ProgramResult result;
  if (!Pump(in, out, err, input, result, within)) {
    result.err += "\n[ended by the test: it ran for too long]";
    kill(-pid, SIGKILL);
  }
  close(out.read_end);
  close(err.read_end);
  int status = 0;
  waitpid(pid, &status, 0);
  result.exit_code = ExitCodeOf(status);
  return result;
}

ServerProcess::ServerProcess(std::vector<std::string> argv, std::string log_file,
                             std::vector<std::string> environment, const std::string& input)
    : log_file_(std::move(log_file)) {
  const int log = open(log_file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const Pipe in = MakePipe();
  if (!input.empty() && write(in.write_end, input.data(), input.size()) < 0) std::abort();
  close(in.write_end);
  pid_ = Spawn(std::move(argv), environment, in.read_end, log, log);
  close(in.read_end);
  close(log);
}

ServerProcess::~ServerProcess() { Stop(); }

void ServerProcess::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

int ServerProcess::ExitCode() {
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
    exit_code_ = ExitCodeOf(status);
    pid_ = -1;
  }
  return exit_code_;
}

int ServerProcess::Stop(int signal) {
  if (pid_ <= 0) return exit_code_;
  kill(pid_, signal);
  if (!Eventually([&] { return ExitCode() >= 0; }, absl::Seconds(10))) {
    kill(pid_, SIGKILL);
    Eventually([&] { return ExitCode() >= 0; }, absl::Seconds(10));
  }
  return exit_code_;
}

std::string ServerProcess::Log() const { return ReadFile(log_file_).value_or(""); }

bool WaitForPort(uint16_t port) {
  return Eventually([&] {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool open = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    return open;
  });
}

size_t CutConnections() {
  const auto is_connection = [](int fd) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    return getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
           (peer.ss_family == AF_INET || peer.ss_family == AF_INET6);
  };
  size_t cut = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (is_connection(fd) && shutdown(fd, SHUT_RDWR) == 0) ++cut;
  }
  return cut;
}

namespace {

constexpr char kPostgresBin[] = "/usr/lib/postgresql/15/bin/";

// The server refuses to run as root: its programs then run as Debian's user "postgres".
std::vector<std::string> AsServerUser(std::vector<std::string> argv) {
  if (geteuid() == 0)
    argv.insert(argv.begin(),
                {"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"});
  return argv;
}

}  // namespace

PostgresServer::PostgresServer(const std::vector<std::string>& settings) : port_(FreePort()) {
  if (const passwd* user = getpwnam("postgres"); geteuid() == 0 && user != nullptr) {
    if (chown(folder_.path().c_str(), user->pw_uid, user->pw_gid) != 0) std::abort();
  }
  const std::string data = folder_.File("data");
  const ProgramResult made =
      RunProgram(AsServerUser({std::string(kPostgresBin) + "initdb", "-D", data, "-A", "trust",
                               "-U", "postgres", "--no-sync", "-E", "UTF8"}));
  if (made.exit_code != 0) {
    std::fprintf(stderr, "initdb: %s\n", made.err.c_str());
    return;
  }
  std::string config = fmt::format(
      "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n"
      "shared_buffers = 16MB\nmax_connections = 30\n",
      port_, folder_.path());
  for (const std::string& setting : settings) config += setting + "\n";
  const std::string path = data + "/postgresql.auto.conf";
  if (FILE* file = std::fopen(path.c_str(), "w"); file != nullptr) {
    std::fputs(config.c_str(), file);
    std::fclose(file);
  }
  Start();
}

PostgresServer::~PostgresServer() { Stop(); }

void PostgresServer::Start() {
  const ProgramResult started =
      RunProgram(AsServerUser({std::string(kPostgresBin) + "pg_ctl", "-D", folder_.File("data"),
                               "-l", folder_.File("log"), "-w", "start"}));
  if (started.exit_code != 0)
    std::fprintf(stderr, "pg_ctl: %s%s\n", started.out.c_str(), started.err.c_str());
}

void PostgresServer::Stop() {
  RunProgram(AsServerUser({std::string(kPostgresBin) + "pg_ctl", "-D", folder_.File("data"), "-m",
                           "immediate", "-w", "stop"}));
}

std::string PostgresServer::dsn() const {
  return fmt::format("host=127.0.0.1 port={} user=postgres dbname=postgres", port_);
}

std::string PostgresServer::Sql(const std::string& sql) {
  const ProgramResult ran =
      RunProgram({"psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", dsn(), "-c", sql});
  if (ran.exit_code != 0) std::fprintf(stderr, "psql: %s\n", ran.err.c_str());
  return ran.out;
}

}  // namespace muster::testing
