// Connections that wait to be let in. Peers take turns, so that whoever opens many keeps nobody
// waiting but himself. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include <absl/time/time.h>

namespace muster::net {

struct Guest {
  int fd = -1;
  std::string peer;  // its address
  uint16_t port = 0;
  absl::Duration since;  // by uptime
};

class WaitingRoom {
 public:
  void Enter(Guest guest);
  // The one who has waited longest of the peer whose turn it is; nullopt if nobody waits.
  std::optional<Guest> Next();
  // The last one to come of the peer of whom most wait: whom to turn away where there is no room.
  std::optional<Guest> TurnAway();
  bool empty() const { return waiting_.empty(); }

 private:
  using Queues = std::map<std::string, std::deque<Guest>>;
  Guest Leave(Queues::iterator at, bool first);

  Queues waiting_;    // by peer; none is empty
  std::string last_;  // whose turn it was
};

}  // namespace muster::net
