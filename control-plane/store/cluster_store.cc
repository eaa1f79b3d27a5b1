#include "control-plane/store/cluster_store.h"

#include <algorithm>
#include <utility>

#include "control-plane/store/columns.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr std::string_view kReplicaColumns =
    "r.id, r.incarnation, r.addresses, r.version, r.started_at, r.seen_at, r.draining, r.lost_at";

ReplicaRow ReadReplica(const sql::Row& row) {
  ReplicaRow replica;
  replica.id = row.Text(0);
  replica.incarnation = Unsigned(row.Int(1));
  for (const std::string_view address : Split(row.Text(2), '\n')) {
    if (!address.empty()) replica.addresses.emplace_back(address);
  }
  replica.version = row.Text(3);
  replica.started_at = row.Time(4);
  replica.seen_at = row.Time(5);
  replica.draining = row.Int(6) != 0;
  replica.lost_at = TimeOr(row, 7, absl::InfiniteFuture());
  return replica;
}

StatusOr<std::vector<ReplicaRow>> ReadReplicas(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {} FROM replicas r ORDER BY r.id", kReplicaColumns)));
  std::vector<ReplicaRow> replicas;
  for (const sql::Row& row : rows) replicas.push_back(ReadReplica(row));
  return replicas;
}

LeaseRow LeaseOf(const sql::Row& row, size_t at) {
  return {{Unsigned(row.Int(at))}, row.Text(at + 1), Unsigned(row.Int(at + 2)), row.Time(at + 3)};
}

Status NoLease() {
  return DataLoss("the lease has no row; restore the newest backup of the store");
}

StatusOr<LeaseRow> ReadLease(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query("SELECT epoch, holder, incarnation, until FROM lease WHERE id = 1"));
  if (rows.empty()) return NoLease();
  return LeaseOf(rows[0], 0);
}

struct Cluster {
  LeaseRow lease;
  std::vector<ReplicaRow> replicas;
};

// Whoever renews the lease says in the same transaction, and by the same clock, that it is there.
absl::Duration LengthOf(const LeaseRow& lease, const std::vector<ReplicaRow>& replicas) {
  for (const ReplicaRow& replica : replicas) {
    if (replica.id == lease.holder) return lease.until - replica.seen_at;
  }
  return absl::ZeroDuration();
}

// In one statement: each is a round trip while everybody else's writes wait.
StatusOr<Cluster> ReadCluster(sql::Transaction& t) {
  MUSTER_ASSIGN_OR_RETURN(
      const sql::Rows rows,
      t.Query(fmt::format("SELECT {}, l.epoch, l.holder, l.incarnation, l.until FROM lease l LEFT "
                          "JOIN replicas r ON true WHERE l.id = 1 ORDER BY r.id",
                          kReplicaColumns)));
  if (rows.empty()) return NoLease();
  Cluster cluster{LeaseOf(rows[0], 8), {}};
  for (const sql::Row& row : rows) {
    if (!row.IsNull(0)) cluster.replicas.push_back(ReadReplica(row));
  }
  return cluster;
}

Status PutReplica(sql::Transaction& t, const ReplicaRow& replica) {
  std::string addresses;
  for (const std::string& address : replica.addresses) {
    addresses += (addresses.empty() ? "" : "\n") + address;
  }
  return t
      .Execute(
          "INSERT INTO replicas (id, incarnation, addresses, version, started_at, seen_at, "
          "draining, lost_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
          "ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, addresses = "
          "excluded.addresses, version = excluded.version, started_at = excluded.started_at, "
          "seen_at = excluded.seen_at, draining = excluded.draining, lost_at = excluded.lost_at",
          {std::string_view(replica.id), Signed(replica.incarnation), std::string_view(addresses),
           std::string_view(replica.version), sql::ToMicros(replica.started_at),
           sql::ToMicros(replica.seen_at), int64_t{replica.draining}, TimeOrNull(replica.lost_at)})
      .status();
}

// The sessions that the replica holds end as of then. The agents' rows go on saying whose they
// were, so that it can reclaim them.
Status OrphanSessions(sql::Transaction& t, std::string_view replica, absl::Time as_of) {
  return t
      .Execute(
          "UPDATE agents SET connected = 0, orphaned = 1, disconnected_at = CASE WHEN last_seen_at "
          "> $1 THEN last_seen_at ELSE $1 END, last_seen_at = CASE WHEN last_seen_at > $1 THEN "
          "last_seen_at ELSE $1 END WHERE replica = $2 AND connected = 1",
          {sql::ToMicros(as_of), replica})
      .status();
}

