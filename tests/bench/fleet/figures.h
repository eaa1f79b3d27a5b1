// What a fleet counts while it runs. Any thread may call.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::bench {

// Durations that were seen.
class Durations {
 public:
  void Add(absl::Duration seen);
  // Ascending; begins anew.
  std::vector<absl::Duration> Take();

 private:
  absl::Mutex mutex_;
  std::vector<absl::Duration> seen_ ABSL_GUARDED_BY(mutex_);
};

struct Figures {
  std::atomic<uint64_t> welcomed = 0;      // agents with a session now
  std::atomic<uint64_t> sessions = 0;      // welcomed ever
  std::atomic<uint64_t> results = 0;       // found
  std::atomic<uint64_t> news = 0;          // of them, another status than before
  std::atomic<uint64_t> acknowledged = 0;  // records
  std::atomic<uint64_t> batches = 0;       // acknowledged
  std::atomic<uint64_t> folded = 0;        // records that the agents dropped
  std::atomic<uint64_t> went_back = 0;     // sessions that began before what had been acknowledged
  std::atomic<uint64_t> renewed = 0;       // certificates
  std::atomic<uint64_t> plans = 0;         // taken

  Durations handshakes;  // from dialling until the Hello is on its way
  Durations welcomes;    // from dialling to the Welcome
  Durations waits;       // from sending a batch to its acknowledgement
  Durations reaches;     // from the call that changed the specs to the plan
  Durations returns;     // from the loss of a session to the next Welcome

  // Why sessions and attempts ended, numbers left out.
  void Ended(const Status& why);
  std::map<std::string, uint64_t> TakeEnds();

 private:
  absl::Mutex mutex_;
  std::map<std::string, uint64_t> ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::bench
