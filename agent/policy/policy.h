// What this host lets the control plane ask for (promise C11). The file belongs to root or to the
// agent's own user, and nobody else may write it. Pure once read; any thread may ask.
//
//   probes: [http, tcp, tls, dns, icmp, postgres, redis, grpc, host, process, file, plugin,
//            wal_archive]  # kinds
//   networks: [127.0.0.0/8, "::1/128", 10.0.0.0/8]   # what probes and backups connect to
//   paths: [/var/backups, /etc/muster/secrets]       # of file probes, file: secrets, backups
//   programs: [/usr/lib/nagios/plugins]              # plugins: a program, or a folder of them
//   env_secrets: [ORDERS_DSN]
//   systemd_credentials: true
//   jobs: [command, backup, restore, forget]         # kinds
//   commands: [/usr/local/bin/report, /opt/jobs]     # what command jobs run: as programs
//   environment: [REPORT_DAY, ORDERS_*]              # variables that jobs may set
//   reports: ["deploy:nightly-*", "postgres:vacuum"] # who may report which jobs: USER:JOB
//
// Without a file: every probe but plugin, loopback and private networks of any address, no
// programs, secrets under /etc/muster/secrets only, no jobs, and reports of root alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/secret.h"
#include "lib/base/status.h"

struct sockaddr;

namespace muster::agent {

struct Network {
  std::string bytes;  // 4 or 16 bytes, network order
  int prefix = 0;
};

class Policy {
 public:
  // The built-in one.
  static Policy Default();
  // InvalidArgument names line and column; PermissionDenied if others may write the file.
  static StatusOr<Policy> Load(const std::string& path);
  static StatusOr<Policy> Parse(std::string_view yaml, std::string_view name);

  // Each answers OK, or PermissionDenied saying what to add to the policy file.
  Status AllowProbe(std::string_view kind) const;
  Status AllowAddress(const sockaddr& address) const;
  // The path is made absolute and free of links and ".." before it is compared.
  Status AllowPath(const std::string& path) const;
  Status AllowProgram(const std::string& path) const;
  Status AllowJob(std::string_view kind) const;
  // The program's true path, free of links: execute that one. Neither it nor a folder that it is in
  // may be writable by others than root and the agent's user, so what was allowed is what runs.
  StatusOr<std::string> AllowCommand(const std::string& path) const;
  // A variable that a job wants to set.
  Status AllowVariable(std::string_view name) const;
  Status AllowSecret(std::string_view reference) const;
  // Whether a run of the job may be reported by that user of the host. Root may report all.
  Status AllowReport(std::string_view user, std::string_view job) const;
  // Whether anybody but root may report anything.
  bool TakesReports() const { return !reports_.empty(); }
  // AllowSecret, then ReadSecretReference.
  StatusOr<Secret> ReadSecret(std::string_view reference) const;

 private:
  Policy() = default;
  std::string name_;
  std::vector<std::string> probes_;
  std::vector<Network> networks_;
  std::vector<std::string> paths_;
  std::vector<std::string> programs_;
  std::vector<std::string> env_secrets_;
  std::vector<std::string> jobs_;
  std::vector<std::string> commands_;
  std::vector<std::string> environment_;  // names, or beginnings with a * behind them
  std::vector<std::string> reports_;      // USER:JOB, or USER: and a beginning with a * behind it
  bool systemd_credentials_ = true;
};

}  // namespace muster::agent
