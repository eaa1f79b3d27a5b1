// Hints between the replicas of a control plane: "look at the store, something changed". They only
// make things faster: each may be lost, come twice, late, or from a liar who can write to Redis.
// Whoever hears one reads the store; whoever hears none reads it at its own pace all the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "lib/base/status.h"
#include "lib/redis/address.h"
#include "lib/redis/client.h"

namespace muster::redis {

enum class Topic {
  kSpecs,        // documents were applied or deleted
  kTransitions,  // checks changed state
  kReplicas,     // one came or leaves: the lease may be free
  kRevocations,  // an identity was revoked
  kStates,       // states changed; the payload names the agent
  kRuns,         // runs came, are to be on agents' hands, or changed there
};
inline constexpr Topic kTopics[] = {Topic::kSpecs,       Topic::kTransitions, Topic::kReplicas,
                                    Topic::kRevocations, Topic::kStates,      Topic::kRuns};
std::string_view TopicName(Topic topic);  // "specs"

struct Hint {
  Topic topic;
  // What of the topic: an agent's name, an id. Empty: anything of it.
  std::string payload;
  bool operator==(const Hint&) const = default;
};

inline constexpr size_t kLongestPayload = 256;

struct HintListener {
  // Called one at a time, on a thread of the Hints; must be quick. Not under a lock.
  std::function<void(const Hint&)> on_hint;
  // Hints may have been missed: look at everything once.
  std::function<void()> on_gap;
};

struct HintsHealth {
  bool configured = false;
  bool publishing = false;  // Redis takes hints now
  bool listening = false;   // and brings those of others
  std::string last_error;
  size_t waiting = 0;      // not yet published
  uint64_t published = 0;  // taken by Redis
  uint64_t coalesced = 0;  // the same waited already
  uint64_t widened = 0;    // too many or too long: became "anything of the topic"
  uint64_t heard = 0;      // of other replicas
  uint64_t gaps = 0;
};

// Any thread may call Publish and health. Tests derive a fake.
class Hints {
 public:
  virtual ~Hints() = default;

  // What *other* replicas published is heard; one's own hints are not. Before Start, any number of
  // times; what the listener refers to must live until Stop.
  virtual void Subscribe(HintListener listener) = 0;
  virtual void Start() = 0;
  // Afterwards no listener is called; hints that wait are dropped. Safe to repeat; the destructor
  // does it too.
  virtual void Stop() = 0;

  // Never waits for Redis. The same topic and payload waits once; while Redis is away, hints wait
  // within bounds: past them, or past kLongestPayload, a hint becomes "anything of the topic".
  virtual void Publish(Topic topic, std::string_view payload = {}) = 0;
  virtual HintsHealth health() const = 0;
};

// No Redis configured: publishes to nobody and hears nothing.
std::unique_ptr<Hints> NoHints();

struct HintsOptions {
  // Channels are called PREFIX:hint:TOPIC. Redis's databases do not separate channels: control
  // planes that share a Redis need different prefixes.
  std::string prefix = "muster";
  size_t most_waiting = 256;  // payloads of a topic
  absl::Duration retry_every = absl::Milliseconds(250);
  ClientOptions client;
  absl::Duration ping_every = absl::Seconds(2);  // as SubscriberOptions
  absl::Duration answer_within = absl::Seconds(2);
};
// Redis need not be there. An error is one of the settings: a file that the address names cannot be
// read.
StatusOr<std::unique_ptr<Hints>> OpenHints(const Address& address, HintsOptions options = {});

}  // namespace muster::redis
