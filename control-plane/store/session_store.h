// Who is connected where, under which session epoch, and how far each agent's log is stored.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/identity_store.h"
#include "lib/sql/database.h"
#include "muster/v1/record.pb.h"

namespace muster::control {

struct AgentRow {
  std::string name;
  Labels labels;
  uint64_t session_epoch = 0;
  std::string replica;  // that holds the session; empty when none does
  bool connected = false;
  absl::Time last_seen_at;     // InfinitePast before the first session
  absl::Time disconnected_at;  // InfiniteFuture while connected
  std::string version;
  std::string boot_id;
  std::string log_epoch;
  uint64_t committed_sequence = 0;
  absl::Duration clock_skew;
  std::map<std::string, std::string> facts;
  absl::Time certificate_expires_at;
  bool revoked = false;
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

class SessionStore {
 public:
  explicit SessionStore(sql::Database& database) : database_(database) {}

  // Fences every older session of the agent, whose certificate the caller has checked. NotFound for
  // an unknown agent (but one that a failover may have forgotten is taken in again),
  // PermissionDenied for a revoked one. A log epoch that was seen before continues at its cursor.
  StatusOr<OpenedSession> Open(const SessionOpening& opening);
  // No effect if a newer session has taken over.
  Status Close(std::string_view agent, uint64_t epoch, absl::Time now);
  // At start: what an earlier life of this replica left open is closed, as of when it was last
  // seen.
  Status CloseAllOf(std::string_view replica, absl::Time now);
  // Called by the replica now and then: last_seen_at of every agent it holds.
  Status Touch(const std::vector<std::string>& agents, absl::Time now);

  StatusOr<std::optional<AgentRow>> Find(std::string_view agent);
  // By name, after `after`.
  StatusOr<std::vector<AgentRow>> List(std::string_view after, uint32_t limit);
  // Newest first.
  StatusOr<std::vector<GapRow>> Gaps(std::string_view agent, uint32_t limit);

 private:
  sql::Database& database_;
};

}  // namespace muster::control
