// The replicas of the control plane, and the lease that makes one of them the leader. Times are the
// database's own, so that no replica's clock counts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <absl/functional/function_ref.h>
#include <absl/time/time.h>

#include "control-plane/store/audit.h"
#include "control-plane/store/leader_epoch.h"
#include "lib/sql/database.h"

namespace muster::control {

struct ReplicaRow {
  std::string id;
  uint64_t incarnation = 0;  // grows with every start
  std::vector<std::string> addresses;
  std::string version;
  absl::Time started_at;
  absl::Time seen_at;
  bool draining = false;
  absl::Time lost_at = absl::InfiniteFuture();  // InfiniteFuture while it is not
  uint64_t agents = 0;                          // whose session it holds; List fills it in
  bool lost() const { return lost_at != absl::InfiniteFuture(); }
};

struct LeaseRow {
  LeaderEpoch epoch;
  std::string holder;  // a replica; empty when nobody leads
  uint64_t incarnation = 0;
  absl::Time until;
  bool operator==(const LeaseRow&) const = default;
};

// What a replica says of itself when it starts.
struct ReplicaStart {
  std::string id;
  std::vector<std::string> addresses;
  std::string version;
};

// What is known when a replica looks at the lease.
struct LeaseFacts {
  absl::Time now;
  LeaseRow lease;
  ReplicaRow self;
  // For how long, by a clock of its own, whoever looks has seen the lease as it is. The database's
  // clock may be set back.
  absl::Duration unchanged_for = absl::ZeroDuration();
  // For how long its holder took it, or renewed it.
  absl::Duration length = absl::ZeroDuration();
};

enum class LeaseAct { kLeave, kRenew, kTake };
struct LeaseDecision {
  LeaseAct act = LeaseAct::kLeave;
  LeaseRow lease;  // as it is from now on
  std::string reason;
};

// What one beat of a replica's heart found.
struct Beat {
  absl::Time now;
  LeaseDecision decision;
  std::vector<ReplicaRow> replicas;  // all, by id; without `agents`
  // It was declared lost (or forgotten) meanwhile, and its sessions were closed: reclaim them.
  bool was_lost = false;
};

// Whether a heartbeat was refused because a later incarnation of the replica runs: end this one.
bool IsReplaced(const Status& status);

class ClusterStore {
 public:
  explicit ClusterStore(sql::Database& database) : database_(database) {}

  // A new life of the replica: its row, with the next incarnation. Sessions that an earlier life
  // left open are closed, orphaned, as of when that was last seen.
  StatusOr<ReplicaRow> Start(const ReplicaStart& start);
  // Renews the row, and does with the lease what `decide` says, in one transaction; a lease that
  // is taken leaves an audit entry. An error of IsReplaced's kind: a later incarnation runs.
  using Decide = absl::FunctionRef<LeaseDecision(const LeaseFacts&)>;
  StatusOr<Beat> Heartbeat(const ReplicaRow& self, Decide decide);
  // From now on the replica sends its agents elsewhere; it gives the lease back if it holds it.
  Status Drain(const ReplicaRow& self);
  // A clean end: the row goes, the lease is free, what sessions are left are closed, orphaned. No
  // effect if a later incarnation runs.
  Status Leave(const ReplicaRow& self);

  // By id, with the agents of each.
  StatusOr<std::vector<ReplicaRow>> List();
  StatusOr<LeaseRow> Lease();
  StatusOr<absl::Time> Now() { return database_.Now(); }

  // The leader's. Declares the replica lost if it was still seen last at `replica.seen_at`: its
  // sessions are closed as of then, orphaned. False if it has been seen since.
  StatusOr<bool> DeclareLost(LeaderEpoch epoch, const ReplicaRow& replica);
  // The leader's. Forgets replicas that were declared lost before the cutoff; their ids.
  StatusOr<std::vector<std::string>> ForgetLostBefore(LeaderEpoch epoch, absl::Time cutoff);
  // The operator's. NotFound; FailedPrecondition unless the replica was declared lost.
  Status Forget(std::string_view id, const AuditNote& note);

 private:
  sql::Database& database_;
};

}  // namespace muster::control