// Nobody will reclaim the sessions that this life of the replica has orphaned.
Status ForgetOrphans(sql::Transaction& t, std::string_view replica) {
  return t.Execute("UPDATE agents SET replica = '' WHERE replica = $1 AND connected = 0", {replica})
      .status();
}

Status GiveLeaseBack(sql::Transaction& t, const ReplicaRow& self) {
  return t
      .Execute(
          "UPDATE lease SET holder = '', incarnation = 0, until = 0 WHERE id = 1 AND holder = $1 "
          "AND incarnation = $2",
          {std::string_view(self.id), Signed(self.incarnation)})
      .status();
}

Status TakeLease(sql::Transaction& t, const LeaseDecision& decision, absl::Time now) {
  const LeaseRow& lease = decision.lease;
  MUSTER_RETURN_IF_ERROR(
      t.Execute(
           "UPDATE lease SET epoch = $1, holder = $2, incarnation = $3, until = $4 WHERE id = 1",
           {Signed(lease.epoch.value), std::string_view(lease.holder), Signed(lease.incarnation),
            sql::ToMicros(lease.until)})
          .status());
  if (decision.act != LeaseAct::kTake) return OkStatus();
  return AppendAudit(t, {"control", "leader.take", lease.holder,
                         fmt::format("term {}: {}", lease.epoch.value, decision.reason), now});
}

constexpr char kReplaced[] = "muster/replaced";

Status Replaced(const ReplicaRow& self) {
  Status replaced = FailedPrecondition(
      "another program runs as replica {} since: two must not share a data folder or copies of it; "
      "remove replica.id from this one and start it again",
      self.id);
  replaced.SetPayload(kReplaced, absl::Cord());
  return replaced;
}

}  // namespace

bool IsReplaced(const Status& status) { return status.GetPayload(kReplaced).has_value(); }

StatusOr<ReplicaRow> ClusterStore::Start(const ReplicaStart& start) {
  ReplicaRow self;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const absl::Time now, t.Now());
    MUSTER_ASSIGN_OR_RETURN(const LeaseRow lease, ReadLease(t));
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query(fmt::format("SELECT {} FROM replicas r WHERE r.id = $1", kReplicaColumns),
                {std::string_view(start.id)}));
    // Of a replica without a row, each session was last seen when its agent's row says.
    const ReplicaRow before =
        rows.empty() ? ReplicaRow{.seen_at = absl::UnixEpoch()} : ReadReplica(rows[0]);
    MUSTER_RETURN_IF_ERROR(OrphanSessions(t, start.id, before.seen_at));
    MUSTER_RETURN_IF_ERROR(ForgetOrphans(t, start.id));
    // Also past the lease, which may outlive a row that was forgotten.
    const uint64_t held = lease.holder == start.id ? lease.incarnation : 0;
    self = {.id = start.id,
            .incarnation = std::max(before.incarnation, held) + 1,
            .addresses = start.addresses,
            .version = start.version,
            .started_at = now,
            .seen_at = now};
    return PutReplica(t, self);
  }));
  return self;
}

StatusOr<Beat> ClusterStore::Heartbeat(const ReplicaRow& self, Decide decide) {
  Beat beat;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    beat = {};
    MUSTER_ASSIGN_OR_RETURN(beat.now, t.Now());
    MUSTER_ASSIGN_OR_RETURN(Cluster cluster, ReadCluster(t));
    beat.replicas = std::move(cluster.replicas);
    const absl::Duration length = LengthOf(cluster.lease, beat.replicas);
    auto own = std::find_if(beat.replicas.begin(), beat.replicas.end(),
                            [&](const ReplicaRow& replica) { return replica.id == self.id; });
    if (own != beat.replicas.end() && own->incarnation != self.incarnation) return Replaced(self);
    beat.was_lost = own == beat.replicas.end() || own->lost();
    ReplicaRow fresh = self;
    fresh.draining = own != beat.replicas.end() && own->draining;
    fresh.seen_at = beat.now;
    MUSTER_RETURN_IF_ERROR(PutReplica(t, fresh));
    if (own == beat.replicas.end()) {
      beat.replicas.push_back(fresh);
    } else {
      *own = fresh;
    }
    beat.decision = decide({beat.now, cluster.lease, fresh, absl::ZeroDuration(), length});
    if (beat.decision.act == LeaseAct::kLeave) return OkStatus();
    return TakeLease(t, beat.decision, beat.now);
  }));
  return beat;
}

