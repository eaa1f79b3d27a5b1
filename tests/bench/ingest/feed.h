// What every agent of the bench reports: one series of batches, made and encoded once and shared,
// so that the load generator costs little beside what is measured.
//
// Results are those of http checks in steady state: OK, latencies that vary, a detail each five
// minutes and after a change, and now and then a short failure. They were observed in the past, as
// those of a log that is sent late, so that none is younger than the control plane's clock.
// Any thread may call.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "lib/base/random.h"
#include "muster/v1/agent_link.pb.h"
#include "muster/v1/record.pb.h"

namespace muster::bench {

struct FeedOptions {
  std::vector<uint32_t> check_ids;
  absl::Duration every = absl::Seconds(10);  // from one result of a check to its next
  size_t batch = 128;                        // results
};

class Feed {
 public:
  Feed(FeedOptions options, absl::Time now);

  // The batch of `index`, from 0: a Records message with the results of sequence
  // index * batch + 1 to (index + 1) * batch. Lives as long as the feed.
  const v1::FromAgent& Batch(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  size_t batch() const { return options_.batch; }

 private:
  // Of one check, from result to result.
  struct Check {
    absl::Duration usual;  // latency
    absl::Time told_at = absl::InfinitePast();
    uint32_t failures_left = 0;
    bool failed = false;
  };
  v1::FromAgent MakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::Record MakeRecord() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const FeedOptions options_;
  const absl::Time now_;
  const absl::Time begin_;
  absl::Mutex mutex_;
  std::unique_ptr<Random> random_ ABSL_GUARDED_BY(mutex_);
  std::vector<Check> checks_ ABSL_GUARDED_BY(mutex_);
  uint64_t made_ ABSL_GUARDED_BY(mutex_) = 0;  // results
  std::deque<v1::FromAgent> batches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::bench
