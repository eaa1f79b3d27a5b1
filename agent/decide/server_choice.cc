#include "agent/decide/server_choice.h"

#include <algorithm>

#include "lib/base/text.h"

namespace muster::agent {
namespace {

constexpr size_t kMostServers = 64;
constexpr size_t kLongestServer = 300;

}  // namespace

const std::string& ServerTour::Next(const std::vector<std::string>& servers, uint64_t draw) {
  const auto open = [this](const std::string& server) {
    return std::find(tried_.begin(), tried_.end(), server) == tried_.end();
  };
  auto left = static_cast<uint64_t>(std::count_if(servers.begin(), servers.end(), open));
  if (left == 0 && !tried_.empty()) {
    tried_.erase(tried_.begin(), tried_.end() - 1);
    left = static_cast<uint64_t>(std::count_if(servers.begin(), servers.end(), open));
  }
  if (left == 0) {
    tried_.clear();
    left = servers.size();
  }
  uint64_t skip = draw % left;
  for (const std::string& server : servers) {
    if (!open(server) || skip-- > 0) continue;
    tried_.push_back(server);
    return server;
  }
  return servers.at(0);  // not reached: `left` counts the open ones
}

void ServerTour::Met() {
  failures_ = 0;
  if (!tried_.empty()) tried_.erase(tried_.begin(), tried_.end() - 1);
}

uint32_t ServerTour::RoundsInVain(size_t servers) const {
  return failures_ / static_cast<uint32_t>(std::max<size_t>(servers, 1));
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
