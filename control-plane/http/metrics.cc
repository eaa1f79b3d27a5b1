#include "control-plane/http/metrics.h"

#include <prometheus/text_serializer.h>

#include "lib/base/status.h"

namespace muster::control {
namespace {

prometheus::Counter& MakeCounter(prometheus::Registry& registry, const char* name,
                                 const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Gauge& MakeGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Family<prometheus::Gauge>& MakeGauges(prometheus::Registry& registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

double Seconds(absl::Time time) {
  return time == absl::InfinitePast() ? 0 : absl::ToDoubleSeconds(time - absl::UnixEpoch());
}

prometheus::Family<prometheus::Counter>& MakeFamily(prometheus::Registry& registry,
                                                    const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Gauge& MakeReplicas(prometheus::Registry& registry, const char* state) {
  return prometheus::BuildGauge()
      .Name("muster_replicas")
      .Help("Replicas of the control plane, as this one sees them.")
      .Register(registry)
      .Add({{"state", state}});
}

prometheus::Histogram& MakeHistogram(prometheus::Registry& registry, const char* name,
                                     const char* help) {
  const prometheus::Histogram::BucketBoundaries seconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                        0.1,   0.25,   0.5,   1,    2.5,   5};
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, seconds);
}

}  // namespace

CounterFamily::CounterFamily(prometheus::Family<prometheus::Counter>& family,
                             const std::string& label,
                             std::initializer_list<std::string_view> values) {
  for (const std::string_view value : values) {
    counters_.emplace(value, &family.Add({{label, std::string(value)}}));
  }
  counters_.emplace("other", &family.Add({{label, "other"}}));
}

prometheus::Counter& CounterFamily::With(std::string_view value) {
  const auto found = counters_.find(value);
  return found == counters_.end() ? *counters_.find("other")->second : *found->second;
}

BackupGauges::BackupGauges(prometheus::Registry& registry)
    : gauges_(
          {{MakeGauges(registry, "muster_backups", "Backups that are in their repository."),
            [](const BackupFigures& f) { return static_cast<double>(f.kept); }},
           {MakeGauges(registry, "muster_backups_verified",
                       "Backups that were proven as their job asks for."),
            [](const BackupFigures& f) { return static_cast<double>(f.verified); }},
           {MakeGauges(registry, "muster_backup_last_timestamp_seconds",
                       "The moment whose state the newest backup holds; 0 if there is none."),
            [](const BackupFigures& f) { return Seconds(f.newest_at); }},
           {MakeGauges(registry, "muster_backup_last_verified_timestamp_seconds",
                       "The moment whose state the newest verified backup holds; 0 if there is "
                       "none."),
            [](const BackupFigures& f) { return Seconds(f.verified_at); }},
           {MakeGauges(registry, "muster_backup_source_bytes", "What the newest backup holds."),
            [](const BackupFigures& f) { return static_cast<double>(f.source_bytes); }},
           {MakeGauges(registry, "muster_backup_stored_bytes",
                       "What the newest backup takes in its repository."),
            [](const BackupFigures& f) { return static_cast<double>(f.stored_bytes); }},
           {MakeGauges(registry, "muster_backup_restore_seconds",
                       "How long the last restore took until it answered; 0 if there was none."),
            [](const BackupFigures& f) { return absl::ToDoubleSeconds(f.restore_took); }}}),
      series_(gauges_.size()) {}

void BackupGauges::Set(const std::map<std::string, BackupFigures>& figures) {
  const absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < gauges_.size(); ++i) {
    for (const auto& [job, series] : series_[i])
      if (!figures.contains(job)) gauges_[i].family.Remove(series);
    std::erase_if(series_[i], [&](const auto& entry) { return !figures.contains(entry.first); });
    for (const auto& [job, one] : figures) {
      auto [at, is_new] = series_[i].try_emplace(job, nullptr);
      if (is_new) at->second = &gauges_[i].family.Add({{"job", job}});
      at->second->Set(gauges_[i].value(one));
    }
  }
}

Metrics::Metrics(std::string_view version)
    : registry_(std::make_shared<prometheus::Registry>()),
      agents_connected(MakeGauge(*registry_, "muster_agents_connected", "Agents with a session.")),
      connections(MakeGauge(*registry_, "muster_connections",
                            "Connections open, with those that wait to be let in.")),
      connections_limit(MakeGauge(*registry_, "muster_connections_limit",
                                  "Connections that are taken at most (maxConnections).")),
      results_stored(MakeCounter(*registry_, "muster_results_stored_total", "Results committed.")),
      batches_stored(MakeCounter(*registry_, "muster_batches_stored_total", "Batches committed.")),
      batches_refused(
          MakeFamily(*registry_, "muster_batches_refused_total", "Batches not committed."),
          "reason", {"invalid", "fenced", "duplicate", "too_large", "queue_full", "store"}),
      commit_seconds(MakeHistogram(*registry_, "muster_commit_duration_seconds",
                                   "Time of a commit of many batches.")),
      ingest_queue_batches(MakeGauge(*registry_, "muster_ingest_queue_batches",
                                     "Batches that wait for their commit.")),
      alerts_firing(MakeGauge(*registry_, "muster_alerts_firing", "Alerts that fire.")),
      outbox_waiting(
          MakeGauge(*registry_, "muster_outbox_waiting", "Notifications not accepted yet.")),
      outbox_failed(
          MakeGauge(*registry_, "muster_outbox_failed", "Notifications that were given up.")),
      sessions_opened(MakeCounter(*registry_, "muster_sessions_opened_total", "Sessions opened.")),
      connections_refused(
          MakeFamily(*registry_, "muster_connections_refused_total", "Connections not served."),
          "reason", {"limit", "busy", "denied"}),
      connections_silent(MakeCounter(*registry_, "muster_connections_silent_total",
                                     "Connections ended because nothing came over them any more.")),
      transitions_no_data(MakeCounter(*registry_, "muster_no_data_transitions_total",
                                      "Check states that became NO_DATA.")),
      authority_not_after(MakeGauge(*registry_,
                                    "muster_certificate_authority_not_after_timestamp_seconds",
                                    "When the certificate authority expires.")),
      leader(MakeGauge(*registry_, "muster_leader", "1 while this replica leads.")),
      leader_epoch(MakeGauge(*registry_, "muster_leader_epoch",
                             "The newest term that this replica has seen, whoever leads in it.")),
      leader_terms(
          MakeCounter(*registry_, "muster_leader_terms_total", "Terms that this replica began.")),
      leader_writes_refused(MakeCounter(*registry_, "muster_leader_writes_refused_total",
                                        "Writes of a leader that came after its term.")),
      replicas_live(MakeReplicas(*registry_, "live")),
      replicas_draining(MakeReplicas(*registry_, "draining")),
      replicas_lost(MakeReplicas(*registry_, "lost")),
      heartbeats_failed(MakeCounter(*registry_, "muster_heartbeats_failed_total",
                                    "Heartbeats that did not reach the store.")),
      heartbeat_seconds(MakeGauge(*registry_, "muster_heartbeat_duration_seconds",
                                  "How long the last heartbeat took.")),
      runs_queued(MakeGauge(*registry_, "muster_runs_queued", "Runs that have not begun.")),
      runs_running(MakeGauge(*registry_, "muster_runs_running", "Runs that have begun.")),
      backups(*registry_),
      runs(MakeFamily(*registry_, "muster_runs_total", "Runs that are over."), "state",
           {"succeeded", "failed", "timed_out", "cancelled", "missed", "unknown"}),
      reports_refused(MakeCounter(*registry_, "muster_reports_refused_total",
                                  "Runs that hosts told of, and that were not stored.")),
      audit_contradictions(MakeGauge(*registry_, "muster_audit_contradictions",
                                     "Witnesses whose checkpoint is not in the audit chain.")),
      redis_up(MakeGauge(*registry_, "muster_redis_up",
                         "1 while hints go out to the other replicas and come in from them.")),
      redis_hints_published(MakeCounter(*registry_, "muster_redis_hints_published_total",
                                        "Hints to other replicas that Redis took.")),
      redis_hints_heard(
          MakeCounter(*registry_, "muster_redis_hints_heard_total", "Hints of other replicas.")) {
  auto& sent = MakeFamily(*registry_, "muster_notifications_total", "Attempts to tell a receiver.");
  for (const char* kind : {"webhook", "slack", "email", "other"}) {
    for (const char* outcome : {"delivered", "retry", "failed"}) {
      notifications_[{kind, outcome}] = &sent.Add({{"receiver_kind", kind}, {"outcome", outcome}});
    }
  }
  prometheus::BuildGauge()
      .Name("muster_build_info")
      .Help("Always 1; the version is a label.")
      .Register(*registry_)
      .Add({{"version", std::string(version)}})
      .Set(1);
}

prometheus::Counter& Metrics::Notifications(std::string_view kind, std::string_view outcome) {
  const auto found = notifications_.find({std::string(kind), std::string(outcome)});
  return found == notifications_.end() ? *notifications_.at({"other", "failed"}) : *found->second;
}

void Metrics::AuthorityExpires(absl::Time at) {
  authority_not_after.Set(absl::ToDoubleSeconds(at - absl::UnixEpoch()));
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

}  // namespace muster::control
