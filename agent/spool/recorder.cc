#include "agent/spool/recorder.h"

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
  urgent_ = urgent_ || urgency == Urgency::kUrgent;
  if (waiting_.size() < options_.bound) {
    waiting_.push_back(std::move(record));
    return;
  }
  if (lost_++ == 0) lost_from_ = now;
}

void Recorder::Work() {
  while (true) {
    {
      const auto any = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !waiting_.empty();
      };
      const auto enough = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || urgent_ || waiting_.size() >= options_.batch;
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
  bool stopping = false;
  {
    absl::MutexLock lock(&mutex_);
    records.swap(waiting_);
    lost = std::exchange(lost_, 0);
    lost_from = lost_from_;
    urgency = std::exchange(urgent_, false) ? Urgency::kUrgent : Urgency::kSteady;
    stopping = stopping_;
  }
  if (!records.empty() || lost > 0) {
    const StatusOr<uint64_t> written = spool_.Append(std::move(records));
    if (!written.ok()) LogDebug("results not written", {{"error", written.status()}});
    spool_.Lose(lost, v1::Gap::REASON_OVERLOADED, lost_from, clock_.Now());
    if (written.ok()) on_written_(urgency);
  }
  return !stopping;
}

}  // namespace muster::agent
