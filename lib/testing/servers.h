// Real servers and programs for tests: started on loopback, ended with the object that started
// them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::testing {

// A folder under TMPDIR that goes with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A TCP port of 127.0.0.1 that nobody listened on a moment ago, below the kernel's ephemeral range,
// and different at each call of this process.
uint16_t FreePort();

// Tries until it holds or 20 s have passed; returns whether it held. The one wait that tests use.
bool Eventually(const std::function<bool()>& holds, absl::Duration within = absl::Seconds(20));
// A pause for tests that watch that something does *not* happen.
void Pause(absl::Duration how_long);

struct ProgramResult {
  int exit_code = -1;  // 128 + signal if a signal ended it
  std::string out;
  std::string err;
};
// Runs a program to its end. `input` becomes its stdin. `environment` holds "NAME=value", added to
// ours.
ProgramResult RunProgram(const std::vector<std::string>& argv, const std::string& input = "",
                         const std::vector<std::string>& environment = {},
                         absl::Duration within = absl::Seconds(60));

// A program that runs until the object goes (SIGTERM, then SIGKILL after 10 s). Its output goes to
// a log.
class ServerProcess {
 public:
  ServerProcess(std::vector<std::string> argv, std::string log_file,
                std::vector<std::string> environment = {}, const std::string& input = "");
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // Sends the signal and waits for the end; the exit code as in ProgramResult.
  int Stop(int signal = 15);
  // The exit code if it has ended by itself, -1 while it runs.
  int ExitCode();
  std::string Log() const;

 private:
  pid_t pid_ = -1;
  int exit_code_ = -1;
  std::string log_file_;
};

// True once something accepts connections on 127.0.0.1:port.
bool WaitForPort(uint16_t port);
// Ends every TCP connection of this process, as a network or a load balancer does: nobody in it
// asked, and its programs see an end of file. How many there were.
size_t CutConnections();

// PostgreSQL 15 from Debian's packages, trust authentication on loopback, superuser "postgres".
// Drops root for the server, as it demands. Empty `dsn` and a message if it cannot start.
class PostgresServer {
 public:
  explicit PostgresServer(const std::vector<std::string>& settings = {});
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  // "host=127.0.0.1 port=N user=postgres dbname=postgres"
  std::string dsn() const;
  uint16_t port() const { return port_; }
  // Runs SQL with psql; the unaligned tuples-only output.
  std::string Sql(const std::string& sql);
  void Stop();
  void Start();

 private:
  TempFolder folder_;
  uint16_t port_;
};

}  // namespace muster::testing
