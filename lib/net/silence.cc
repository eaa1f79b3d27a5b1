#include "lib/net/silence.h"

#include <algorithm>

namespace muster::net {

void SilenceWatch::Begin(absl::Duration now) {
  if (now - now_ > 3 * round_) awake_ = now;
  now_ = now;
}

bool SilenceWatch::IsStuck(Peer& peer, absl::Duration silence, bool unread) const {
  if (unread) peer.behind = now_;
  return std::min(silence, now_ - std::max(peer.behind, awake_)) > limit_;
}

}  // namespace muster::net
