// Runs what only the leader may run: starts it when a term begins, stops it when the term ends or
// can no longer be believed in. What runs holds no truth, so each term gets new objects.
//
//   idle ──Lead──► running ──Leave, the term's time is over, a write was refused──► idle
//
// Any thread may call Lead, Leave and Wake. The work starts and stops on a thread of the leader's
// own.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/loops/term.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"

namespace muster::control {

// The work of one term; its destructor stops it and waits.
class LeaderWork {
 public:
  virtual ~LeaderWork() = default;
  // There is something new to look at.
  virtual void Wake() = 0;
};

struct LeaderCounts {
  uint64_t terms = 0;    // that this replica began
  uint64_t refused = 0;  // writes that came too late
};

class Leader {
 public:
  using Begin = std::function<std::unique_ptr<LeaderWork>(std::shared_ptr<Term>)>;
  // `clock` must outlive the leader, and so must all that the work uses.
  Leader(const Clock& clock, Begin begin);
  ~Leader();

  // This replica leads until then (Clock::Uptime): the first call of an epoch begins a term, later
  // ones renew it.
  void Lead(LeaderEpoch epoch, absl::Duration until);
  // This replica does not lead.
  void Leave();
  void Wake();
  // Stops for good. Safe to repeat.
  void Stop();

  // 0 when this replica does not lead.
  LeaderEpoch epoch() const;
  LeaderCounts counts() const;

 private:
  void Tick();
  // Whether what runs is to go on; its work has ended if not.
  bool StopUnless(const std::shared_ptr<Term>& wanted);

  const Clock& clock_;
  const Begin begin_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Term> wanted_ ABSL_GUARDED_BY(mutex_);  // null when none is
  // What runs, and its term. Changed by the loop's thread alone.
  std::shared_ptr<Term> running_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<LeaderWork> work_ ABSL_GUARDED_BY(mutex_);
  LeaderCounts counts_ ABSL_GUARDED_BY(mutex_);
  exec::PeriodicLoop loop_;  // last: its thread uses all the others
};

}  // namespace muster::control
