// The agent as a whole: joins a host to a control plane, or runs until it is told to stop.
#pragma once

#include <memory>
#include <string>

#include "agent/config.h"
#include "lib/base/log.h"
#include "lib/base/status.h"

namespace muster::agent {

struct JoinOptions {
  std::string data;
  std::string server;      // of the enrolment port
  std::string token_file;  // "-": stdin
  bool force = false;      // replace an identity that is there
};
// Trades the token for a certificate and keeps it in the data folder; returns what was done, for
// people.
StatusOr<std::string> Join(const JoinOptions& options);

struct RunOptions {
  std::string data;
  std::string config_file;
  std::string policy_file;
  std::string log_level;
};
// The settings of file and command line together; the command line wins.
StatusOr<Config> ReadSettings(const RunOptions& options);

class App {
 public:
  // FailedPrecondition if another agent works in the folder. Signals must be blocked already.
  static StatusOr<std::unique_ptr<App>> Start(const RunOptions& options, const Config& config);
  virtual ~App() = default;
  // Within about two seconds, or five where runs must be ended: no new result, what was found is in
  // the log, and sent if the control plane is there. False if a probe or a run has not returned:
  // then end the process without waiting for it.
  virtual bool Stop() = 0;
};

}  // namespace muster::agent
