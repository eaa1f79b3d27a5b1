#include "control-plane/ingest/committer.h"

#include <utility>

#include "control-plane/ingest/blame.h"
#include "control-plane/store/run_events.h"
#include "lib/base/log.h"
#include "lib/base/seeded_bugs.h"

namespace muster::control {
namespace {

size_t SizeOf(const BatchCommit& batch) { return batch.payload.size() + 512; }

// Whether it tells more than that all is as it was.
bool TellsNews(const BatchCommit& batch) {
  return !batch.transitions.empty() || !batch.run_events.empty() || !batch.gaps.empty();
}

}  // namespace

Committer::Committer(HistoryStore& history, const Clock& clock, CommitterOptions options,
                     absl::AnyInvocable<void()> on_transitions)
    : history_(history),
      clock_(clock),
      options_(options),
      on_transitions_(std::move(on_transitions)),
      thread_("commit", [this] { Work(); }) {}

Committer::~Committer() { Stop(); }

void Committer::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

Status Committer::Submit(BatchCommit batch, Done done) {
  absl::MutexLock lock(&mutex_);
  if (counts_.waiting_bytes + SizeOf(batch) > options_.most_waiting_bytes) {
    ++counts_.refused;
    return ResourceExhausted("{} bytes of batches wait for the store; send them again later",
                             counts_.waiting_bytes);
  }
  counts_.waiting_bytes += SizeOf(batch);
  if (TellsNews(batch)) ++news_;
  queue_.push_back({std::move(batch), std::move(done)});
  return OkStatus();
}

CommitterCounts Committer::counts() const {
  absl::MutexLock lock(&mutex_);
  CommitterCounts counts = counts_;
  counts.waiting = queue_.size();
  return counts;
}

Status Committer::health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

void Committer::Work() {
  while (true) {
    std::vector<Waiting> group = TakeGroup();
    if (group.empty()) return;
    CommitGroup(std::move(group));
  }
}

std::vector<Committer::Waiting> Committer::TakeGroup() {
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  };
  const auto enough = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || news_ > 0 || queue_.size() >= options_.enough;
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&ready));
  mutex_.AwaitWithTimeout(absl::Condition(&enough), options_.gather);
  std::vector<Waiting> group;
  if (stopping_) return group;
  size_t results = 0;
  while (!queue_.empty() && group.size() < options_.batches_a_commit &&
         results < options_.results_a_commit) {
    results += queue_.front().batch.results;
    counts_.waiting_bytes -= SizeOf(queue_.front().batch);
    if (TellsNews(queue_.front().batch)) --news_;
    group.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return group;
}

void Committer::CommitGroup(std::vector<Waiting> group) {
  std::vector<BatchCommit> batches;
  for (Waiting& waiting : group) batches.push_back(std::move(waiting.batch));
  if (Seeded(SeededBug::kAckBeforeCommit)) {
    for (Waiting& waiting : group) std::exchange(waiting.done, [](const Status&) {})(OkStatus());
  }
  while (true) {
    const absl::Duration began = clock_.Uptime();
    std::vector<RefusedReport> refused;
    const StatusOr<std::vector<Status>> outcome = history_.Commit(batches, clock_.Now(), &refused);
    if (outcome.ok()) {
      Report(OkStatus());
      Count(refused);
      Count(batches, *outcome, clock_.Uptime() - began);
      std::vector<BatchOutcome> outcomes;
      for (size_t i = 0; i < group.size(); ++i) {
        outcomes.push_back({std::move(group[i].done), (*outcome)[i]});
      }
      return options_.deliver(std::move(outcomes));
    }
    if (LiesInWhatIsStored(outcome.status())) {
      for (size_t i = 0; i < group.size(); ++i) group[i].batch = std::move(batches[i]);
      return HandBack(std::move(group), outcome.status());
    }
    Report(outcome.status());
    if (PauseBeforeRetry()) continue;
    for (Waiting& waiting : group) waiting.done(Unavailable("the control plane is stopping"));
    return;
  }
}

void Committer::HandBack(std::vector<Waiting> group, const Status& why) {
  if (group.size() > 1) {
    for (Waiting& waiting : group) {
      std::vector<Waiting> alone;
      alone.push_back(std::move(waiting));
      CommitGroup(std::move(alone));
    }
    return;
  }
  const BatchCommit& batch = group.front().batch;
  LogError("a batch cannot be stored", {{"agent", batch.agent},
                                        {"first", batch.first_sequence},
                                        {"last", batch.last_sequence},
                                        {"error", why}});
  {
    absl::MutexLock lock(&mutex_);
    ++counts_.refused;
  }
  group.front().done(why);
}

void Committer::Count(const std::vector<BatchCommit>& batches, const std::vector<Status>& outcomes,
                      absl::Duration took) {
  bool transitions = false;
  bool runs = false;
  {
    absl::MutexLock lock(&mutex_);
    ++counts_.commits;
    for (size_t i = 0; i < batches.size(); ++i) {
      if (!outcomes[i].ok()) {
        ++counts_.aborted;
        continue;
      }
      ++counts_.batches;
      counts_.results += batches[i].results;
      counts_.transitions += batches[i].transitions.size();
      transitions |= !batches[i].transitions.empty();
      runs |= !batches[i].run_events.empty();
    }
  }
  options_.on_commit(took);
  if (transitions) on_transitions_();
  if (runs) options_.on_runs();
}

void Committer::Count(const std::vector<RefusedReport>& refused) {
  if (refused.empty()) return;
  {
    absl::MutexLock lock(&mutex_);
    counts_.reports_refused += refused.size();
  }
  // An agent that tells of many is heard of once a commit.
  const RefusedReport& first = refused.front();
  LogWarning("a run that a host tells of is not stored", {{"agent", first.agent},
                                                          {"job", first.job},
                                                          {"why", first.why},
                                                          {"further", refused.size() - 1}});
}

void Committer::Report(const Status& status) {
  Status before;
  {
    absl::MutexLock lock(&mutex_);
    before = health_;
    health_ = status;
  }
  if (status.code() == before.code()) return;
  if (status.ok()) {
    LogInfo("the store takes results again");
  } else {
    LogError("the store takes no results; they wait with the agents", {{"error", status}});
  }
}

bool Committer::PauseBeforeRetry() {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.retry);
  return !stopping_;
}

}  // namespace muster::control
