#include "agent/jobs/executor.h"

#include <algorithm>
#include <map>
#include <utility>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr int kMostAssignments = 256;
// Nothing begins for so long after the journal could not be written.
constexpr absl::Duration kAfterFailure = absl::Seconds(5);
constexpr absl::Duration kKilledWithin = absl::Seconds(1);
constexpr absl::Duration kToldWithin = absl::Seconds(1);
constexpr char kStopped[] = "the agent was stopped";

AttemptKey KeyOf(const v1::Assignment& assignment) {
  return {assignment.run_id(), assignment.fence()};
}

bool IsSound(const v1::Assignment& assignment) {
  return wire::IsUuid(assignment.run_id()) && assignment.fence() > 0 &&
         assignment.fence() <= INT64_MAX && assignment.job().find('\0') == std::string::npos;
}

// In their order, of each run the newest attempt.
std::vector<v1::Assignment> SoundOnes(const v1::Assignments& assignments) {
  std::map<std::string, uint64_t> newest;
  const int count = std::min(assignments.items_size(), kMostAssignments);
  for (int i = 0; i < count; ++i) {
    uint64_t& fence = newest[assignments.items(i).run_id()];
    fence = std::max(fence, assignments.items(i).fence());
  }
  std::vector<v1::Assignment> sound;
  for (int i = 0; i < count; ++i) {
    const v1::Assignment& assignment = assignments.items(i);
    if (!IsSound(assignment)) {
      LogWarning("an assignment names no attempt of a run", {{"run", assignment.run_id()}});
    } else if (newest[assignment.run_id()] == assignment.fence()) {
      sound.push_back(assignment);
    }
  }
  return sound;
}

}  // namespace

Executor::Executor(RunJournal& journal, Recorder& recorder, Spool& spool, TaskMaker make_task,
                   const Clock& clock, ExecutorOptions options)
    : journal_(journal),
      recorder_(recorder),
      make_task_(std::move(make_task)),
      clock_(clock),
      options_(options),
      teller_(journal, recorder, spool, clock, options.ends),
      loop_("jobs", options.tick, [this] { Tick(); }) {}

Executor::~Executor() {
  (void)Stop(absl::ZeroDuration());
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &Executor::AllEnded));
  Reap();
}

void Executor::Take(const v1::Assignments& assignments) {
  std::vector<v1::Assignment> sound = SoundOnes(assignments);
  std::set<std::string> run_ids;
  for (const v1::Assignment& assignment : sound) run_ids.insert(assignment.run_id());
  teller_.SetAssigned(std::move(run_ids));
  {
    absl::MutexLock lock(&mutex_);
    assigned_ = std::move(sound);
    heard_ = news_ = true;
  }
  loop_.Wake();
}

void Executor::TakeServerTime(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  server_time_ = now;
  server_time_at_ = clock_.Uptime();
}

absl::Time Executor::ServerNow() const {
  return server_time_ ? *server_time_ + (clock_.Uptime() - server_time_at_) : clock_.Now();
}

void Executor::Tick() {
  bool remembers = false;
  {
    absl::MutexLock lock(&mutex_);
    Reap();
    for (const auto& attempt : running_) attempt->Look(clock_.Uptime());
    if (stopping_ || !heard_) return;
    if (journal_.has_lost_memory()) {
      remembers = !SettleForgotten();
    } else {
      RemindOfTold();
      Apply();
    }
  }
  if (!remembers) return;
  if (const Status kept = journal_.Remember(); !kept.ok()) {
    LogWarning("the journal of runs cannot be written", {{"error", kept}});
  }
}

void Executor::Reap() {
  std::erase_if(running_, [this](const std::unique_ptr<Attempt>& attempt) {
    mutex_.AssertHeld();
    return ended_.contains(attempt->key());
  });
  ended_.clear();
}

void Executor::Apply() {
  std::vector<AttemptFacts> facts;
  for (const v1::Assignment& assignment : assigned_) facts.push_back(FactsOf(assignment));
  const bool may_begin = clock_.Uptime() >= begin_not_before_;
  const size_t slots =
      may_begin ? options_.at_once - std::min(options_.at_once, running_.size()) : 0;
  const std::vector<AttemptDecision> decisions = DecideAttempts(facts, slots, ServerNow());
  for (size_t i = 0; i < decisions.size(); ++i) Carry(assigned_[i], decisions[i]);
}

AttemptFacts Executor::FactsOf(const v1::Assignment& assignment) const {
  const AttemptKey key = KeyOf(assignment);
  AttemptFacts facts;
  // In this order: what one of them lets go of, the next one has.
  if (Find(key) != nullptr) {
    facts.phase = AttemptPhase::kRuns;
  } else if (teller_.Holds(key) || journal_.Look(key) != RunJournal::State::kNew) {
    facts.phase = AttemptPhase::kOver;
  }
  facts.another_runs =
      journal_.EarlierIsOpen(key) ||
      std::any_of(running_.begin(), running_.end(), [&](const std::unique_ptr<Attempt>& attempt) {
        return attempt->key().run_id == key.run_id && attempt->key().fence < key.fence;
      });
  if (assignment.has_start_by()) facts.start_by = wire::FromProto(assignment.start_by());
  facts.stop = assignment.stop();
  facts.stop_reason = assignment.stop_reason();
  return facts;
}

