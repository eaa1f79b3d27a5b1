// What the control plane counts, for Prometheus. Every series but those of backups is there from
// the start, at zero; label values come from fixed lists, or are names of backup jobs. Any thread
// may use any member.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
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

// What the catalogue holds of one job's backups. A time in the infinite past: there is none.
struct BackupFigures {
  uint64_t kept = 0;
  uint64_t verified = 0;
  absl::Time newest_at = absl::InfinitePast();
  absl::Time verified_at = absl::InfinitePast();
  uint64_t source_bytes = 0;
  uint64_t stored_bytes = 0;
  absl::Duration restore_took;
};

// Gauges with the label `job`, which come and go with the jobs.
class BackupGauges {
 public:
  explicit BackupGauges(prometheus::Registry& registry);
  // In place of what was there.
  void Set(const std::map<std::string, BackupFigures>& figures);

 private:
  struct Gauge {
    prometheus::Family<prometheus::Gauge>& family;
    double (*value)(const BackupFigures&);
  };
  const std::vector<Gauge> gauges_;
  absl::Mutex mutex_;
  std::vector<std::map<std::string, prometheus::Gauge*>> series_ ABSL_GUARDED_BY(mutex_);
};

class Metrics {
 private:
  std::shared_ptr<prometheus::Registry> registry_;  // before its series

 public:
  explicit Metrics(std::string_view version);

  prometheus::Gauge& agents_connected;
  prometheus::Gauge& connections;
  prometheus::Gauge& connections_limit;
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
  CounterFamily connections_refused;  // reason: limit, busy, denied
  prometheus::Counter& connections_silent;
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
  BackupGauges backups;
  CounterFamily runs;  // state: succeeded, failed, timed_out, cancelled, missed, unknown, other
  prometheus::Counter& reports_refused;
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
