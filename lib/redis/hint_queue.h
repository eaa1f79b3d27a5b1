// Hints that wait to be published: each topic and payload once, bounded, none lost. A topic with
// too many payloads waits as "anything of the topic". Not thread-safe.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/redis/hints.h"

namespace muster::redis {

class HintQueue {
 public:
  explicit HintQueue(size_t most_of_a_topic) : most_of_a_topic_(most_of_a_topic) {}

  enum class Put { kAdded, kCoalesced, kWidened };
  Put Add(Topic topic, std::string_view payload);
  // Everything that waits, which no longer does.
  std::vector<Hint> TakeAll();
  size_t size() const;
  bool empty() const { return waiting_.empty(); }

 private:
  const size_t most_of_a_topic_;
  std::map<Topic, std::set<std::string, std::less<>>> waiting_;
};

}  // namespace muster::redis
