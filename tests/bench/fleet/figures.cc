#include "tests/bench/fleet/figures.h"

#include <algorithm>
#include <utility>

namespace muster::bench {
namespace {

constexpr size_t kMostKinds = 50;

// Names of agents and ports are not what tells reasons apart.
std::string WithoutNumbers(const std::string& text) {
  std::string plain;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) plain += c;
    if (digit && !plain.ends_with('#')) plain += '#';
  }
  return plain;
}

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
  std::string text = WithoutNumbers(Text(why));
  absl::MutexLock lock(&mutex_);
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
