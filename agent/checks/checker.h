// Runs the plan's checks: when each is due, on a pool of probe threads, with a watchdog beside
// them.
//
//   waiting ──due──► queued ──a thread is free──► running ──returned──► waiting
//                                                    │ past timeout + grace: UNKNOWN, a further
//                                                    thread ▼
//                                                  stuck ──returned──► waiting
//                                                  (each slot meanwhile is a result UNKNOWN)
//
// A check never runs twice at once; slots that pass while it runs are skipped and counted.
// Thousands of checks share few threads. What the host's policy refuses is a result UNKNOWN that
// says so, each slot. Any thread may call. The clock must outlive the checker; results go to the
// sink from probe threads and from the checker's own, one at a time for each check.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "agent/decide/cadence.h"
#include "agent/probes/probe.h"
#include "lib/base/clock.h"
#include "lib/exec/threads.h"
#include "muster/v1/agent_link.pb.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

enum class Novelty { kSteady, kNews };

struct CheckerOptions {
  std::string agent;         // its name: part of every check's splay
  size_t threads = 16;       // that work; started as they are needed
  size_t most_threads = 64;  // with those that are stuck
  absl::Duration grace = absl::Seconds(2);
};

struct CheckerCounts {
  uint64_t checks = 0;
  uint64_t results = 0;
  uint64_t skipped = 0;  // slots
  uint64_t threads = 0;
  uint64_t stuck = 0;   // probes that have not returned
  uint64_t queued = 0;  // due, and without a thread
};

class Checker {
 public:
  using ProbeFactory = std::function<StatusOr<std::unique_ptr<Probe>>(const v1::Probe&)>;
  using Sink = std::function<void(v1::CheckResult, Novelty)>;

  Checker(const Clock& clock, CheckerOptions options, ProbeFactory factory, Sink sink);
  // Stop, then waits for every probe, stuck ones too.
  ~Checker();

  // Checks whose id, name and spec are as before go on undisturbed; the others begin anew.
  void Apply(const v1::Plan& plan);
  // No further result. True once every thread has ended, false if some have not within `patience`.
  bool Stop(absl::Duration patience);
  CheckerCounts counts() const;

 private:
  struct Check;
  struct Due;
  struct Run;
  struct Schedule;

  std::shared_ptr<Check> MakeCheck(const v1::PlannedCheck& planned) const;
  void Keep();
  void Dispatch(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Slot(const std::shared_ptr<Check>& check, absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration NextEvent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartThreads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work();
  void Execute(const std::shared_ptr<Check>& check);
  void Finish(const std::shared_ptr<Check>& check, const Run& run, const ProbeResult& found);
  void Report(Check& check, absl::Time observed_at, absl::Duration latency, ProbeResult found)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Deliver() ABSL_LOCKS_EXCLUDED(mutex_);
  void SetDue(const std::shared_ptr<Check>& check, absl::Duration due)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  const CheckerOptions options_;
  const ProbeFactory factory_;
  const Sink sink_;

  mutable absl::Mutex mutex_;
  const std::unique_ptr<Schedule> schedule_;  // what is guarded by mutex_, but for its const parts
  absl::Mutex delivery_;                      // keeps the sink's order
  std::vector<exec::Thread> workers_ ABSL_GUARDED_BY(mutex_);
  exec::Thread keeper_;
};

}  // namespace muster::agent
