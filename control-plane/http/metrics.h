// What the control plane counts, for Prometheus. Every series is there from the start, at zero;
// label values come from fixed lists only. Any thread may use any member.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <absl/time/time.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace muster::control {

// One counter a value of a label. Values outside the list count as "other".
class CounterFamily {
 public:
  CounterFamily(prometheus::Family<prometheus::Counter>& family, const std::string& label,
                std::initializer_list<std::string_view> values);
  prometheus::Counter& With(std::string_view value);

 private:
  std::map<std::string, prometheus::Counter*, std::less<>> counters_;
};

class Metrics {
 private:
  std::shared_ptr<prometheus::Registry> registry_;  // before its series

 public:
  explicit Metrics(std::string_view version);

  prometheus::Gauge& agents_connected;
  prometheus::Counter& results_stored;
  prometheus::Counter& batches_stored;
  CounterFamily
      batches_refused;  // reason: invalid, fenced, duplicate, too_large, queue_full, store, other
  prometheus::Histogram& commit_seconds;
  prometheus::Gauge& ingest_queue_batches;
  prometheus::Gauge& alerts_firing;
  prometheus::Gauge& outbox_waiting;
  prometheus::Gauge& outbox_failed;
  prometheus::Counter& sessions_opened;
  CounterFamily connections_refused;  // reason: limit, handshake, denied, rate, identity, other
  prometheus::Counter& transitions_no_data;
  prometheus::Gauge& authority_not_after;
  prometheus::Gauge& leader;  // 1 while this replica leads
  prometheus::Gauge& leader_epoch;
  prometheus::Counter& leader_terms;
  prometheus::Counter& leader_writes_refused;
  prometheus::Gauge& replicas_live;
  prometheus::Gauge& replicas_draining;
  prometheus::Gauge& replicas_lost;
  prometheus::Counter& heartbeats_failed;
  prometheus::Gauge& heartbeat_seconds;
  prometheus::Gauge& runs_queued;  // on the leader
  prometheus::Gauge& runs_running;
  CounterFamily runs;  // state: succeeded, failed, timed_out, cancelled, missed, unknown, other
  prometheus::Gauge& audit_contradictions;
  prometheus::Gauge& redis_up;  // 1 while hints go out and come in
  prometheus::Counter& redis_hints_published;
  prometheus::Counter& redis_hints_heard;

  // kind: webhook, slack, email; outcome: delivered, retry, failed.
  prometheus::Counter& Notifications(std::string_view kind, std::string_view outcome);
  void AuthorityExpires(absl::Time at);

  // The text format, version 0.0.4.
  std::string Text() const;

 private:
  std::map<std::pair<std::string, std::string>, prometheus::Counter*> notifications_;
};

}  // namespace muster::control
