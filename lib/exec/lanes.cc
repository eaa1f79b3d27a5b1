#include "lib/exec/lanes.h"

namespace muster::exec {

Lanes::Lanes(const std::string& name, LanesOptions options) : options_(options) {
  for (size_t i = 0; i < options_.threads; ++i) threads_.emplace_back(name, [this] { Work(); });
}

Lanes::~Lanes() { Stop(); }

bool Lanes::Submit(const std::string& lane, absl::AnyInvocable<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ || queued_ >= options_.most_queued) return false;
  Entry& entry = *lanes_.try_emplace(lane).first;
  entry.second.queue.push_back(std::move(task));
  ++queued_;
  Queue(entry);
  return true;
}

size_t Lanes::queued() const {
  absl::MutexLock lock(&mutex_);
  return queued_;
}

void Lanes::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    turns_.clear();
    queued_ = 0;
    for (auto& [name, lane] : lanes_) lane.queue.clear();
  }
  for (Thread& thread : threads_) thread.Join();
}

// The lane stands in line once, behind the others, while it has a task that may begin.
void Lanes::Queue(Entry& entry) {
  Lane& lane = entry.second;
  if (lane.in_turn || lane.queue.empty() || lane.running >= options_.threads_a_lane) return;
  lane.in_turn = true;
  turns_.push_back(&entry);
}

std::optional<Lanes::Begun> Lanes::Begin() {
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !turns_.empty();
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&ready));
  if (stopping_) return std::nullopt;
  Entry& entry = *turns_.front();
  turns_.pop_front();
  Lane& lane = entry.second;
  Begun begun{&entry, std::move(lane.queue.front())};
  lane.queue.pop_front();
  lane.in_turn = false;
  --queued_;
  ++lane.running;
  Queue(entry);
  return begun;
}

void Lanes::End(Entry& entry) {
  absl::MutexLock lock(&mutex_);
  Lane& lane = entry.second;
  --lane.running;
  if (stopping_) return;
  Queue(entry);
  if (lane.queue.empty() && lane.running == 0) lanes_.erase(entry.first);
}

void Lanes::Work() {
  while (std::optional<Begun> begun = Begin()) {
    begun->task();
    begun->task = nullptr;  // before its lane may go
    End(*begun->entry);
  }
}

}  // namespace muster::exec
