#include "agent/checks/checker.h"

#include <algorithm>
#include <deque>
#include <queue>
#include <utility>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/decide/check_state.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {

struct Checker::Run {
  std::shared_ptr<Check> check;
  absl::Time observed_at;
  absl::Duration started;
  absl::Duration give_up;
};

struct Checker::Check {
  enum class Phase { kWaiting, kQueued, kRunning, kStuck };

  uint32_t id = 0;
  std::string name;
  std::string spec_bytes;
  v1::CheckSpec spec;
  Cadence cadence;
  absl::Duration timeout;
  std::unique_ptr<Probe> probe;  // none if it was refused; used by the one thread that runs it
  Status refused;

  Phase phase = Phase::kWaiting;
  bool removed = false;
  bool looked = false;  // it has had its first slot
  absl::Duration due;   // a Due with another time is stale
  decide::CheckBelief belief;
  LastSaid said;
};

struct Checker::Due {
  absl::Duration at;
  std::shared_ptr<Check> check;
  bool operator<(const Due& other) const { return at > other.at; }  // the earliest on top
};

struct Checker::Schedule {
  std::map<uint32_t, std::shared_ptr<Check>> checks;
  std::priority_queue<Due> dues;
  std::deque<std::shared_ptr<Check>> ready;
  std::vector<Run> running;
  std::deque<std::pair<v1::CheckResult, Novelty>> outbox;
  CheckerCounts counts;
  size_t idle = 0;
  size_t ended = 0;
  bool changed = false;
  bool stopping = false;
};

namespace {

Cadence MakeCadence(const v1::PlannedCheck& planned, const std::string& agent) {
  const v1::CheckSpec& spec = planned.spec();
  Cadence cadence;
  cadence.every = std::max(wire::FromProto(spec.every()), absl::Milliseconds(100));
  cadence.retry_every = cadence.every;
  if (spec.confirm().has_retry_every()) {
    cadence.retry_every =
        std::max(wire::FromProto(spec.confirm().retry_every()), absl::Milliseconds(100));
  }
  cadence.splay = Splay(planned.name(), agent, cadence.every);
  return cadence;
}

// Whatever a server or a plugin said: the wire takes valid UTF-8 only.
void CleanTexts(v1::ResultDetail& detail) {
  detail.set_summary(OneLine(detail.summary()));
  detail.set_transcript(CleanText(detail.transcript()));
  for (v1::Metric& metric : *detail.mutable_metrics()) {
    metric.set_name(OneLine(metric.name()));
    metric.set_unit(OneLine(metric.unit()));
  }
  for (v1::Phase& phase : *detail.mutable_phases()) phase.set_name(OneLine(phase.name()));
}

ProbeResult UnknownResult(std::string summary) {
  ProbeResult result;
  result.status = v1::CHECK_STATUS_UNKNOWN;
  result.detail.set_summary(OneLine(summary));
  return result;
}

}  // namespace

Checker::Checker(const Clock& clock, CheckerOptions options, ProbeFactory factory, Sink sink)
    : clock_(clock),
      options_(std::move(options)),
      factory_(std::move(factory)),
      sink_(std::move(sink)),
      schedule_(std::make_unique<Schedule>()),
      keeper_("checks", [this] { Keep(); }) {}

Checker::~Checker() {
  Stop(absl::ZeroDuration());
  std::vector<exec::Thread> workers;
  {
    absl::MutexLock lock(&mutex_);
    workers.swap(workers_);
  }
}

bool Checker::Stop(absl::Duration patience) {
  {
    absl::MutexLock lock(&mutex_);
    schedule_->stopping = true;
    schedule_->ready.clear();
  }
  keeper_.Join();
  const auto ended = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return schedule_->ended == workers_.size();
  };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&ended), patience);
}

std::shared_ptr<Checker::Check> Checker::MakeCheck(const v1::PlannedCheck& planned) const {
  auto check = std::make_shared<Check>();
  check->id = planned.id();
  check->name = planned.name();
  check->spec = planned.spec();
  check->spec_bytes = planned.spec().SerializeAsString();
  check->cadence = MakeCadence(planned, options_.agent);
  check->timeout = wire::FromProto(planned.spec().timeout());
  if (check->timeout <= absl::ZeroDuration()) {
    check->timeout = std::min(check->cadence.every, absl::Seconds(10));
  }
  StatusOr<std::unique_ptr<Probe>> probe = factory_(planned.spec().probe());
  if (probe.ok()) {
    check->probe = *std::move(probe);
  } else {
    check->refused = probe.status();
    LogWarning("a check cannot run here", {{"check", check->name}, {"error", probe.status()}});
  }
  return check;
}

