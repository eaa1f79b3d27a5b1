#include "agent/jobs/end_teller.h"

#include <algorithm>
#include <utility>

#include "agent/jobs/attempt.h"
#include "agent/jobs/attempt_processes.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr size_t kPage = 512;
constexpr size_t kPageBytes = 1 << 20;
constexpr absl::Duration kTrimEvery = absl::Hours(1);

AttemptKey KeyOf(const v1::RunEvent& event) { return {event.run_id(), event.fence()}; }

bool IsEndOf(const v1::Record& record, const AttemptKey& key) {
  return record.has_run_event() && record.run_event().has_ended() &&
         KeyOf(record.run_event()) == key;
}

bool HostRestarted(const JournalEntry& entry) {
  const StatusOr<std::string> now = ReadFile("/proc/sys/kernel/random/boot_id");
  return entry.process && now.ok() && Trim(*now) != entry.process->boot_id;
}

std::string WhyUnknown(const JournalEntry& entry, const ProcessesEnded& ended) {
  std::string why = HostRestarted(entry) ? "the host went down while it ran"
                                         : "the agent was killed while it ran";
  why += ": nobody saw its end";
  if (!entry.step.empty()) why += fmt::format("; it was at: {}", entry.step);
  if (ended.ended > 0) why += fmt::format("; ended {} that it left", CountProcesses(ended.ended));
  if (ended.left > 0) {
    why += fmt::format("; could not end {} that it left", CountProcesses(ended.left));
  }
  return why;
}

v1::RunEvent UnknownEnd(const JournalEntry& entry, const ProcessesEnded& ended, absl::Time now) {
  v1::RunEvent event;
  event.set_run_id(entry.key.run_id);
  event.set_fence(entry.key.fence);
  *event.mutable_at() = wire::ToProto(now);
  event.mutable_ended()->set_outcome(v1::RUN_OUTCOME_UNKNOWN);
  event.mutable_ended()->set_reason(WhyUnknown(entry, ended));
  event.mutable_ended()->set_exit_code(-1);
  return event;
}

}  // namespace

EndTeller::EndTeller(RunJournal& journal, Recorder& recorder, Spool& spool, const Clock& clock,
                     EndTellerOptions options)
    : journal_(journal),
      recorder_(recorder),
      spool_(spool),
      clock_(clock),
      options_(options),
      thread_("run-ends", [this] { Work(); }) {}

EndTeller::~EndTeller() { (void)Stop(absl::ZeroDuration()); }

void EndTeller::Tell(v1::RunEvent end) {
  absl::MutexLock lock(&mutex_);
  queue_.push_back({KeyOf(end), std::move(end)});
}

void EndTeller::Remind(const AttemptKey& key) {
  absl::MutexLock lock(&mutex_);
  const bool waits =
      std::any_of(queue_.begin(), queue_.end(), [&](const Job& job) { return job.key == key; });
  if (!waits) queue_.push_back({key, std::nullopt});
}

bool EndTeller::Holds(const AttemptKey& key) const {
  absl::MutexLock lock(&mutex_);
  return std::any_of(queue_.begin(), queue_.end(),
                     [&](const Job& job) { return job.end && job.key == key; });
}

void EndTeller::SetAssigned(std::set<std::string> run_ids) {
  absl::MutexLock lock(&mutex_);
  assigned_ = std::move(run_ids);
}

bool EndTeller::Stop(absl::Duration within) {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (!mutex_.AwaitWithTimeout(absl::Condition(&over_), within)) return false;
  }
  thread_.Join();
  return true;
}

void EndTeller::Work() {
  for (const JournalEntry& entry : journal_.left_open()) Settle(entry);
  while (const std::optional<Job> job = Next()) {
    const Status done = Do(*job);
    if (!done.ok()) {
      LogWarning("the end of a run cannot be written yet",
                 {{"run", job->key.run_id}, {"attempt", job->key.fence}, {"error", done}});
      if (!Rest(options_.retry)) break;
      continue;
    }
    {
      absl::MutexLock lock(&mutex_);
      queue_.pop_front();
    }
    Trim();
  }
  absl::MutexLock lock(&mutex_);
  over_ = true;
}

// The first one, without taking it: until it is done it is held. None once it is to stop and
// nothing is left.
std::optional<EndTeller::Job> EndTeller::Next() {
  const auto any = [this]()
                       ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !queue_.empty(); };
  absl::MutexLock lock(&mutex_, absl::Condition(&any));
  if (queue_.empty()) return std::nullopt;
  return queue_.front();
}

// False once it is to stop.
bool EndTeller::Rest(absl::Duration most) {
  absl::MutexLock lock(&mutex_);
  return !mutex_.AwaitWithTimeout(absl::Condition(&stopping_), most);
}

void EndTeller::Settle(const JournalEntry& entry) {
  if (entry.end) return Tell(*entry.end);
  const ProcessesEnded ended = EndLeftovers(entry.key, entry.process, options_.leftover_grace);
  v1::RunEvent end = UnknownEnd(entry, ended, clock_.Now());
  LogWarning(
      "nobody saw the end of a run",
      {{"run", entry.key.run_id}, {"attempt", entry.key.fence}, {"reason", end.ended().reason()}});
  Tell(RunRecord(std::move(end)).run_event());
}

Status EndTeller::Do(const Job& job) {
  if (job.end) MUSTER_RETURN_IF_ERROR(journal_.End(*job.end, spool_.position()));
  return TellOf(job.key);
}

Status EndTeller::TellOf(const AttemptKey& key) {
  MUSTER_ASSIGN_OR_RETURN(const JournalEntry entry, journal_.Read(key));
  if (!entry.end) return OkStatus();  // it runs
  const bool told = journal_.Look(key) == RunJournal::State::kTold;
  MUSTER_ASSIGN_OR_RETURN(std::optional<uint64_t> sequence, FindInLog(entry, told));
  if (sequence && told) return OkStatus();
  if (!sequence) {
    v1::Record record;
    *record.mutable_run_event() = *entry.end;
    MUSTER_ASSIGN_OR_RETURN(sequence, recorder_.Write(std::move(record)));
  }
  return journal_.Told(key, {spool_.position().epoch, *sequence});
}

// Where the log holds the attempt's end. Within the epoch that was noted it stands at a known
// place (told) or behind one; in another epoch, anywhere.
StatusOr<std::optional<uint64_t>> EndTeller::FindInLog(const JournalEntry& entry, bool told) const {
  const bool same = entry.log.epoch == spool_.position().epoch;
  uint64_t from = !same ? 1 : told ? entry.log.written : entry.log.written + 1;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<v1::Record> records,
                            spool_.ReadFrom(from, told && same ? 1 : kPage, kPageBytes));
    for (const v1::Record& record : records) {
      if (IsEndOf(record, entry.key)) return record.sequence();
    }
    if (records.empty() || (told && same)) return std::nullopt;
    from = records.back().sequence() + 1;
  }
}

void EndTeller::Trim() {
  if (clock_.Uptime() - trimmed_at_ < kTrimEvery) return;
  trimmed_at_ = clock_.Uptime();
  std::set<std::string> assigned;
  {
    absl::MutexLock lock(&mutex_);
    assigned = assigned_;
  }
  const Status trimmed = journal_.Trim(assigned, clock_.Now());
  if (!trimmed.ok()) LogWarning("the journal of runs is not trimmed", {{"error", trimmed}});
}

}  // namespace muster::agent
