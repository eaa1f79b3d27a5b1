// A Redis server as a backup reaches it: commands one at a time, and the snapshot that it sends to
// a replica. Every wait ends when the run is to end. One thread. No message holds the password.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/probes/stream.h"
#include "agent/tasks/task.h"
#include "lib/base/status.h"

namespace muster::agent::backup {

using RedisFacts = std::map<std::string, std::string, std::less<>>;

struct KeyCounts {
  uint64_t keys = 0;
  uint64_t expiring = 0;  // of them
};
// Of all databases, from INFO.
KeyCounts CountKeys(const RedisFacts& facts);

class RedisLink {
 public:
  // `auth`: a reference to "password" or "user:password", or empty.
  static StatusOr<std::unique_ptr<RedisLink>> Open(const std::string& address,
                                                   const std::string& auth, const Policy& policy,
                                                   TaskContext& context);
  // A server of our own.
  static StatusOr<std::unique_ptr<RedisLink>> OpenSocket(const std::string& path,
                                                         TaskContext& context);

  // Unavailable with Redis's own words.
  StatusOr<std::string> Ask(const std::vector<std::string_view>& words);
  StatusOr<RedisFacts> Info();
  // Asks for a snapshot as a replica does, and gives all of it to `take`; then nothing else can be
  // asked. DataLoss if it breaks off.
  Status Sync(const std::function<Status(std::string_view piece, uint64_t total)>& take);

 private:
  RedisLink(std::unique_ptr<Stream> stream, TaskContext& context)
      : stream_(std::move(stream)), context_(context) {}
  Status SignIn(std::string_view secret);
  Status Send(std::string_view bytes);
  Status ReadMore();
  StatusOr<std::string> ReadLine();

  std::unique_ptr<Stream> stream_;
  TaskContext& context_;
  std::string buffer_;  // read, and not used yet
};

}  // namespace muster::agent::backup
