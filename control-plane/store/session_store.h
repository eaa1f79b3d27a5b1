// Who is connected where, under which session epoch, and how far each agent's log is stored.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control-plane/store/identity_store.h"
#include "control-plane/store/leader_epoch.h"
#include "lib/sql/database.h"
#include "muster/v1/record.pb.h"

namespace muster::control {

// Whether an agent is there, and since when.
struct AgentSession {
  std::string name;
  uint64_t session_epoch = 0;
  // That holds the session, or held it until it was lost itself; else empty.
  std::string replica;
  bool connected = false;
  // The session ended with its replica, and not by itself: the agent gets time to find another one.
  bool orphaned = false;
  // While connected, when its replica was; later, when it was last heard, which is before the end
  // of a session that ended for its silence. InfinitePast before the first session.
  absl::Time last_seen_at;
  absl::Time
      connected_since;  // or since its replica took it back; InfiniteFuture without a session
  absl::Time disconnected_at;  // InfiniteFuture while connected
  bool revoked = false;
};

struct Away {
  // By name: those that had a session, have none, and are not revoked.
  std::vector<AgentSession> agents;
  uint64_t connected = 0;
};

struct AgentRow : AgentSession {
  Labels labels;
  std::string version;
  std::string boot_id;
  std::string log_epoch;
  uint64_t committed_sequence = 0;
  absl::Duration clock_skew;
  std::map<std::string, std::string> facts;
  absl::Time certificate_expires_at;
};

struct GapRow {
  std::string agent;
  std::string log_epoch;
  v1::Gap gap;
  absl::Time recorded_at;
};

// What a Hello tells.
struct SessionOpening {
  std::string agent;
  std::string replica;
  std::string version;
  std::string boot_id;
  std::string log_epoch;
  absl::Duration clock_skew;
  std::map<std::string, std::string> facts;
  absl::Time now;
};

struct OpenedSession {
  uint64_t epoch = 0;
  uint64_t committed_sequence = 0;  // under the opening's log epoch: 0 for a log never seen
  Labels labels;
};

// The end of a session. kReplicas: the replica sent the agent away, which counts as orphaned.
struct SessionEnd {
  enum class Parting { kAgents, kReplicas };
  std::string agent;
  uint64_t epoch = 0;
  absl::Time at;
  absl::Time heard_at;  // when the agent last was; not after `at`
  Parting parting = Parting::kAgents;
};

class SessionStore {
 public:
  explicit SessionStore(sql::Database& database) : database_(database) {}

  // Fences every older session of the agent, whose certificate the caller has checked. NotFound for
  // an unknown agent (but one that a failover may have forgotten is taken in again),
  // PermissionDenied for a revoked one. A log epoch that was seen before continues at its cursor.
  StatusOr<OpenedSession> Open(const SessionOpening& opening);
  // The same for many agents, each named once, in one transaction: an answer for each, in their
  // order. An error of the store is all of theirs.
  StatusOr<std::vector<StatusOr<OpenedSession>>> OpenMany(
      const std::vector<const SessionOpening*>& openings);
  // In one transaction. No effect on an agent where a newer session has taken over.
  Status Close(const std::vector<SessionEnd>& ends);
  // Takes back what was orphaned when this replica was declared lost, as far as no newer session
  // has taken over. The answer is the newest session epoch of every agent: those of the replica's
  // own streams that are older have been fenced meanwhile.
  StatusOr<std::map<std::string, uint64_t>> Reclaim(std::string_view replica, absl::Time now);
  // The leader's. Closes, as orphaned, sessions whose replica is lost or unknown. Returns how many.
  StatusOr<uint64_t> CloseStrays(LeaderEpoch epoch, absl::Time now);

  StatusOr<std::optional<AgentRow>> Find(std::string_view agent);
  // By name, after `after`.
  StatusOr<std::vector<AgentRow>> List(std::string_view after, uint32_t limit);
  // What is looked at each second. Costs little however many are connected.
  StatusOr<Away> WithoutSession();
  // Of those agents, by name; who is unknown is left out. Cheaper than Find: labels and facts are
  // not unpacked.
  StatusOr<std::vector<AgentSession>> Of(const std::set<std::string>& agents);
  // Newest first.
  StatusOr<std::vector<GapRow>> Gaps(std::string_view agent, uint32_t limit);

 private:
  sql::Database& database_;
};

}  // namespace muster::control
