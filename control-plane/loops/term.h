// One term of this replica's leadership: the epoch that its writes carry, and until when it may be
// believed in. Belief ends by this machine's uptime, so that a leader which cannot reach the
// database stops before another one begins. Any thread may call.
#pragma once

#include <atomic>

#include <absl/time/time.h>

#include "control-plane/store/leader_epoch.h"
#include "lib/base/clock.h"

namespace muster::control {

class Term {
 public:
  // `until` is Clock::Uptime.
  Term(LeaderEpoch epoch, const Clock& clock, absl::Duration until)
      : epoch_(epoch), clock_(clock), until_(absl::ToInt64Microseconds(until)) {}

  LeaderEpoch epoch() const { return epoch_; }
  bool Holds() const { return Left() > absl::ZeroDuration(); }
  absl::Duration Left() const { return absl::Microseconds(until_.load()) - clock_.Uptime(); }
  // False for a term that has ended, or whose time was over before: it does not begin again.
  bool Renew(absl::Duration until);
  void End() { until_ = kEnded; }
  bool ended() const { return until_ == kEnded; }
  // The status; a write that was refused because another leads ends the term.
  Status Note(Status status);
  uint64_t refused() const { return refused_; }

 private:
  static constexpr int64_t kEnded = INT64_MIN / 2;
  const LeaderEpoch epoch_;
  const Clock& clock_;
  std::atomic<int64_t> until_;
  std::atomic<uint64_t> refused_ = 0;
};

}  // namespace muster::control