void Checker::Apply(const v1::Plan& plan) {
  std::map<uint32_t, std::shared_ptr<Check>> before;
  {
    absl::MutexLock lock(&mutex_);
    before = schedule_->checks;
  }
  std::map<uint32_t, std::shared_ptr<Check>> after;
  for (const v1::PlannedCheck& planned : plan.checks()) {
    const auto known = before.find(planned.id());
    const bool same = known != before.end() && known->second->name == planned.name() &&
                      known->second->spec_bytes == planned.spec().SerializeAsString();
    after[planned.id()] = same ? known->second : MakeCheck(planned);
  }
  const absl::Duration now = clock_.Uptime();
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, check] : before) {
    const auto kept = after.find(id);
    if (kept == after.end() || kept->second != check) check->removed = true;
  }
  schedule_->checks = after;
  schedule_->counts.checks = after.size();
  for (const auto& [id, check] : after) {
    const auto known = before.find(id);
    if (known != before.end() && known->second == check) continue;
    SetDue(check, FirstDue(check->cadence, now));
  }
}

void Checker::SetDue(const std::shared_ptr<Check>& check, absl::Duration due) {
  check->due = due;
  schedule_->dues.push({due, check});
  schedule_->changed = true;
}

// The keeper's thread: hands due checks to the pool and watches those that run.
void Checker::Keep() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      const absl::Duration wait = NextEvent() - clock_.Uptime();
      const auto woken = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return schedule_->changed || schedule_->stopping;
      };
      mutex_.AwaitWithTimeout(absl::Condition(&woken), std::max(wait, absl::ZeroDuration()));
      schedule_->changed = false;
      if (schedule_->stopping) return;
      const absl::Duration now = clock_.Uptime();
      Watch(now);
      Dispatch(now);
      StartThreads();
    }
    Deliver();
  }
}

absl::Duration Checker::NextEvent() const {
  absl::Duration next = clock_.Uptime() + absl::Hours(1);
  if (!schedule_->dues.empty()) next = std::min(next, schedule_->dues.top().at);
  for (const Run& run : schedule_->running) {
    if (run.check->phase == Check::Phase::kRunning) next = std::min(next, run.give_up);
  }
  return next;
}

void Checker::Dispatch(absl::Duration now) {
  while (!schedule_->dues.empty() && schedule_->dues.top().at <= now) {
    const Due due = schedule_->dues.top();
    schedule_->dues.pop();
    if (!due.check->removed && due.check->due == due.at) Slot(due.check, now);
  }
  schedule_->changed = false;
}

// One slot of a check has come.
void Checker::Slot(const std::shared_ptr<Check>& check, absl::Duration now) {
  const struct Slot next = check->looked ? NextSlot(check->cadence, check->due, now)
                                         : SlotAfterFirst(check->cadence, check->due, now);
  check->looked = true;
  schedule_->counts.skipped += next.skipped;
  SetDue(check, next.due);
  switch (check->phase) {
    case Check::Phase::kWaiting:
      check->phase = Check::Phase::kQueued;
      schedule_->ready.push_back(check);
      return;
    case Check::Phase::kQueued:
    case Check::Phase::kRunning: ++schedule_->counts.skipped; return;
    case Check::Phase::kStuck:
      ++schedule_->counts.skipped;
      Report(*check, clock_.Now(), absl::ZeroDuration(), UnknownResult("probe did not return"));
      return;
  }
}

void Checker::Watch(absl::Duration now) {
  for (Run& run : schedule_->running) {
    if (run.check->phase != Check::Phase::kRunning || run.give_up > now) continue;
    run.check->phase = Check::Phase::kStuck;
    ++schedule_->counts.stuck;
    LogWarning("a probe did not return in time",
               {{"check", run.check->name}, {"timeout", run.check->timeout}});
    if (run.check->removed) continue;
    Report(*run.check, run.observed_at, now - run.started, UnknownResult("probe did not return"));
  }
}

