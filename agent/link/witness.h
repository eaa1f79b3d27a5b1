// The newest checkpoint of the control plane's audit chain that this agent saw, on its own disk: so
// a chain that was cut or rewritten can be told from what it was (promise C14). It is never
// replaced by an older one, nor by one that contradicts it.
//
// One thread at a time may call.
#pragma once

#include <optional>
#include <string>

#include "lib/base/status.h"
#include "muster/v1/agent_link.pb.h"

namespace muster::agent {

class Witness {
 public:
  // Reads the file at `path`. One that cannot be read, or that another authority signed, is set
  // aside as `path`.aside, and none is held.
  Witness(std::string path, const std::string& roots_pem);

  // Holds a newer checkpoint once it is on the disk; an older one, and the one held, are no news.
  // Unauthenticated: the cluster's authority did not sign it. DataLoss: it is of the same entry as
  // the one held and has another hash; the one held stays. Other errors: it could not be written.
  Status Take(const v1::Checkpoint& checkpoint);
  const std::optional<v1::Checkpoint>& held() const { return held_; }

 private:
  Status Check(const v1::Checkpoint& checkpoint) const;

  const std::string path_;
  std::string authority_der_;
  std::optional<v1::Checkpoint> held_;
};

}  // namespace muster::agent
