// Gathers records before the log's commit, so that results of one moment share an fsync: whatever
// comes within the gathering time, or until something urgent comes or the batch is full.
//
// Add never blocks. While the disk hangs, at most `bound` records wait; what comes then is counted
// as lost and told by a gap. Any thread may call. Spool and clock must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/exec/threads.h"

namespace muster::agent {

// In ascending order. Steady and soon are gathered alike; soon ones wait less to be sent.
enum class Urgency { kSteady, kSoon, kUrgent };

struct RecorderOptions {
  absl::Duration gather = absl::Milliseconds(200);
  size_t batch = 64;
  size_t bound = 4096;
};

class Recorder {
 public:
  // Called after each commit, by the recorder's thread.
  using OnWritten = std::function<void(Urgency)>;
  Recorder(Spool& spool, const Clock& clock, RecorderOptions options, OnWritten on_written);
  // As Stop.
  ~Recorder();
  // Writes what waits, then ends. Safe to repeat.
  void Stop();

  void Add(v1::Record record, Urgency urgency);
  // As Add, and waits for the commit: the sequence that the record has in the log. After an error
  // it is not in the log, or counted as lost. Records keep the order in which they came, by either
  // way.
  StatusOr<uint64_t> Write(v1::Record record);
  // The same of several, which are in the log together or not at all: the last one's sequence.
  StatusOr<uint64_t> Write(std::vector<v1::Record> records);

 private:
  // Somebody who waits for the commit of the record at `index`.
  struct Waiter {
    size_t index;
    StatusOr<uint64_t> sequence;
    bool done = false;
  };
  void Work();
  bool TakeAndWrite();
  void Answer(const std::vector<Waiter*>& waiters, const StatusOr<uint64_t>& last, size_t records);

  Spool& spool_;
  const Clock& clock_;
  const RecorderOptions options_;
  const OnWritten on_written_;

  absl::Mutex mutex_;
  std::vector<v1::Record> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time lost_from_ ABSL_GUARDED_BY(mutex_);
  Urgency urgency_ ABSL_GUARDED_BY(mutex_) = Urgency::kSteady;
  std::vector<Waiter*> waiters_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::agent
