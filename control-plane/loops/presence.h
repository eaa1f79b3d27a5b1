// Who has no session, and since when: read once a second for all loops of a term.
#pragma once

#include <map>
#include <memory>
#include <string>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "control-plane/decide/absence.h"
#include "control-plane/store/store.h"

namespace muster::control {

struct PresenceView {
  absl::Time read_at;
  absl::Time began;  // the first look: what was overdue before may be nobody's fault
  std::map<std::string, AgentSession> away;  // who had a session, and has none
  uint64_t connected = 0;
  Serving serving;
};

// Any thread may call.
class Presence {
 public:
  // `serving_since`: when the cluster began to accept agents.
  Presence(Store& store, absl::Time serving_since, const AbsencePolicy& policy = {})
      : store_(store), policy_(policy), serving_{serving_since, Crowd(policy)} {}
  const AbsencePolicy& policy() const { return policy_; }
  // Reads it now.
  StatusOr<std::shared_ptr<const PresenceView>> Read(absl::Time now);
  // What was read last, unless that is a second ago.
  StatusOr<std::shared_ptr<const PresenceView>> Look(absl::Time now);

 private:
  Store& store_;
  const AbsencePolicy policy_;
  absl::Mutex mutex_;
  Serving serving_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const PresenceView> view_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::control
