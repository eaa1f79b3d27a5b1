// Which of the control plane's addresses to dial next. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::agent {

// Any but the one that was just left or that failed, so that the agents of a replica that is gone
// spread over all others; that one if there is no other. `servers` is not empty; `draw` is random.
const std::string& NextServer(const std::vector<std::string>& servers, const std::string& left,
                              uint64_t draw);

// Of what the control plane named, what can be dialled: HOST:PORT, at most 64, each once.
std::vector<std::string> UsableServers(const std::vector<std::string>& named);

}  // namespace muster::agent