void Checker::StartThreads() {
  const size_t wanted =
      schedule_->ready.size() - std::min(schedule_->ready.size(), schedule_->idle);
  const size_t most = std::min(options_.most_threads, options_.threads + schedule_->counts.stuck);
  for (size_t i = 0; i < wanted && workers_.size() < most; ++i) {
    workers_.emplace_back("probe", [this] { Work(); });
  }
}

void Checker::Work() {
  while (true) {
    std::shared_ptr<Check> check;
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return schedule_->stopping || !schedule_->ready.empty();
      };
      ++schedule_->idle;
      mutex_.Await(absl::Condition(&ready));
      --schedule_->idle;
      if (schedule_->stopping) {
        ++schedule_->ended;
        return;
      }
      check = std::move(schedule_->ready.front());
      schedule_->ready.pop_front();
      if (check->removed) continue;
      check->phase = Check::Phase::kRunning;
    }
    Execute(check);
    Deliver();
  }
}

void Checker::Execute(const std::shared_ptr<Check>& check) {
  Run run{check, clock_.Now(), clock_.Uptime(), {}};
  const absl::Duration deadline = run.started + check->timeout;
  run.give_up = deadline + options_.grace;
  {
    absl::MutexLock lock(&mutex_);
    schedule_->running.push_back(run);
    schedule_->changed = true;
  }
  const ProbeResult found = check->probe == nullptr
                                ? UnknownResult(std::string(Message(check->refused)))
                                : check->probe->Run({clock_, deadline});
  Finish(check, run, found);
}

void Checker::Finish(const std::shared_ptr<Check>& check, const Run& run,
                     const ProbeResult& found) {
  const absl::Duration now = clock_.Uptime();
  absl::MutexLock lock(&mutex_);
  std::erase_if(schedule_->running, [&](const Run& one) { return one.check == check; });
  const bool was_stuck = check->phase == Check::Phase::kStuck;
  check->phase = Check::Phase::kWaiting;
  if (was_stuck) {
    --schedule_->counts.stuck;
    LogInfo("a stuck probe returned", {{"check", check->name}, {"after", now - run.started}});
    return;  // the watchdog has spoken for it
  }
  if (check->removed || schedule_->stopping) return;
  Report(*check, run.observed_at, now - run.started, found);
  const absl::Duration due =
      DueAfterResult(check->cadence, check->belief, run.started, now, check->due);
  if (due < check->due) SetDue(check, due);
}

void Checker::Report(Check& check, absl::Time observed_at, absl::Duration latency,
                     ProbeResult found) {
  CleanTexts(found.detail);
  wire::Clip(found.detail);
  const absl::Duration now = clock_.Uptime();
  const bool news = IsNews(check.said, found.status, found.detail.summary());
  const bool detailed = NeedsDetail(check.said, found.status, found.detail.summary(), now);
  v1::CheckResult result;
  result.set_check_id(check.id);
  *result.mutable_observed_at() = wire::ToProto(observed_at);
  *result.mutable_latency() = wire::ToProto(latency);
  result.set_status(found.status);
  check.said.status = found.status;
  check.said.summary = found.detail.summary();
  if (detailed) {
    check.said.detail_at = now;
    *result.mutable_detail() = std::move(found.detail);
  }
  check.belief =
      decide::Believe(check.belief, found.status, observed_at, check.spec.confirm()).belief;
  ++schedule_->counts.results;
  schedule_->outbox.emplace_back(std::move(result), news ? Novelty::kNews : Novelty::kSteady);
}

// Results leave without the lock, and in the order in which they were reported.
void Checker::Deliver() {
  absl::MutexLock order(&delivery_);
  while (true) {
    std::pair<v1::CheckResult, Novelty> next;
    {
      absl::MutexLock lock(&mutex_);
      if (schedule_->outbox.empty()) return;
      next = std::move(schedule_->outbox.front());
      schedule_->outbox.pop_front();
    }
    sink_(std::move(next.first), next.second);
  }
}

CheckerCounts Checker::counts() const {
  absl::MutexLock lock(&mutex_);
  CheckerCounts counts = schedule_->counts;
  counts.threads = workers_.size();
  counts.queued = schedule_->ready.size();
  return counts;
}

}  // namespace muster::agent
