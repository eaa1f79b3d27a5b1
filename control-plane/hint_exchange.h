// What the replicas of one control plane tell one another through Redis: "look at the store,
// something changed". Whoever hears it looks, and believes nothing else of it; whoever does not
// looks at its own pace.
//
// Any thread may publish. What is heard is handed on by one thread, at most ten times a second, so
// that neither a busy cluster nor somebody who writes into Redis makes a replica do more than that.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/exec/threads.h"
#include "lib/redis/hint_queue.h"
#include "lib/redis/hints.h"

namespace muster::control {

// Who looks. Called after another replica said so, and each once after hints may have been missed.
struct HintReactions {
  std::function<void()> on_specs;
  std::function<void()> on_transitions;
  std::function<void()> on_revocations;
  std::function<void()> on_replicas;
  std::function<void()> on_runs;
  // Of one agent. Not called for "any agent": a batch that was judged by old states is refused, and
  // its agent says Hello again.
  std::function<void(const std::string& agent)> on_states;
};

class HintExchange {
 public:
  // What the reactions use must live until Stop.
  HintExchange(std::unique_ptr<redis::Hints> hints, HintReactions reactions);
  ~HintExchange();
  void Start();
  // Afterwards nobody is called, and nothing is published any more. Safe to repeat.
  void Stop();

  // Never waits. Call it after the commit that it tells of.
  void Publish(redis::Topic topic, std::string_view payload = {}) {
    hints_->Publish(topic, payload);
  }
  redis::HintsHealth health() const { return hints_->health(); }

 private:
  void Note(const redis::Hint& hint);
  void NoteAll();
  void Work();
  void React(const redis::Hint& hint) const;

  const std::unique_ptr<redis::Hints> hints_;
  const HintReactions reactions_;
  absl::Mutex mutex_;
  redis::HintQueue heard_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  exec::Thread thread_;  // last: it uses all the others
};

}  // namespace muster::control
