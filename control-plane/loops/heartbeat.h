// This replica's heart: renews its row and the lease, and knows who else is there. Beats on a
// thread of its own; what it finds is handed on from that thread.
//
// Any thread may call.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/decide/leadership.h"
#include "control-plane/store/store.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::control {

struct HeartbeatOptions {
  LeadershipPolicy policy;
  // This replica leads until then (Clock::Uptime). Called at each renewal.
  std::function<void(LeaderEpoch, absl::Duration until)> on_lead = [](LeaderEpoch, absl::Duration) {
  };
  // Another one leads, or nobody.
  std::function<void()> on_leave = [] {};
  // It had been declared lost, and is back: its sessions are to be reclaimed.
  std::function<void()> on_found = [] {};
  // Another program runs as this replica.
  std::function<void(const Status&)> on_replaced = [](const Status&) {};
};

class Heartbeat {
 public:
  // `self` is what ClusterStore::Start returned. Store and clock must outlive it.
  Heartbeat(Store& store, const Clock& clock, ReplicaRow self, HeartbeatOptions options);
  ~Heartbeat();
  void Start();
  // A hint: the lease may be free.
  void Wake();
  // Gives the lease back, and tells the others that this replica drains. Beats on.
  Status Drain();
  // No further beat. Safe to repeat.
  void Stop();

  // One beat, and when the next one is due.
  absl::Duration Once();

  const ReplicaRow& self() const { return self_; }
  // As of the last beat that reached the database.
  struct View {
    std::vector<ReplicaRow> replicas;
    LeaseRow lease;
    absl::Time now;            // of the database
    absl::Duration at;         // of its beginning, by Clock::Uptime
    absl::Time serving_since;  // of the cluster
    // Since when this replica has reached the database without a break, by the database's clock.
    absl::Time watched_since = absl::InfiniteFuture();
    uint64_t beats = 0;
    uint64_t failures = 0;
    absl::Duration took;      // the last beat
    LeadershipPolicy policy;  // as stretched by how long beats take
  };
  View view() const;
  // What agents are told to dial: this replica first, then the other live ones.
  std::vector<std::string> Servers() const;
  // The database has been out of reach for so long that agents are better off with others.
  bool CutOff() const;

 private:
  void Work();
  LeaseDecision Decide(LeaseFacts facts);
  void Note(const Beat& beat, absl::Duration began);
  void NoteFailure(const Status& status);
  void HandOn(const Beat& beat, absl::Duration began);

  Store& store_;
  const Clock& clock_;
  const ReplicaRow self_;
  const HeartbeatOptions options_;

  mutable absl::Mutex mutex_;
  View view_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Owned by whoever beats.
  LeadershipPolicy policy_;
  std::array<absl::Duration, 4> took_{};  // the last beats
  size_t beat_ = 0;
  LeaseRow seen_lease_;
  absl::Duration seen_lease_at_ = absl::ZeroDuration();
  std::string last_problem_;
  std::string last_holder_;

  exec::Thread thread_;  // last: it uses all the others
};

}  // namespace muster::control
