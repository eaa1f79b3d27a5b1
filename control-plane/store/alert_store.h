// Alerts, their trail, and the outbox that notifications leave by (promise C6).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control-plane/store/leader_epoch.h"
#include "lib/sql/database.h"
#include "muster/v1/alert_service.pb.h"

namespace muster::control {

struct AlertRow {
  std::string id;  // UUID, stable for one stretch from raise to resolve; the dedup key
  std::string
      key;  // what the alert is about: "check/AGENT/ID", "absent/AGENT"; at most one open a key
  std::string name;
  v1::Severity severity = v1::SEVERITY_UNSPECIFIED;
  v1::AlertState state = v1::ALERT_STATE_UNSPECIFIED;
  std::string check;  // name; empty for the absence of an agent
  std::string agent;
  absl::Time started_at;
  absl::Time fired_at;     // InfinitePast until then
  absl::Time resolved_at;  // InfiniteFuture until then
  std::string summary;
  std::string description;
  std::string runbook;
  std::string inhibited_by;  // id of the alert that keeps this one quiet; empty
  bool told = false;         // somebody was told of the raise, so somebody is told of the resolve
};

struct AlertEventRow {
  std::string alert_id;
  absl::Time at;
  std::string what;  // "pending", "firing", "severity", "inhibited", "resolved" …
  std::string reason;
};

enum class OutboxState { kWaiting = 1, kDelivered = 2, kFailed = 3 };

struct OutboxRow {
  uint64_t id = 0;  // set by the store; ascending; the order of telling for one (alert, receiver)
  std::string alert_id;
  std::string receiver;
  std::string event;    // "raised", "changed", "resolved"
  std::string payload;  // a serialised v1.Alert as it was then
  OutboxState state = OutboxState::kWaiting;
  uint32_t attempts = 0;
  absl::Time created_at;
  absl::Time next_attempt_at;
  absl::Time delivered_at;  // InfinitePast until then
  std::string last_error;
};

// All that one round of the alert loop decides, stored at once.
struct AlertDecision {
  uint64_t expected_cursor = 0;  // the transition cursor must stand here, else Aborted
  uint64_t new_cursor = 0;
  std::vector<AlertRow> alerts;  // new values, by id
  std::vector<AlertEventRow> events;
  std::vector<OutboxRow> outbox;
};

struct AlertFilter {
  std::vector<v1::AlertState> state;
  absl::Time resolved_since;  // resolved ones only if at or after
};

class AlertStore {
 public:
  explicit AlertStore(sql::Database& database) : database_(database) {}

  StatusOr<uint64_t> Cursor();
  // The leader's.
  Status Apply(LeaderEpoch epoch, const AlertDecision& decision);
  // PENDING and FIRING.
  StatusOr<std::vector<AlertRow>> Open();
  // Newest start first, after (started_at, id).
  StatusOr<std::vector<AlertRow>> List(const AlertFilter& filter, absl::Time before,
                                       std::string_view before_id, uint32_t limit);
  StatusOr<std::optional<AlertRow>> Find(std::string_view id);
  StatusOr<std::vector<AlertEventRow>> Events(std::string_view id);
  StatusOr<std::vector<OutboxRow>> Deliveries(std::string_view id);

  // Rows that are waiting and due, each the first undelivered of its (alert, receiver), oldest
  // first.
  StatusOr<std::vector<OutboxRow>> Due(absl::Time now, uint32_t limit);
  // InfiniteFuture if nothing waits.
  StatusOr<absl::Time> NextDue();
  // The leader's. The outcome of one attempt, by row.id: state, attempts, next_attempt_at,
  // delivered_at, last_error.
  Status RecordAttempt(LeaderEpoch epoch, const OutboxRow& row);
  struct OutboxCounts {
    uint64_t waiting = 0;
    uint64_t failed = 0;
    absl::Time oldest_waiting;  // InfiniteFuture if none
  };
  StatusOr<OutboxCounts> Counts();
  // The leader's. Resolved alerts, their events and deliveries before the cutoff.
  StatusOr<uint64_t> DropResolvedBefore(LeaderEpoch epoch, absl::Time cutoff, uint32_t limit);

 private:
  sql::Database& database_;
};

}  // namespace muster::control
