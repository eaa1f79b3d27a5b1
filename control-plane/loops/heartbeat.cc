#include "control-plane/loops/heartbeat.h"

#include <algorithm>
#include <utility>

#include "lib/base/log.h"

namespace muster::control {

Heartbeat::Heartbeat(Store& store, const Clock& clock, ReplicaRow self, HeartbeatOptions options)
    : store_(store),
      clock_(clock),
      self_(std::move(self)),
      options_(std::move(options)),
      policy_(options_.policy) {
  // Until the first beat: this replica alone, as of its start.
  absl::MutexLock lock(&mutex_);
  view_.replicas = {self_};
  view_.policy = policy_;
  view_.now = view_.serving_since = self_.started_at;
  view_.at = clock_.Uptime();
}

Heartbeat::~Heartbeat() { Stop(); }

void Heartbeat::Start() {
  thread_ = exec::Thread("heartbeat", [this] { Work(); });
}

void Heartbeat::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

Status Heartbeat::Drain() {
  const Status drained = store_.cluster().Drain(self_);
  Wake();
  return drained;
}

void Heartbeat::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

void Heartbeat::Work() {
  const auto called = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return woken_ || stopping_; };
  while (true) {
    const absl::Duration next = Once();
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&called), next);
    if (stopping_) return;
    woken_ = false;
  }
}

absl::Duration Heartbeat::Once() {
  // Before the transaction: the lease is believed in for no longer than the database holds it.
  const absl::Duration began = clock_.Uptime();
  const StatusOr<Beat> beat =
      store_.cluster().Heartbeat(self_, [this](const LeaseFacts& facts) { return Decide(facts); });
  if (!beat.ok()) {
    NoteFailure(beat.status());
    return policy_.beat_every / 4;
  }
  Note(*beat, began);
  HandOn(*beat, began);
  return NextBeatIn(*beat, self_.id, policy_);
}

LeaseDecision Heartbeat::Decide(LeaseFacts facts) {
  const absl::Duration uptime = clock_.Uptime();
  if (facts.lease != seen_lease_) {
    seen_lease_ = facts.lease;
    seen_lease_at_ = uptime;
  }
  facts.unchanged_for = uptime - seen_lease_at_;
  return DecideLease(facts, policy_);
}

void Heartbeat::Note(const Beat& beat, absl::Duration began) {
  if (!last_problem_.empty()) LogInfo("the heart beats again", {{"replica", self_.id}});
  last_problem_.clear();
  const absl::Duration took = clock_.Uptime() - began;
  // One slow beat is a pause or a failover, and must not make the next leader wait; two are a slow
  // database.
  took_[beat_++ % took_.size()] = took;
  auto longest = took_;
  std::sort(longest.begin(), longest.end());
  policy_ = Stretched(options_.policy, longest[longest.size() - 2]);
  absl::MutexLock lock(&mutex_);
  const bool gap = beat.now > view_.now + policy_.lease || beat.now < view_.now;
  if (gap || view_.watched_since == absl::InfiniteFuture()) view_.watched_since = beat.now;
  view_.replicas = beat.replicas;
  view_.lease = beat.decision.lease;
  view_.now = beat.now;
  view_.at = began;
  view_.serving_since = ServingSince(beat.replicas, beat.now, policy_);
  ++view_.beats;
  view_.took = took;
  view_.policy = policy_;
}

void Heartbeat::NoteFailure(const Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    ++view_.failures;
  }
  const std::string problem = Text(status);
  if (problem != last_problem_) LogError("the heart misses a beat", {{"error", status}});
  last_problem_ = problem;
  if (IsReplaced(status)) options_.on_replaced(status);
}

void Heartbeat::HandOn(const Beat& beat, absl::Duration began) {
  const LeaseDecision& decision = beat.decision;
  if (beat.was_lost) {
    LogWarning("this replica had been declared lost, and is back", {{"replica", self_.id}});
    options_.on_found();
  }
  if (decision.act == LeaseAct::kLeave) {
    options_.on_leave();
  } else {
    options_.on_lead(decision.lease.epoch, began + (decision.lease.until - beat.now));
  }
  if (decision.lease.holder == last_holder_) return;
  last_holder_ = decision.lease.holder;
  LogInfo("the leader changed", {{"leader", last_holder_.empty() ? "none" : last_holder_},
                                 {"term", decision.lease.epoch.value},
                                 {"reason", decision.reason}});
}

Heartbeat::View Heartbeat::view() const {
  absl::MutexLock lock(&mutex_);
  return view_;
}

std::vector<std::string> Heartbeat::Servers() const {
  absl::MutexLock lock(&mutex_);
  return ServersOf(view_.replicas, self_, view_.now, view_.policy);
}

bool Heartbeat::CutOff() const {
  absl::MutexLock lock(&mutex_);
  return IsCutOff(view_.replicas, self_.id, view_.now, clock_.Uptime() - view_.at, view_.policy);
}

}  // namespace muster::control
