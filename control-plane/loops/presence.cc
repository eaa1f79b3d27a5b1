#include "control-plane/loops/presence.h"

#include <utility>

namespace muster::control {
namespace {

constexpr absl::Duration kOldest = absl::Seconds(1);

}  // namespace

StatusOr<std::shared_ptr<const PresenceView>> Presence::Read(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  MUSTER_ASSIGN_OR_RETURN(Away away, store_.sessions().WithoutSession());
  serving_.crowd.Look(away.connected, now);
  auto view =
      std::make_shared<PresenceView>(PresenceView{.read_at = now,
                                                  .began = view_ == nullptr ? now : view_->began,
                                                  .connected = away.connected,
                                                  .serving = serving_});
  for (AgentSession& agent : away.agents) {
    std::string name = agent.name;
    view->away.emplace_hint(view->away.end(), std::move(name), std::move(agent));
  }
  view_ = std::move(view);
  return view_;
}

StatusOr<std::shared_ptr<const PresenceView>> Presence::Look(absl::Time now) {
  {
    absl::MutexLock lock(&mutex_);
    if (view_ != nullptr && now >= view_->read_at && now < view_->read_at + kOldest) return view_;
  }
  return Read(now);
}

}  // namespace muster::control
