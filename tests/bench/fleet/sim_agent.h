// One simulated agent: a certificate, a channel of its own, a log in memory and checks that probe
// nothing. It speaks as an agent does, by the agent's own session machine, and comes back after
// every loss as agent/link does: to the next server, with full jitter, or where a Drain sends it.
//
//            connect                Welcome
//   resting ────────► opening ───────────────► streaming
//      ▲                 │ ended, drained, cut     │
//      │     OnDone      ▼                         ▼
//      └────────────── closing ◄───────────────────┘
//
// gRPC's reactions and the wheel's thread meet under one lock an agent.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/decide/server_choice.h"
#include "agent/link/client_session.h"
#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/exec/threads.h"
#include "lib/net/tls.h"
#include "muster/v1/agent_link.grpc.pb.h"
#include "tests/bench/fleet/agent_log.h"
#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/journal.h"
#include "tests/bench/fleet/schedule.h"
#include "tests/bench/fleet/wheel.h"

namespace muster::bench {

// What all agents of a fleet share; outlives them.
struct Shared {
  std::vector<std::string> servers;
  FailureOptions failures;
  size_t log_bound = 50'000;  // records an agent keeps
  Backoff backoff;
  absl::Duration drain_jitter = absl::Seconds(10);
  absl::Duration drain_jitter_elsewhere = absl::Seconds(2);
  bool learn_servers = true;  // those that a Welcome names
  bool renew = true;          // certificates, at half of their life
  // That dial at once; the others wait for their turn. What thousands of agents do on thousands of
  // hosts, this process does on one: beyond some hundred it makes nothing but attempts that end by
  // their time, which takes the time of the next ones.
  size_t most_dialling = 500;

  const Clock& clock;
  Random& random;
  PlanBook plans;
  Figures figures;
  std::unique_ptr<Journal> journal;  // may be none
  std::atomic<uint32_t> logs = 0;    // numbers given out in the journal
  std::atomic<bool> finding = true;  // results
  std::atomic<size_t> dialling = 0;
  // When the specs were changed, by Clock::Uptime in microseconds.
  std::atomic<int64_t> changed_at = 0;
  exec::Pool renewals{"renew", 2, 20'000};
  // Opening a channel takes milliseconds, and so does its end: the wheels have other agents to
  // wake.
  exec::Pool dials{"dial", 2, 20'000};
};

// Whom all simulated agents of this process trust, before the first one dials. They are read once,
// where an agent reads them itself: this process is thousands of hosts already.
void TrustRoots(const std::string& roots_pem);

class SimAgent final : public Timed {
 public:
  SimAgent(Shared& shared, Wheel& wheel, std::string name, net::ClientIdentity identity);
  // After Stop, once Gone.
  ~SimAgent() override;

  // Dials for the first time, after the delay.
  void Begin(absl::Duration delay);
  // Sends what there is without waiting for company.
  void Flush();
  // Ends for good.
  void Stop();

  // Everything that was found is acknowledged.
  bool Settled() const;
  bool Gone() const;
  void OnTime(absl::Duration now) override;

 private:
  class Stream;
  struct Sent {
    uint64_t last = 0;  // sequence
    absl::Duration at;
  };
  struct Ending {
    Status status;
    bool at_once = false;
    std::optional<absl::Duration> drain;
  };

  // The stream's side.
  void TakeMessage(Stream& stream, bool ok);
  void TakeWritten(bool ok);
  void TakeDone(const Status& status);

  // Takes a turn if one is free.
  bool MayDial() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DialsNoMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the pool.
  void Dial();
  void End(Ending ending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Live() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stream_ != nullptr && !ending_; }
  void React(const v1::ToAgent& message, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Welcomed(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Acknowledged(uint64_t sequence, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakePlan(const v1::Plan& plan, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginNewLog() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Find(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration RestAfter(const Ending& ending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendNext(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckTime(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanRenewal() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Renew();

  void JournalLog() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JournalRecord(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JournalFolded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Shared& shared_;
  Wheel& wheel_;
  const std::string name_;

  mutable absl::Mutex mutex_;
  net::ClientIdentity identity_ ABSL_GUARDED_BY(mutex_);
  AgentLog log_ ABSL_GUARDED_BY(mutex_);
  Schedule schedule_ ABSL_GUARDED_BY(mutex_);
  std::string plan_hash_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::Checkpoint> witnessed_ ABSL_GUARDED_BY(mutex_);  // taken on trust
  uint32_t journal_log_ ABSL_GUARDED_BY(mutex_) = 0;

  // The connection. A stream that gRPC is done with waits for the pool to let go of it.
  std::unique_ptr<Stream> stream_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Stream> done_ ABSL_GUARDED_BY(mutex_);
  std::optional<agent::ClientSession> session_ ABSL_GUARDED_BY(mutex_);
  std::optional<Ending> ending_ ABSL_GUARDED_BY(mutex_);  // while closing
  std::vector<Sent> sent_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool said_hello_ ABSL_GUARDED_BY(mutex_) = false;
  bool dialling_ ABSL_GUARDED_BY(mutex_) = false;  // counts as one
  bool queued_ ABSL_GUARDED_BY(mutex_) = false;    // Dial is on the pool
  absl::Duration write_began_ ABSL_GUARDED_BY(mutex_);
  absl::Duration dialled_at_ ABSL_GUARDED_BY(mutex_);

  // Between connections.
  std::vector<std::string> servers_ ABSL_GUARDED_BY(mutex_);
  agent::ServerTour tour_ ABSL_GUARDED_BY(mutex_);
  std::string server_ ABSL_GUARDED_BY(mutex_);
  absl::Duration dial_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  absl::Duration lost_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  absl::Duration renew_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  bool renewing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster::bench
