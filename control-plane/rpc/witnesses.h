// Agents as witnesses of the audit chain (promise C14): makes the checkpoints that they keep, and
// compares with the chain those that they show. What was found stays known until the same agent
// shows a checkpoint that agrees, or none.
//
// Any thread may call. Store, authority and clock must outlive it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include "control-plane/decide/witness.h"
#include "control-plane/pki/authority.h"
#include "control-plane/store/audit.h"
#include "lib/base/clock.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::control {

class Witnesses {
 public:
  // At most one checkpoint is made `every` so often.
  Witnesses(AuditStore& audit, const Authority& authority, const Clock& clock,
            absl::Duration every = absl::Minutes(1));

  // Makes a checkpoint if one is due and the chain has moved on. None is made while the chain does
  // not hold the last one: the control plane is a witness too, as long as it runs, and goes on
  // giving that one to agents, who keep it longer. True if there is a new one. Blocks on the store.
  bool Renew();
  std::optional<v1::Checkpoint> newest() const;

  // Takes the checkpoint of an agent's Hello, null if it showed none. False if the chain does not
  // agree: then the agent must keep it, so it must be given no newer one. Blocks on the store.
  StatusOr<bool> Present(const std::string& agent, const v1::Checkpoint* checkpoint);

  // Every witness's newest checkpoint, compared with the chain as it is now.
  StatusOr<std::vector<WitnessFact>> Facts();
  // Witnesses whose checkpoint did not agree when it was last compared.
  size_t contradictions() const;

 private:
  struct Held {
    v1::Checkpoint checkpoint;
    bool agrees = true;
  };
  StatusOr<Verdict> Look(const v1::Checkpoint& checkpoint);
  bool IsOurs(const v1::Checkpoint& checkpoint);
  void Note(const std::string& holder, const v1::Checkpoint& checkpoint, const Verdict& verdict);
  void Forget(const std::string& agent);

  AuditStore& audit_;
  const Authority& authority_;
  const Clock& clock_;
  const absl::Duration every_;
  mutable absl::Mutex mutex_;
  // By agent; under the empty name the control plane's own, its newest.
  std::map<std::string, Held> held_ ABSL_GUARDED_BY(mutex_);
  absl::Duration made_at_ ABSL_GUARDED_BY(mutex_);  // the newest, in uptime
  // Texts with signatures that were found good: thousands of agents come back with the same few.
  std::set<std::string> ours_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::control