Status ClusterStore::Drain(const ReplicaRow& self) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(GiveLeaseBack(t, self));
    return t
        .Execute("UPDATE replicas SET draining = 1 WHERE id = $1 AND incarnation = $2",
                 {std::string_view(self.id), Signed(self.incarnation)})
        .status();
  });
}

Status ClusterStore::Leave(const ReplicaRow& self) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const absl::Time now, t.Now());
    MUSTER_RETURN_IF_ERROR(GiveLeaseBack(t, self));
    MUSTER_ASSIGN_OR_RETURN(const int64_t removed,
                            t.Execute("DELETE FROM replicas WHERE id = $1 AND incarnation = $2",
                                      {std::string_view(self.id), Signed(self.incarnation)}));
    if (removed == 0) return OkStatus();
    MUSTER_RETURN_IF_ERROR(OrphanSessions(t, self.id, now));
    return ForgetOrphans(t, self.id);
  });
}

StatusOr<std::vector<ReplicaRow>> ClusterStore::List() {
  std::vector<ReplicaRow> replicas;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(replicas, ReadReplicas(t));
    for (ReplicaRow& replica : replicas) {
      MUSTER_ASSIGN_OR_RETURN(
          const sql::Rows rows,
          t.Query("SELECT count(*) FROM agents WHERE replica = $1 AND connected = 1",
                  {std::string_view(replica.id)}));
      replica.agents = Unsigned(rows[0].Int(0));
    }
    return OkStatus();
  }));
  return replicas;
}

StatusOr<LeaseRow> ClusterStore::Lease() {
  LeaseRow lease;
  MUSTER_RETURN_IF_ERROR(database_.Read([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(lease, ReadLease(t));
    return OkStatus();
  }));
  return lease;
}

StatusOr<bool> ClusterStore::DeclareLost(LeaderEpoch epoch, const ReplicaRow& replica) {
  bool declared = false;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_ASSIGN_OR_RETURN(const absl::Time now, t.Now());
    MUSTER_ASSIGN_OR_RETURN(
        const int64_t changed,
        t.Execute("UPDATE replicas SET lost_at = $1 WHERE id = $2 AND "
                  "incarnation = $3 AND seen_at = $4 AND lost_at IS NULL",
                  {sql::ToMicros(now), std::string_view(replica.id), Signed(replica.incarnation),
                   sql::ToMicros(replica.seen_at)}));
    declared = changed == 1;
    if (!declared) return OkStatus();
    return OrphanSessions(t, replica.id, replica.seen_at);
  }));
  return declared;
}

StatusOr<std::vector<std::string>> ClusterStore::ForgetLostBefore(LeaderEpoch epoch,
                                                                  absl::Time cutoff) {
  std::vector<std::string> forgotten;
  const auto look = [&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(
        const sql::Rows rows,
        t.Query("SELECT id FROM replicas WHERE lost_at < $1", {sql::ToMicros(cutoff)}));
    forgotten.clear();
    for (const sql::Row& row : rows) forgotten.push_back(row.Text(0));
    return OkStatus();
  };
  // Most of the time there is none, and then nothing is written.
  MUSTER_RETURN_IF_ERROR(database_.Read(look));
  if (forgotten.empty()) return forgotten;
  MUSTER_RETURN_IF_ERROR(database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_RETURN_IF_ERROR(CheckLeader(t, epoch));
    MUSTER_RETURN_IF_ERROR(look(t));
    return t.Execute("DELETE FROM replicas WHERE lost_at < $1", {sql::ToMicros(cutoff)}).status();
  }));
  return forgotten;
}

Status ClusterStore::Forget(std::string_view id, const AuditNote& note) {
  return database_.Write([&](sql::Transaction& t) -> Status {
    MUSTER_ASSIGN_OR_RETURN(const sql::Rows rows,
                            t.Query("SELECT lost_at FROM replicas WHERE id = $1", {id}));
    if (rows.empty()) return NotFound("there is no replica named {}", id);
    if (rows[0].IsNull(0)) {
      return FailedPrecondition(
          "replica {} is not lost: stop it with SIGTERM, and it leaves by itself", id);
    }
    MUSTER_RETURN_IF_ERROR(t.Execute("DELETE FROM replicas WHERE id = $1", {id}).status());
    return AppendAudit(t, note);
  });
}

}  // namespace muster::control
