#include "tests/bench/fleet/wheel.h"

#include <algorithm>

namespace muster::bench {
namespace {

constexpr absl::Duration kSlot = absl::Milliseconds(10);
constexpr size_t kSlots = 2048;

// The first slot that does not begin before `at`.
uint64_t SlotOf(absl::Duration at) {
  return static_cast<uint64_t>(std::max(absl::Ceil(at, kSlot) / kSlot, int64_t{0}));
}

}  // namespace

Wheel::Wheel(const Clock& clock)
    : clock_(clock),
      slots_(kSlots),
      next_slot_(SlotOf(clock.Uptime())),
      thread_("wheel", [this] { Work(); }) {}

Wheel::~Wheel() { Stop(); }

void Wheel::Set(Timed& timed, absl::Duration at) {
  absl::MutexLock lock(&mutex_);
  timed.timer_ = ++timers_;
  if (at == absl::InfiniteDuration()) return;
  const uint64_t slot = std::max(SlotOf(at), next_slot_);
  slots_[slot % kSlots].push_back({&timed, timed.timer_, slot});
}

void Wheel::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

void Wheel::Work() {
  while (true) {
    std::vector<Timed*> due;
    {
      absl::MutexLock lock(&mutex_);
      const absl::Duration until = static_cast<int64_t>(next_slot_) * kSlot;
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_),
                              std::max(until - clock_.Uptime(), absl::ZeroDuration()));
      if (stopping_) return;
      due = TakeDue(static_cast<uint64_t>(absl::Floor(clock_.Uptime(), kSlot) / kSlot));
    }
    const absl::Duration now = clock_.Uptime();
    for (Timed* timed : due) timed->OnTime(now);
  }
}

std::vector<Timed*> Wheel::TakeDue(uint64_t until) {
  std::vector<Timed*> due;
  for (; next_slot_ <= until; ++next_slot_) {
    std::vector<Entry>& slot = slots_[next_slot_ % kSlots];
    std::erase_if(slot, [&](const Entry& entry) {
      if (entry.timer != entry.timed->timer_) return true;  // set anew meanwhile
      if (entry.slot > until) return false;                 // of a later turn
      due.push_back(entry.timed);
      return true;
    });
  }
  return due;
}

}  // namespace muster::bench
