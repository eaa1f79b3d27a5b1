#include "lib/redis/subscriber.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/redis/connection.h"

namespace muster::redis {
namespace {

absl::Duration Now() { return SystemClock().Uptime(); }

// What comes on a subscribed connection: ["message", CHANNEL, TEXT], ["subscribe", CHANNEL, COUNT],
// ["pong", TEXT].
struct Push {
  std::string kind;
  std::string channel;
  std::string text;
};

StatusOr<Push> ReadPush(const Reply& reply) {
  if (const Refusal* refusal = reply.refusal(); refusal != nullptr)
    return Unavailable("SUBSCRIBE is refused: {}", Truncate(OneLine(refusal->text), 300));
  const Reply::Array* parts = reply.array();
  const auto text = [&](size_t i) {
    return parts != nullptr && i < parts->size() && (*parts)[i].text() != nullptr
               ? *(*parts)[i].text()
               : std::string();
  };
  Push push{.kind = text(0), .channel = text(1), .text = text(2)};
  if (push.kind != "message" && push.kind != "subscribe" && push.kind != "pong")
    return Unavailable("the server says what no subscriber is told");
  return push;
}

class ReconnectingSubscriber final : public Subscriber {
 public:
  ReconnectingSubscriber(Address address, SubscriberOptions options)
      : address_(std::move(address)), options_(std::move(options)), retry_(options_.backoff) {
    thread_ = exec::Thread("redis-sub", [this] { Keep(); });
  }

  ~ReconnectingSubscriber() override {
    waiter_.Stop();
    thread_.Join();
  }

  Health health() const override {
    absl::MutexLock lock(&mutex_);
    return health_;
  }

 private:
  void Keep() {
    BlockPipeSignal();
    while (!waiter_.stopped()) {
      const absl::Duration began = Now();
      subscribed_ = 0;
      const Status ended = OpenAndListen();
      if (!waiter_.stopped()) NoteDown(ended);
      const bool served = subscribed_ == options_.channels.size();
      const absl::Duration ends = Now();
      waiter_.Sleep(ends + retry_.After(served ? ends - began : absl::ZeroDuration()));
    }
  }

  Status OpenAndListen() {
    ConnectionOptions options{.client_name = options_.name, .open_within = options_.open_within};
    options.limits.bytes = options_.largest_message;
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                            Connection::Open(address_, options, waiter_));
    const Status ended = Listen(*connection);
    return Status(ended.code(), fmt::format("{}: {}", address_.name(), Message(ended)));
  }

  Status Listen(Connection& connection) {
    std::vector<std::string_view> subscribe = {"SUBSCRIBE"};
    subscribe.insert(subscribe.end(), options_.channels.begin(), options_.channels.end());
    connection.Send(FormatCommand(subscribe).Reveal());
    // Its answer is waited for as that of a ping is.
    heard_ = Now();
    asked_ = heard_;
    while (true) {
      MUSTER_RETURN_IF_ERROR(connection.Turn(asked_.has_value() ? *asked_ + options_.answer_within
                                                                : heard_ + options_.ping_every));
      MUSTER_RETURN_IF_ERROR(Hear(connection));
      MUSTER_RETURN_IF_ERROR(CheckPulse(connection));
    }
  }

  Status CheckPulse(Connection& connection) {
    if (asked_.has_value()) {
      return Now() < *asked_ + options_.answer_within
                 ? OkStatus()
                 : Unavailable("the server did not answer a subscriber within {}",
                               DurationText(options_.answer_within));
    }
    if (Now() < heard_ + options_.ping_every) return OkStatus();
    connection.Send(FormatCommand({"PING"}).Reveal());
    asked_ = Now();
    return OkStatus();
  }

  Status Hear(Connection& connection) {
    while (!waiter_.stopped()) {
      MUSTER_ASSIGN_OR_RETURN(const std::optional<Reply> reply, connection.Next());
      if (!reply.has_value()) return OkStatus();
      MUSTER_ASSIGN_OR_RETURN(const Push push, ReadPush(*reply));
      Take(push);
      // After the callback, whose time is not the server's silence.
      heard_ = Now();
    }
    return absl::CancelledError("it is being stopped");
  }

  // What comes before the last channel is subscribed to, the gap speaks for.
  void Take(const Push& push) {
    const size_t wanted = options_.channels.size();
    if (push.kind == "message") {
      if (subscribed_ != wanted) return;
      asked_.reset();  // a sign of life as good as a pong
      options_.on_message(push.channel, push.text);
    } else if (push.kind == "pong") {
      asked_.reset();
    } else if (++subscribed_ == wanted) {
      asked_.reset();
      NoteUp();
      options_.on_gap();
    }
  }

  void NoteUp() {
    absl::MutexLock lock(&mutex_);
    health_.up = true;
    ++health_.connects;
  }

  void NoteDown(const Status& why) {
    bool news = false;
    {
      absl::MutexLock lock(&mutex_);
      news = health_.up || health_.last_error.empty();
      health_.up = false;
      health_.last_error = Message(why);
    }
    if (news) LogWarning("redis hints are not heard", {{"why", why}});
  }

  const Address address_;
  const SubscriberOptions options_;
  Waiter waiter_;

  mutable absl::Mutex mutex_;
  Health health_ ABSL_GUARDED_BY(mutex_);

  // The thread's own.
  size_t subscribed_ = 0;
  absl::Duration heard_ = absl::ZeroDuration();
  std::optional<absl::Duration> asked_;  // when a ping, or SUBSCRIBE, was sent that waits
  Retry retry_;

  exec::Thread thread_;
};

}  // namespace

StatusOr<std::unique_ptr<Subscriber>> OpenSubscriber(const Address& address,
                                                     SubscriberOptions options) {
  if (options.channels.empty()) return InvalidArgument("a subscriber without channels");
  MUSTER_RETURN_IF_ERROR(address.CheckFiles());
  return std::make_unique<ReconnectingSubscriber>(address.Copy(), std::move(options));
}

}  // namespace muster::redis
