// Hints over Redis: PUBLISH PREFIX:hint:TOPIC "REPLICA PAYLOAD", REPLICA being a random name of the
// publishing process, by which it knows its own.
#include <optional>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/random.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/redis/hint_queue.h"
#include "lib/redis/hints.h"
#include "lib/redis/subscriber.h"

namespace muster::redis {
namespace {

class RedisHints final : public Hints {
 public:
  RedisHints(Address address, HintsOptions options, std::unique_ptr<Client> client)
      : address_(std::move(address)),
        options_(std::move(options)),
        replica_(HexEncode(RandomBytes(8))),
        client_(std::move(client)),
        queue_(options_.most_waiting) {}

  ~RedisHints() override { Stop(); }

  void Subscribe(HintListener listener) override { listeners_.push_back(std::move(listener)); }

  void Start() override {
    // Its files were read a moment ago by OpenHints; if they have gone, it is as if Redis were.
    StatusOr<std::unique_ptr<Subscriber>> opened =
        OpenSubscriber(address_, MakeSubscriberOptions());
    absl::MutexLock lock(&mutex_);
    if (opened.ok())
      subscriber_ = *std::move(opened);
    else
      subscriber_error_ = Text(opened.status());
    publisher_ = exec::Thread("redis-hints", [this] { Work(); });
  }

  void Stop() override {
    std::unique_ptr<Subscriber> ending;
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      ending = std::move(subscriber_);
    }
    ending.reset();  // waits for a listener that runs, which may ask for health()
    publisher_.Join();
  }

  void Publish(Topic topic, std::string_view payload) override {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) Count(queue_.Add(topic, payload));
  }

  HintsHealth health() const override {
    const Health client = client_->health();
    absl::MutexLock lock(&mutex_);
    const Health subscriber = subscriber_ == nullptr ? Health() : subscriber_->health();
    HintsHealth health = counts_;
    health.configured = true;
    health.publishing = client.up && refusal_.empty();
    health.listening = subscriber.up;
    for (const std::string& error :
         {client.last_error, subscriber.last_error, subscriber_error_, refusal_}) {
      if (!error.empty()) health.last_error = error;
    }
    health.waiting = queue_.size();
    return health;
  }

 private:
  std::string Channel(Topic topic) const {
    return fmt::format("{}:hint:{}", options_.prefix, TopicName(topic));
  }

  std::optional<Topic> TopicOf(std::string_view channel) const {
    for (const Topic topic : kTopics) {
      if (channel == Channel(topic)) return topic;
    }
    return std::nullopt;
  }

  SubscriberOptions MakeSubscriberOptions() {
    SubscriberOptions options;
    options.name = options_.client.name;
    for (const Topic topic : kTopics) options.channels.push_back(Channel(topic));
    options.on_message = [this](std::string_view channel, std::string_view message) {
      Hear(channel, message);
    };
    options.on_gap = [this] { NoteGap(); };
    options.ping_every = options_.ping_every;
    options.answer_within = options_.answer_within;
    options.open_within = options_.client.open_within;
    options.backoff = options_.client.backoff;
    return options;
  }

  void Hear(std::string_view channel, std::string_view message) {
    const std::optional<Topic> topic = TopicOf(channel);
    const size_t space = message.find(' ');
    if (!topic.has_value() || space == std::string_view::npos) return;
    if (message.substr(0, space) == replica_) return;
    const std::string_view payload = message.substr(space + 1);
    const Hint hint{*topic, payload.size() > kLongestPayload ? "" : OneLine(payload)};
    {
      absl::MutexLock lock(&mutex_);
      ++counts_.heard;
    }
    for (const HintListener& listener : listeners_) {
      if (listener.on_hint) listener.on_hint(hint);
    }
  }

  void NoteGap() {
    {
      absl::MutexLock lock(&mutex_);
      ++counts_.gaps;
    }
    for (const HintListener& listener : listeners_) {
      if (listener.on_gap) listener.on_gap();
    }
  }

  void Count(HintQueue::Put put) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    switch (put) {
      case HintQueue::Put::kAdded: return;
      case HintQueue::Put::kCoalesced: ++counts_.coalesced; return;
      case HintQueue::Put::kWidened: ++counts_.widened; return;
    }
  }

  // The publisher's life. A hint published while the same one is on its way goes out once more:
  // who heard the first may have looked too early.
  void Work() {
    while (true) {
      std::vector<Hint> hints;
      {
        const auto due = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
          return stopping_ || !queue_.empty();
        };
        absl::MutexLock lock(&mutex_, absl::Condition(&due));
        if (stopping_) return;
        hints = queue_.TakeAll();
      }
      if (!Send(hints)) PutBackAndPause(hints);
    }
  }

  bool Send(const std::vector<Hint>& hints) {
    std::vector<Argv> commands;
    for (const Hint& hint : hints) {
      commands.push_back({"PUBLISH", Channel(hint.topic), replica_ + " " + hint.payload});
    }
    const StatusOr<std::vector<Reply>> replies = client_->Pipeline(std::move(commands));
    if (!replies.ok()) return false;
    for (const Reply& reply : *replies) {
      // Not allowed, or not the master: it may be mended.
      if (reply.refusal() != nullptr) {
        absl::MutexLock lock(&mutex_);
        refusal_ = fmt::format("{}: PUBLISH is refused: {}", address_.name(),
                               Truncate(OneLine(reply.refusal()->text), 300));
        return false;
      }
    }
    absl::MutexLock lock(&mutex_);
    refusal_.clear();
    counts_.published += hints.size();
    return true;
  }

  void PutBackAndPause(const std::vector<Hint>& hints) {
    absl::MutexLock lock(&mutex_);
    for (const Hint& hint : hints) queue_.Add(hint.topic, hint.payload);
    mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.retry_every);
  }

  const Address address_;
  const HintsOptions options_;
  const std::string replica_;
  const std::unique_ptr<Client> client_;
  std::vector<HintListener> listeners_;  // set before Start

  mutable absl::Mutex mutex_;
  HintQueue queue_ ABSL_GUARDED_BY(mutex_);
  HintsHealth counts_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Subscriber> subscriber_ ABSL_GUARDED_BY(mutex_);
  std::string subscriber_error_ ABSL_GUARDED_BY(mutex_);
  std::string refusal_ ABSL_GUARDED_BY(mutex_);  // what Redis last said to PUBLISH, while it does
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  exec::Thread publisher_;
};

}  // namespace

StatusOr<std::unique_ptr<Hints>> OpenHints(const Address& address, HintsOptions options) {
  // All that can wait goes out in one call.
  const size_t most = options.most_waiting * std::size(kTopics);
  options.client.most_waiting = std::max(options.client.most_waiting, most);
  options.client.most_waiting_bytes = std::max(
      options.client.most_waiting_bytes, most * (2 * kLongestPayload + options.prefix.size()));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, OpenClient(address, options.client));
  return std::make_unique<RedisHints>(address.Copy(), std::move(options), std::move(client));
}

}  // namespace muster::redis
