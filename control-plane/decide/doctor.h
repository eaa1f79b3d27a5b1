// What is wrong with an installation, and what to do about it. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "control-plane/decide/leadership.h"
#include "control-plane/decide/witness.h"
#include "control-plane/store/alert_store.h"
#include "control-plane/store/cluster_store.h"
#include "control-plane/store/session_store.h"
#include "muster/v1/system_service.pb.h"

namespace muster::control {

// Redis, as the replica that is asked sees it.
struct RedisFacts {
  std::string where;    // "redis://redis.example.org:6379"
  bool up = false;      // hints go out and come in
  std::string problem;  // why it was last away
};

struct DoctorFacts {
  absl::Time authority_expires_at = absl::InfiniteFuture();
  std::vector<AgentRow> agents;
  AlertStore::OutboxCounts outbox;
  size_t receivers = 0;
  size_t checks = 0;
  std::vector<WitnessFact> witnesses;
  absl::Time serving_since = absl::InfinitePast();  // of the whole cluster
  std::vector<ReplicaRow> replicas;
  LeaseRow lease;
  LeadershipPolicy leadership;
  absl::Time database_now = absl::InfinitePast();
  // Of the file system that holds the store; none where the store is elsewhere.
  std::optional<uint64_t> disk_free_bytes;
  std::optional<uint64_t> disk_size_bytes;
  std::optional<RedisFacts> redis;  // none: the replica was given none
};

// At least one finding a subject looked at; LEVEL_OK where all is well. Agents that are well are
// one finding.
std::vector<v1::Finding> Diagnose(const DoctorFacts& facts, absl::Time now);

}  // namespace muster::control
