// Gathers records before the log's commit, so that results of one moment share an fsync: whatever
// comes within the gathering time, or until something urgent comes or the batch is full.
//
// Add never blocks. While the disk hangs, at most `bound` records wait; what comes then is counted
// as lost and told by a gap. Any thread may call. Spool and clock must outlive it.
#pragma once

#include <functional>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/spool/spool.h"
#include "lib/exec/threads.h"

namespace muster::agent {

enum class Urgency { kSteady, kUrgent };

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

 private:
  void Work();
  bool TakeAndWrite();

  Spool& spool_;
  const Clock& clock_;
  const RecorderOptions options_;
  const OnWritten on_written_;

  absl::Mutex mutex_;
  std::vector<v1::Record> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time lost_from_ ABSL_GUARDED_BY(mutex_);
  bool urgent_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;
};

}  // namespace muster::agent
