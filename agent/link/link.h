// Keeps the agent's one session with the control plane: connects, replicates the log, takes plans,
// and comes back after every loss, for ever, from one server to another with full jitter.
//
// One thread of its own does all the work; gRPC's reactions only leave what happened in a mailbox.
// Any thread may call. Spool, clock and random must outlive the link; the functions of its
// options are called by its thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/link/client_session.h"
#include "agent/spool/recorder.h"
#include "agent/spool/spool.h"
#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/exec/threads.h"
#include "lib/net/tls.h"

namespace muster::agent {

struct LinkOptions {
  std::vector<std::string> servers;  // host:port, at least one
  // Whether those that the control plane names, at the Welcome or later, take their place.
  bool learn_servers = true;
  net::ClientIdentity identity;
  std::string version;
  std::string boot_id;
  std::string plan_hash;  // of the plan in force; empty without one
  std::map<std::string, std::string> facts;
  // Puts a plan in force. After an error the plan is not counted as held.
  std::function<Status(const v1::Plan&)> on_plan;
  // The runs that are to be on this host's hands, whole; must not block.
  std::function<void(const v1::Assignments&)> on_assignments;
  // The control plane's time at this moment, at the begin of a session.
  std::function<void(absl::Time)> on_server_time;
  // The control plane wants the certificate renewed.
  std::function<void()> on_renew;
  // The control plane named other servers than before.
  std::function<void(const std::vector<std::string>&)> on_servers;
  Backoff backoff;
  // After a drain: longer where there is no other server to go to.
  absl::Duration drain_jitter = absl::Seconds(10);
  absl::Duration drain_jitter_elsewhere = absl::Seconds(2);
  absl::Duration write_within = absl::Seconds(30);
  // The checkpoint of the audit chain that is held, and a further one that came.
  std::function<std::optional<v1::Checkpoint>()> witnessed;
  std::function<void(const v1::Checkpoint&)> on_checkpoint;
  // How a channel is opened; net::OpenChannel unless a test says otherwise.
  std::function<std::shared_ptr<grpc::Channel>(const std::string&, const net::ClientIdentity&)>
      open;
};

struct LinkCounts {
  bool connected = false;  // welcomed, and not lost since
  uint64_t sessions = 0;
  uint64_t batches = 0;
  std::string server;
};

class Link {
 public:
  Link(Spool& spool, const Clock& clock, Random& random, LinkOptions options);
  // As Stop without patience.
  ~Link();

  // The log has grown.
  void Notify(Urgency urgency);
  // A renewed certificate: the session is begun anew with it.
  void Replace(net::ClientIdentity identity, std::vector<std::string> servers);
  // Sends what is there and waits at most `flush_for` for its acknowledgement, then ends.
  void Stop(absl::Duration flush_for);
  LinkCounts counts() const;
  // The servers and the identity in use.
  std::vector<std::string> servers() const;

 private:
  class Stream;
  struct Mailbox;
  struct Ending;
  class Session;

  void Work();
  bool Rest(absl::Duration delay);
  Ending RunSession(const std::string& server);
  absl::Duration RestAfter(const Ending& ending, uint32_t rounds_in_vain);

  Spool& spool_;
  const Clock& clock_;
  Random& random_;
  const LinkOptions options_;

  const std::unique_ptr<Mailbox> mailbox_;
  // Owned by the link's thread.
  std::string plan_hash_;
  exec::Thread thread_;
};

}  // namespace muster::agent
