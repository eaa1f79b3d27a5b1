#include "control-plane/hint_exchange.h"

#include <utility>
#include <vector>

namespace muster::control {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr size_t kMostOfATopic = 256;

}  // namespace

HintExchange::HintExchange(std::unique_ptr<redis::Hints> hints, HintReactions reactions)
    : hints_(std::move(hints)), reactions_(std::move(reactions)), heard_(kMostOfATopic) {
  hints_->Subscribe({.on_hint = [this](const redis::Hint& hint) { Note(hint); },
                     .on_gap = [this] { NoteAll(); }});
}

HintExchange::~HintExchange() { Stop(); }

void HintExchange::Start() {
  thread_ = exec::Thread("hints", [this] { Work(); });
  hints_->Start();
}

void HintExchange::Stop() {
  hints_->Stop();
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

void HintExchange::Note(const redis::Hint& hint) {
  absl::MutexLock lock(&mutex_);
  heard_.Add(hint.topic, hint.topic == redis::Topic::kStates ? hint.payload : "");
}

void HintExchange::NoteAll() {
  absl::MutexLock lock(&mutex_);
  for (const redis::Topic topic : redis::kTopics) heard_.Add(topic, "");
}

void HintExchange::Work() {
  const auto due = [this]()
                       ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !heard_.empty(); };
  while (true) {
    std::vector<redis::Hint> hints;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&due));
      if (stopping_) return;
      hints = heard_.TakeAll();
    }
    for (const redis::Hint& hint : hints) React(hint);
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kPause);
  }
}

void HintExchange::React(const redis::Hint& hint) const {
  switch (hint.topic) {
    case redis::Topic::kSpecs: return reactions_.on_specs();
    case redis::Topic::kTransitions: return reactions_.on_transitions();
    case redis::Topic::kReplicas: return reactions_.on_replicas();
    case redis::Topic::kRevocations: return reactions_.on_revocations();
    case redis::Topic::kRuns: return reactions_.on_runs();
    case redis::Topic::kStates:
      if (!hint.payload.empty()) reactions_.on_states(hint.payload);
      return;
  }
}

}  // namespace muster::control
