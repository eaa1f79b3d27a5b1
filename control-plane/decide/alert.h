// What to tell whom (promise C6): open alerts, new transitions and absent agents in; alert rows,
// their trail and outbox rows out. Pure: no clock, no I/O; the same facts give the same bytes.
//
// clang-format off
//              soft, not OK                hard, not OK: "raised"
//      ·  ───────────────────► PENDING ───────────────────────────► FIRING ⟲ other severity: "changed"
//      │                          │ hard OK: a false alarm, untold     │ hard OK: "resolved", if told
//      │                          ▼                                    ▼
//      └─── hard, not OK ──► (FIRING)                              RESOLVED
// clang-format on
//
// NO_DATA resolves nothing. It opens an alert only where data is late although the agent is
// connected; the absence of an agent is one alert of its own, and while it is open the agent's
// untold alerts stay untold. The loss of a replica is an alert of its own, too, until it is seen
// again or forgotten. A job whose newest slot failed, was missed or has an unknown outcome is one,
// until a newer slot succeeds; one whose run cannot begin for five minutes is another, until it
// begins or is missed; one whose backups are too old, bad or of an unusual size (backup_health.h)
// is a third, until they are not. An alert that fires and was told to nobody (inhibited, or no
// receiver yet) is told when that ends. What is not asked any more (deleted check, revoked agent,
// moved selector) resolves with that reason.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control-plane/decide/backup_health.h"
#include "control-plane/store/alert_store.h"
#include "control-plane/store/history_store.h"
#include "control-plane/store/run_store.h"

namespace muster::control {

struct CheckNote {
  std::string name;
  std::string description;
  std::string runbook;
};

struct AgentPresence {
  bool connected = false;
  bool revoked = false;
  bool absent = false;                               // IsAbsent of absence.h
  absl::Time silent_since = absl::InfiniteFuture();  // meant only where absent
};

struct ReplicaPresence {
  bool lost = false;
  absl::Time seen_at;  // the last time
  uint64_t incarnation = 0;
};

// A job: its newest slot that is over, and the run of its schedule that has waited longest.
struct JobNote {
  JobHealth health;
  absl::Time waits_since = absl::InfiniteFuture();
  std::string waits_why;
  // Of a job that makes backups; when it was applied.
  std::optional<v1::BackupTask> backup;
  BackupSummary backups;
  std::string keep_problem;  // as in JobRow
  absl::Time changed_at = absl::InfinitePast();
  std::string description;
  std::string runbook;
};

// A run of a schedule that waits for longer is late, and somebody is told before it is missed.
inline constexpr absl::Duration kLateAfter = absl::Minutes(5);

struct AlertFacts {
  uint64_t cursor = 0;
  std::vector<AlertRow> open;              // PENDING and FIRING
  std::vector<TransitionRow> transitions;  // id > cursor, ascending
  std::map<uint32_t, CheckNote> checks;    // those that exist
  std::map<std::string, AgentPresence> agents;
  std::map<std::string, ReplicaPresence> replicas;  // those that are not forgotten
  std::map<std::string, JobNote> jobs;              // those that exist
  // States that have left (agent, check): the check no longer runs there.
  std::set<std::pair<std::string, uint32_t>> removed;
  std::vector<std::string> receivers;
};

AlertDecision DecideAlerts(const AlertFacts& facts, absl::Time now);

// Whether the decision changes anything but a cursor that stands still.
bool IsEmpty(const AlertDecision& decision);

// The API's form of a row.
v1::Alert AlertMessage(const AlertRow& row);

}  // namespace muster::control
