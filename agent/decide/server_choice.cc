#include "agent/decide/server_choice.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr size_t kMostServers = 64;
constexpr size_t kLongestServer = 300;

}  // namespace

const std::string& NextServer(const std::vector<std::string>& servers, const std::string& left,
                              uint64_t draw) {
  const auto others = static_cast<uint64_t>(
      std::count_if(servers.begin(), servers.end(), [&](const auto& one) { return one != left; }));
  if (others == 0) return servers.at(draw % servers.size());
  uint64_t skip = draw % others;
  for (const std::string& server : servers) {
    if (server != left && skip-- == 0) return server;
  }
  return servers.front();
}

std::vector<std::string> UsableServers(const std::vector<std::string>& named) {
  std::vector<std::string> usable;
  for (const std::string& server : named) {
    if (usable.size() == kMostServers) break;
    if (server.size() > kLongestServer || !ParseHostPort(server).ok()) continue;
    if (std::find(usable.begin(), usable.end(), server) == usable.end()) usable.push_back(server);
  }
  return usable;
}

}  // namespace muster::agent
