#include "tests/bench/fleet/figures.h"

#include <algorithm>
#include <utility>

namespace muster::bench {
namespace {

constexpr size_t kMostKinds = 50;

}  // namespace

void Durations::Add(absl::Duration seen) {
  absl::MutexLock lock(&mutex_);
  seen_.push_back(seen);
}

std::vector<absl::Duration> Durations::Take() {
  std::vector<absl::Duration> taken;
  {
    absl::MutexLock lock(&mutex_);
    taken = std::exchange(seen_, {});
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

void Figures::Ended(const Status& why) {
  absl::MutexLock lock(&mutex_);
  // Some name the agent or its port: then the code has to do.
  std::string text = Text(why);
  if (ends_.size() >= kMostKinds && !ends_.contains(text)) {
    text = absl::StatusCodeToString(why.code());
  }
  ++ends_[text];
}

std::map<std::string, uint64_t> Figures::TakeEnds() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(ends_, {});
}

}  // namespace muster::bench
