// Which of the control plane's addresses to dial next. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::agent {

// The way through the servers until one takes the agent: each is tried once, in an order of
// chance, before any is tried again, the one that was left last of all. So one that lives is found
// within one round however many are gone, and the agents of a replica that is gone spread over all
// others.
class ServerTour {
 public:
  // The next to dial; `servers` is not empty and may change from call to call; `draw` is random.
  const std::string& Next(const std::vector<std::string>& servers, uint64_t draw);

  // The one that was dialled last took the agent.
  void Met();
  // It did not.
  void Failed() { ++failures_; }

  // How often in a row as many as there are servers failed: what to back off by.
  uint32_t RoundsInVain(size_t servers) const;

 private:
  std::vector<std::string> tried_;  // in this round, the latest last
  uint32_t failures_ = 0;           // since a server took the agent
};

// Of what the control plane named, what can be dialled: HOST:PORT, at most 64, each once.
std::vector<std::string> UsableServers(const std::vector<std::string>& named);

}  // namespace muster::agent
