#include "lib/redis/hint_queue.h"

namespace muster::redis {

HintQueue::Put HintQueue::Add(Topic topic, std::string_view payload) {
  auto& payloads = waiting_[topic];
  if (payloads.contains("") || payloads.contains(payload)) return Put::kCoalesced;
  if (payload.empty()) {
    // It speaks for all that wait.
    payloads = {""};
    return Put::kAdded;
  }
  if (payload.size() > kLongestPayload || payloads.size() >= most_of_a_topic_) {
    payloads = {""};
    return Put::kWidened;
  }
  payloads.emplace(payload);
  return Put::kAdded;
}

std::vector<Hint> HintQueue::TakeAll() {
  std::vector<Hint> hints;
  for (auto& [topic, payloads] : waiting_) {
    for (const std::string& payload : payloads) hints.push_back({topic, payload});
  }
  waiting_.clear();
  return hints;
}

size_t HintQueue::size() const {
  size_t size = 0;
  for (const auto& [topic, payloads] : waiting_) size += payloads.size();
  return size;
}

}  // namespace muster::redis