void Executor::Carry(const v1::Assignment& assignment, const AttemptDecision& decision) {
  const AttemptKey key = KeyOf(assignment);
  switch (decision.action) {
    case AttemptAction::kNone: return;
    case AttemptAction::kBegin: return Begin(assignment);
    case AttemptAction::kNever:
      return teller_.Tell(EndEvent(key, v1::RUN_OUTCOME_NEVER_BEGAN, decision.reason));
    case AttemptAction::kCancel:
    case AttemptAction::kTerminate: break;
  }
  Attempt* attempt = Find(key);
  if (attempt == nullptr) return;
  const absl::Duration now = clock_.Uptime();
  attempt->Ask({v1::RUN_OUTCOME_CANCELLED,
                decision.reason.empty() ? "cancelled" : OneLine(decision.reason), now,
                decision.action == AttemptAction::kTerminate});
  attempt->Look(now);
}

void Executor::Begin(const v1::Assignment& assignment) {
  running_.push_back(std::make_unique<Attempt>(
      assignment, AttemptTools{journal_, recorder_, make_task_, clock_},
      [this](const AttemptKey& key, StatusOr<v1::RunEvent> end) { TakeEnd(key, std::move(end)); }));
}

// The attempt's thread.
void Executor::TakeEnd(const AttemptKey& key, StatusOr<v1::RunEvent> end) {
  // Not OK: the journal could not be written, or knows the attempt already.
  const bool failed = !end.ok() && !absl::IsFailedPrecondition(end.status());
  if (end.ok()) teller_.Tell(*std::move(end));
  if (failed) {
    LogError("a run cannot begin: it is tried again",
             {{"run", key.run_id}, {"attempt", key.fence}, {"error", end.status()}});
  }
  {
    absl::MutexLock lock(&mutex_);
    ended_.insert(key);
    if (failed) begin_not_before_ = clock_.Uptime() + kAfterFailure;
    if (stopping_) return;
  }
  loop_.Wake();
}

void Executor::RemindOfTold() {
  if (!std::exchange(news_, false)) return;
  for (const v1::Assignment& assignment : assigned_) {
    const AttemptKey key = KeyOf(assignment);
    if (journal_.Look(key) == RunJournal::State::kTold) teller_.Remind(key);
  }
}

bool Executor::SettleForgotten() {
  bool any = false;
  for (const v1::Assignment& assignment : assigned_) {
    const AttemptKey key = KeyOf(assignment);
    if (teller_.Holds(key)) {
      any = true;
    } else if (journal_.Look(key) == RunJournal::State::kNew) {
      any = true;
      teller_.Tell(EndEvent(key, v1::RUN_OUTCOME_UNKNOWN,
                            "this host's journal of runs was damaged: whether it began is not "
                            "known"));
    }
  }
  return any;
}

v1::RunEvent Executor::EndEvent(const AttemptKey& key, v1::RunOutcome outcome,
                                std::string_view reason) const {
  v1::RunEvent event;
  event.set_run_id(key.run_id);
  event.set_fence(key.fence);
  *event.mutable_at() = wire::ToProto(clock_.Now());
  event.mutable_ended()->set_outcome(outcome);
  event.mutable_ended()->set_reason(OneLine(reason));
  event.mutable_ended()->set_exit_code(-1);
  return RunRecord(std::move(event)).run_event();
}

Attempt* Executor::Find(const AttemptKey& key) const {
  const auto at =
      std::find_if(running_.begin(), running_.end(),
                   [&](const std::unique_ptr<Attempt>& attempt) { return attempt->key() == key; });
  return at == running_.end() ? nullptr : at->get();
}

void Executor::AskAll(bool at_once) {
  const absl::Duration now = clock_.Uptime();
  for (const auto& attempt : running_) {
    attempt->Ask({v1::RUN_OUTCOME_FAILED, kStopped, now, at_once});
    attempt->Look(now);
  }
}

void Executor::AskToStop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
  AskAll(false);
}

bool Executor::Stop(absl::Duration grace) {
  AskToStop();
  loop_.Stop();
  bool all = false;
  {
    const absl::Condition all_ended(this, &Executor::AllEnded);
    absl::MutexLock lock(&mutex_);
    all = mutex_.AwaitWithTimeout(all_ended, grace);
    if (!all) {
      AskAll(true);
      all = mutex_.AwaitWithTimeout(all_ended, kKilledWithin);
    }
    if (all) Reap();
  }
  return teller_.Stop(kToldWithin) && all;
}

}  // namespace muster::agent
