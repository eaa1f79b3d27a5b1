#include "lib/net/waiting_room.h"

#include <algorithm>

namespace muster::net {

void WaitingRoom::Enter(Guest guest) { waiting_[guest.peer].push_back(std::move(guest)); }

std::optional<Guest> WaitingRoom::Next() {
  if (waiting_.empty()) return std::nullopt;
  auto at = waiting_.upper_bound(last_);
  if (at == waiting_.end()) at = waiting_.begin();
  last_ = at->first;
  return Leave(at, true);
}

std::optional<Guest> WaitingRoom::TurnAway() {
  if (waiting_.empty()) return std::nullopt;
  return Leave(std::max_element(
                   waiting_.begin(), waiting_.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); }),
               false);
}

Guest WaitingRoom::Leave(Queues::iterator at, bool first) {
  std::deque<Guest>& queue = at->second;
  Guest guest = std::move(first ? queue.front() : queue.back());
  if (first) {
    queue.pop_front();
  } else {
    queue.pop_back();
  }
  if (queue.empty()) waiting_.erase(at);
  return guest;
}

}  // namespace muster::net
