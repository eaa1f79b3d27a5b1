#include "control-plane/term_work.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <utility>

#include "control-plane/loops/absence_loop.h"
#include "control-plane/loops/alert_loop.h"
#include "control-plane/loops/backup_loop.h"
#include "control-plane/loops/cluster_loop.h"
#include "control-plane/loops/job_loop.h"
#include "control-plane/loops/presence.h"
#include "control-plane/loops/retention_loop.h"
#include "control-plane/loops/runner.h"
#include "control-plane/notify/notifier.h"

namespace muster::control {
namespace {

// "timed_out" of RUN_STATE_TIMED_OUT.
std::string StateLabel(v1::RunState state) {
  constexpr size_t kPrefix = sizeof("RUN_STATE_") - 1;
  std::string label = v1::RunState_Name(state).substr(kPrefix);
  std::transform(label.begin(), label.end(), label.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return label;
}

class TermWork final : public LeaderWork {
 public:
  TermWork(const TermSurroundings& around, std::shared_ptr<Term> term)
      : around_(around),
        term_(std::move(term)),
        presence_(around.store, around.heartbeat.view().serving_since),
        notifier_(around.store, around.clock, around.random, Telling()),
        alert_loop_(around.store, term_->epoch(), presence_, Alerts()),
        absence_loop_(around.store, term_->epoch(), presence_, Absence()),
        cluster_loop_(around.store, term_->epoch(), Cluster()),
        job_loop_(around.store, term_->epoch(), Jobs()),
        backup_loop_(around.store, term_->epoch(), Backups()),
        retention_loop_(around.store, term_->epoch(),
                        {.history = around.config.keep_history,
                         .resolved_alerts = around.config.keep_resolved_alerts,
                         .runs = around.config.keep_runs}) {
    alert_runner_.emplace("alerts", absl::Milliseconds(500), around_.clock, Guarded(alert_loop_));
    absence_runner_.emplace("absence", absl::Seconds(1), around_.clock, Guarded(absence_loop_));
    cluster_runner_.emplace("cluster", absl::Seconds(1), around_.clock, Guarded(cluster_loop_));
    job_runner_.emplace("jobs", absl::Milliseconds(500), around_.clock, Guarded(job_loop_));
    backup_runner_.emplace("backups", absl::Seconds(1), around_.clock, Guarded(backup_loop_));
    retention_runner_.emplace("retention", absl::Hours(1), around_.clock, Guarded(retention_loop_));
  }

  ~TermWork() override {
    // The slowest to stop is told first.
    notifier_.Stop();
    for (auto* runner : {&retention_runner_, &backup_runner_, &job_runner_, &cluster_runner_,
                         &absence_runner_, &alert_runner_}) {
      (*runner)->Stop();
    }
    Count(AlertCounts{});
    Count(JobCounts{});
    Count(std::map<std::string, BackupSummary>{});
  }

  void Wake() override {
    alert_runner_->Wake();
    job_runner_->Wake();
  }

 private:
  // Ticks only while the term holds; a tick that is refused ends it.
  template <typename Loop>
  Runner::TickFunction Guarded(Loop& loop) {
    return [this, &loop](absl::Time now) {
      return term_->Holds() ? term_->Note(loop.Tick(now)) : OkStatus();
    };
  }

  NotifierOptions Telling() {
    NotifierOptions options;
    options.epoch = term_->epoch();
    options.may_send = [this] { return term_->Holds(); };
    options.on_fenced = [this](const Status& status) { term_->Note(status).IgnoreError(); };
    options.on_attempt = [this](std::string_view kind, std::string_view outcome) {
      around_.metrics.Notifications(kind, outcome).Increment();
    };
    return options;
  }

  AlertLoopOptions Alerts() {
    AlertLoopOptions options;
    options.on_told = [this] { notifier_.Wake(); };
    options.on_counts = [this](const AlertCounts& counts) { Count(counts); };
    return options;
  }

  AbsenceLoopOptions Absence() {
    AbsenceLoopOptions options;
    options.on_no_data = [this](const NoDataMarks& marks) {
      for (const std::string& agent : marks.agents) around_.on_states(agent);
      around_.metrics.transitions_no_data.Increment(marks.states);
      around_.on_transitions();
    };
    return options;
  }

  ClusterLoopOptions Cluster() {
    ClusterLoopOptions options;
    options.watched_since = [this] { return around_.heartbeat.view().watched_since; };
    options.policy = [this] { return around_.heartbeat.view().policy; };
    options.on_lost = [this] { around_.on_transitions(); };
    return options;
  }

  JobLoopOptions Jobs() {
    JobLoopOptions options;
    options.on_changed = [this] {
      around_.on_runs();
      alert_runner_->Wake();
    };
    options.on_counts = [this](const JobCounts& counts) { Count(counts); };
    options.on_over = [this](v1::RunState state) {
      around_.metrics.runs.With(StateLabel(state)).Increment();
    };
    return options;
  }

  BackupLoopOptions Backups() {
    BackupLoopOptions options;
    options.on_changed = [this] {
      around_.on_runs();
      job_runner_->Wake();
    };
    options.on_summaries = [this](const std::map<std::string, BackupSummary>& summaries) {
      Count(summaries);
      alert_runner_->Wake();
    };
    return options;
  }

  // Elsewhere than on the leader there are none.
  void Count(const std::map<std::string, BackupSummary>& summaries) {
    std::map<std::string, BackupFigures> figures;
    for (const auto& [job, summary] : summaries) {
      figures[job] = {.kept = summary.kept,
                      .verified = summary.verified,
                      .newest_at = summary.newest_at,
                      .verified_at = summary.verified_at,
                      .source_bytes = summary.source_bytes,
                      .stored_bytes = summary.stored_bytes,
                      .restore_took = summary.restore_took};
    }
    around_.metrics.backups.Set(figures);
  }

  // Elsewhere than on the leader these are 0.
  void Count(const JobCounts& counts) {
    around_.metrics.runs_queued.Set(static_cast<double>(counts.queued));
    around_.metrics.runs_running.Set(static_cast<double>(counts.running));
  }

  void Count(const AlertCounts& counts) {
    Metrics& metrics = around_.metrics;
    metrics.alerts_firing.Set(static_cast<double>(counts.alerts_firing));
    metrics.outbox_waiting.Set(static_cast<double>(counts.outbox.waiting));
    metrics.outbox_failed.Set(static_cast<double>(counts.outbox.failed));
  }

  const TermSurroundings& around_;
  const std::shared_ptr<Term> term_;
  // A change of leader is no absence of the control plane.
  Presence presence_;
  Notifier notifier_;
  AlertLoop alert_loop_;
  AbsenceLoop absence_loop_;
  ClusterLoop cluster_loop_;
  JobLoop job_loop_;
  BackupLoop backup_loop_;
  RetentionLoop retention_loop_;
  std::optional<Runner> alert_runner_, absence_runner_, cluster_runner_, job_runner_,
      backup_runner_, retention_runner_;
};

}  // namespace

std::unique_ptr<LeaderWork> BeginTerm(const TermSurroundings& around, std::shared_ptr<Term> term) {
  return std::make_unique<TermWork>(around, std::move(term));
}

}  // namespace muster::control
