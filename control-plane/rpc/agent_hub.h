// What all agent streams of this replica share: the store, the committer, the plan book, and who is
// here.
//
// Streams come and go on gRPC's threads; the hub's work runs on its pool and its one-second loop.
// Any thread may call. The hub must outlive the gRPC server.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/ingest/committer.h"
#include "control-plane/ingest/opener.h"
#include "control-plane/ingest/plan.h"
#include "control-plane/ingest/session.h"
#include "control-plane/rpc/assignments.h"
#include "control-plane/rpc/witnesses.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::control {

// One agent's stream, as the hub sees it.
class HubStream {
 public:
  virtual ~HubStream() = default;
  // The plan book has changed: the stream sends another plan if its own differs.
  virtual void BookChanged(std::shared_ptr<const CheckBook> book) = 0;
  // Runs were assigned, are to stop, or are over; nothing is sent if that changes nothing for it.
  virtual void AssignmentsChanged(const AssignmentBook& book) = 0;
  // The states in the store were changed by another hand.
  virtual void StatesChanged() = 0;
  // There is a newer checkpoint of the audit chain.
  virtual void CheckpointMoved(const v1::Checkpoint& checkpoint) = 0;
  // What the agent is to dial has changed; nothing is said if it was told these already.
  virtual void ServersChanged(const std::vector<std::string>& servers) = 0;
  // Asks the agent to go elsewhere.
  virtual void Drain() = 0;
  // Of its session; 0 before its Hello.
  virtual uint64_t Epoch() = 0;
  // Ends the stream with the status.
  virtual void Cut(const Status& status) = 0;
  // Called about once a second: an overdue write ends the stream.
  virtual void Tick(absl::Duration uptime) = 0;
};

struct HubOptions {
  std::string replica;
  SessionSettings session;
  CommitterOptions committer;
  size_t threads = 4;
  size_t most_queued = 20'000;
  std::function<void()> on_transitions = [] {};
  // What agents are told to dial, this replica first.
  std::function<std::vector<std::string>()> servers = [] { return std::vector<std::string>(); };
};

// What a stream ends with when there is no room for its work.
inline Status Busy() { return ResourceExhausted("the control plane is busy; come back later"); }

class AgentHub {
 public:
  AgentHub(Store& store, Witnesses& witnesses, const Clock& clock, HubOptions options);
  ~AgentHub();
  // No session is opened or closed from now on, and nothing of what the options named is called
  // afterwards. For when no stream is left; safe to repeat.
  void Stop();

  // Opens a session in the store, together with others that come now; `opened` is called on the
  // pool. An error, and it is not called: the Hello is no good, or too many wait.
  Status Open(const v1::Hello& hello, const std::string& agent, Opener::Done opened);
  // Everything else that a stream needs for its session. Blocks on the store: call it on the pool.
  struct Prepared {
    std::unique_ptr<ServerSession> session;
    v1::ToAgent welcome;
    bool witness_agrees = true;  // the agent may be given checkpoints
  };
  StatusOr<Prepared> Prepare(const v1::Hello& hello, SessionOpening opening,
                             const OpenedSession& opened);
  // The stream takes the place of an older one of the same agent, which is cut.
  void Enter(const std::string& agent, std::shared_ptr<HubStream> stream);
  // The stream has ended; its session, if one was opened, is closed in the store, as soon as that
  // can be reached. `last_heard`: when the agent was, by uptime, if it ended for its silence.
  void Leave(const std::string& agent, const HubStream* stream, uint64_t epoch,
             std::optional<absl::Duration> last_heard);

  exec::Pool& pool() { return pool_; }
  Committer& committer() { return committer_; }
  Store& store() { return store_; }
  const Clock& clock() const { return clock_; }
  std::shared_ptr<const CheckBook> book() const;
  std::shared_ptr<const AssignmentBook> assignments() const;
  // What agents are told to dial now.
  std::vector<std::string> servers() const { return options_.servers(); }

  // Hints; each is also found out by polling.
  void SpecsChanged() { loop_.Wake(); }
  void StatesChanged(const std::string& agent);
  void RunsChanged() { loop_.Wake(); }
  // Drains every stream. New ones are still taken: the listener stops before.
  void DrainAll();
  // The same, of a replica that stays: it cannot serve them now.
  void SendElsewhere();
  // Waits until every stream has gone. False if some have not by then.
  bool AwaitEmpty(absl::Duration within);
  // This replica had been declared lost: takes its sessions back, and cuts the streams whose agents
  // have gone elsewhere meanwhile; as soon as the store can be reached.
  void Found();

  size_t connected() const;
  uint64_t opened() const;

 private:
  void Tick();
  CommitterOptions Delivering(CommitterOptions options);
  // On the pool, some of them at a time.
  void Deliver(std::vector<BatchOutcome> outcomes);
  void NoteEpoch(const std::string& epoch);
  void RefreshBook();
  void RefreshAssignments();
  void CloseEnded();
  void CloseLate();
  Status Reclaim();
  void RenewCheckpoint();
  void RefreshServers();
  std::shared_ptr<HubStream> Find(const std::string& agent) const;
  std::vector<std::shared_ptr<HubStream>> Streams() const;

  Store& store_;
  Witnesses& witnesses_;
  const Clock& clock_;
  const HubOptions options_;
  exec::Pool pool_;
  // After the pool, which their threads hand on to.
  Committer committer_;
  Opener opener_;
  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<HubStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const CheckBook> book_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const AssignmentBook> assignments_ ABSL_GUARDED_BY(mutex_);
  std::optional<uint64_t> assignment_revision_;               // of the loop's thread
  std::vector<std::string> servers_ ABSL_GUARDED_BY(mutex_);  // at the last tick
  uint64_t opened_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string store_epoch_ ABSL_GUARDED_BY(mutex_);
  bool reclaim_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Sessions that have ended, until somebody tells the store, who then does it for all.
  std::vector<SessionEnd> ended_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;  // somebody does
  // Those that ended while the store could not be told.
  std::vector<SessionEnd> late_ ABSL_GUARDED_BY(mutex_);
  exec::PeriodicLoop loop_;  // last: its thread uses all the others
};

}  // namespace muster::control
