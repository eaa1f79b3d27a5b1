#include "agent/spool/recorder.h"

#include <algorithm>
#include <utility>

#include "lib/base/log.h"

namespace muster::agent {

Recorder::Recorder(Spool& spool, const Clock& clock, RecorderOptions options, OnWritten on_written)
    : spool_(spool),
      clock_(clock),
      options_(options),
      on_written_(std::move(on_written)),
      thread_("recorder", [this] { Work(); }) {}

Recorder::~Recorder() { Stop(); }

void Recorder::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

void Recorder::Add(v1::Record record, Urgency urgency) {
  const absl::Time now = clock_.Now();
  absl::MutexLock lock(&mutex_);
  urgency_ = std::max(urgency_, urgency);
  if (waiting_.size() < options_.bound) {
    waiting_.push_back(std::move(record));
    return;
  }
  if (lost_++ == 0) lost_from_ = now;
}

StatusOr<uint64_t> Recorder::Write(v1::Record record) {
  std::vector<v1::Record> records;
  records.push_back(std::move(record));
  return Write(std::move(records));
}

StatusOr<uint64_t> Recorder::Write(std::vector<v1::Record> records) {
  if (records.empty()) return InvalidArgument("no record to write");
  absl::MutexLock lock(&mutex_);
  if (stopping_) return Unavailable("the agent is stopping");
  if (waiting_.size() >= options_.bound) {
    return ResourceExhausted("{} records wait for the disk already", options_.bound);
  }
  Waiter waiter{waiting_.size() + records.size() - 1, Internal("not written")};
  for (v1::Record& record : records) waiting_.push_back(std::move(record));
  waiters_.push_back(&waiter);
  urgency_ = Urgency::kUrgent;
  mutex_.Await(absl::Condition(&waiter.done));
  return waiter.sequence;
}

void Recorder::Answer(const std::vector<Waiter*>& waiters, const StatusOr<uint64_t>& last,
                      size_t records) {
  absl::MutexLock lock(&mutex_);
  for (Waiter* waiter : waiters) {
    waiter->sequence = last;
    if (last.ok()) waiter->sequence = *last - (records - 1 - waiter->index);
    waiter->done = true;
  }
}

void Recorder::Work() {
  while (true) {
    {
      const auto any = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !waiting_.empty();
      };
      const auto enough = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || urgency_ == Urgency::kUrgent || waiting_.size() >= options_.batch;
      };
      absl::MutexLock lock(&mutex_, absl::Condition(&any));
      mutex_.AwaitWithTimeout(absl::Condition(&enough), options_.gather);
    }
    if (!TakeAndWrite()) return;
  }
}

// False once it is told to stop and all is written.
bool Recorder::TakeAndWrite() {
  std::vector<v1::Record> records;
  uint64_t lost = 0;
  absl::Time lost_from;
  Urgency urgency = Urgency::kSteady;
  std::vector<Waiter*> waiters;
  bool stopping = false;
  {
    absl::MutexLock lock(&mutex_);
    records.swap(waiting_);
    lost = std::exchange(lost_, 0);
    lost_from = lost_from_;
    urgency = std::exchange(urgency_, Urgency::kSteady);
    waiters.swap(waiters_);
    stopping = stopping_;
  }
  if (const size_t count = records.size(); count > 0 || lost > 0) {
    const StatusOr<uint64_t> written = spool_.Append(std::move(records));
    if (!written.ok()) LogDebug("results not written", {{"error", written.status()}});
    spool_.Lose(lost, v1::Gap::REASON_OVERLOADED, lost_from, clock_.Now());
    Answer(waiters, written, count);
    if (written.ok()) on_written_(urgency);
  }
  return !stopping;
}

}  // namespace muster::agent
