#include "lib/redis/client.h"

#include <deque>

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/exec/threads.h"
#include "lib/redis/connection.h"

namespace muster::redis {
namespace {

absl::Duration Now() { return SystemClock().Uptime(); }

// One call. Its caller reads the outcome after `done`, or goes away when the time is up.
struct Call {
  std::string bytes;
  size_t commands = 0;
  absl::Duration deadline;
  StatusOr<std::vector<Reply>> outcome = std::vector<Reply>();
  absl::Notification done;
};
using CallPtr = std::shared_ptr<Call>;

StatusOr<CallPtr> NewCall(const std::vector<Argv>& commands, absl::Duration deadline) {
  auto call = std::make_shared<Call>();
  for (const Argv& argv : commands) {
    if (argv.empty()) return InvalidArgument("a Redis command without words");
    call->bytes += FormatCommand({argv.begin(), argv.end()}).Reveal();
  }
  call->commands = commands.size();
  call->deadline = deadline;
  return call;
}

class PipelinedClient final : public Client {
 public:
  PipelinedClient(Address address, ClientOptions options)
      : address_(std::move(address)), options_(std::move(options)), retry_(options_.backoff) {
    thread_ = exec::Thread("redis-client", [this] { Keep(); });
  }

  ~PipelinedClient() override {
    waiter_.Stop();
    thread_.Join();
  }

  StatusOr<std::vector<Reply>> Pipeline(std::vector<Argv> commands) override {
    if (commands.empty()) return std::vector<Reply>();
    const absl::Duration deadline = Now() + options_.deadline;
    MUSTER_ASSIGN_OR_RETURN(const CallPtr call, NewCall(commands, deadline));
    MUSTER_RETURN_IF_ERROR(Take(call));
    waiter_.Wake();
    if (!call->done.WaitForNotificationWithTimeout(deadline - Now())) return Late();
    return std::move(call->outcome);
  }

  Health health() const override {
    absl::MutexLock lock(&mutex_);
    return health_;
  }

 private:
  Status Late() const {
    return Unavailable("{} did not answer within {}", address_.name(),
                       DurationText(options_.deadline));
  }

  Status Take(const CallPtr& call) {
    absl::MutexLock lock(&mutex_);
    if (away_) return Unavailable("{}", health_.last_error);
    if (waiting_ + call->commands > options_.most_waiting ||
        waiting_bytes_ + call->bytes.size() > options_.most_waiting_bytes) {
      return ResourceExhausted("{}: more than {} commands or {} bytes would wait for an answer",
                               address_.name(), options_.most_waiting, options_.most_waiting_bytes);
    }
    waiting_ += call->commands;
    waiting_bytes_ += call->bytes.size();
    queue_.push_back(call);
    return OkStatus();
  }

  // The thread's life: a connection after the other.
  void Keep() {
    BlockPipeSignal();
    while (!waiter_.stopped()) {
      const absl::Duration began = Now();
      const Status ended = OpenAndServe();
      Fail(waiter_.stopped() ? Unavailable("{}: the client is being stopped", address_.name())
                             : ended);
      const absl::Duration ends = Now();
      waiter_.Sleep(ends + retry_.After(served_ ? ends - began : absl::ZeroDuration()));
    }
  }

  Status OpenAndServe() {
    served_ = false;
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                            Connection::Open(address_,
                                             {.client_name = options_.name,
                                              .open_within = options_.open_within,
                                              .limits = options_.reply},
                                             waiter_));
    served_ = true;
    NoteUp();
    const Status ended = Serve(*connection);
    return Status(ended.code(), fmt::format("{}: {}", address_.name(), Message(ended)));
  }

  Status Serve(Connection& connection) {
    while (true) {
      SendWhatIsQueued(connection);
      MUSTER_RETURN_IF_ERROR(connection.Turn(NextMoment()));
      MUSTER_RETURN_IF_ERROR(Deliver(connection));
      if (!sent_.empty() && Now() >= sent_.front()->deadline) {
        return Unavailable("the server did not answer within {}", DurationText(options_.deadline));
      }
    }
  }

  absl::Duration NextMoment() const {
    return sent_.empty() ? heard_ + options_.ping_every : sent_.front()->deadline;
  }

  void SendWhatIsQueued(Connection& connection) {
    std::deque<CallPtr> taken;
    {
      absl::MutexLock lock(&mutex_);
      taken.swap(queue_);
    }
    const absl::Duration now = Now();
    if (taken.empty() && sent_.empty() && now >= heard_ + options_.ping_every)
      taken.push_back(NewPing());
    for (CallPtr& call : taken) {
      if (now >= call->deadline) {
        // Its caller has left, and the server is not to blame.
        call->outcome = Late();
        Finish({&call, 1});
        continue;
      }
      connection.Send(call->bytes);
      sent_.push_back(std::move(call));
    }
  }

  // It waits in no caller's name, but counts as any call does.
  CallPtr NewPing() {
    CallPtr call = *NewCall({{"PING"}}, Now() + options_.deadline);
    absl::MutexLock lock(&mutex_);
    waiting_ += call->commands;
    waiting_bytes_ += call->bytes.size();
    return call;
  }

  Status Deliver(Connection& connection) {
    while (true) {
      MUSTER_ASSIGN_OR_RETURN(std::optional<Reply> reply, connection.Next());
      if (!reply.has_value()) return OkStatus();
      heard_ = Now();
      if (sent_.empty()) return Unavailable("the server answers what it was not asked");
      Call& call = *sent_.front();
      call.outcome->push_back(*std::move(reply));
      if (call.outcome->size() < call.commands) continue;
      const CallPtr whole = std::move(sent_.front());
      sent_.pop_front();
      Finish({&whole, 1});
    }
  }

  void Finish(std::span<const CallPtr> calls) {
    {
      absl::MutexLock lock(&mutex_);
      for (const CallPtr& call : calls) {
        waiting_ -= call->commands;
        waiting_bytes_ -= call->bytes.size();
      }
    }
    for (const CallPtr& call : calls) call->done.Notify();
  }

  // From now on calls are refused; those that wait get the error.
  void Fail(const Status& why) {
    std::vector<CallPtr> failed(sent_.begin(), sent_.end());
    sent_.clear();
    bool news = false;
    {
      absl::MutexLock lock(&mutex_);
      news = !away_;
      away_ = true;
      health_.up = false;
      health_.last_error = Message(why);
      failed.insert(failed.end(), queue_.begin(), queue_.end());
      queue_.clear();
    }
    for (const CallPtr& call : failed) call->outcome = why;
    Finish(failed);
    if (news && !waiter_.stopped())
      LogWarning("redis is away; what it made faster takes longer", {{"why", why}});
  }

  void NoteUp() {
    heard_ = Now();
    {
      absl::MutexLock lock(&mutex_);
      away_ = false;
      health_.up = true;
      ++health_.connects;
    }
    LogInfo("redis is connected", {{"server", address_.name()}});
  }

  const Address address_;
  const ClientOptions options_;
  Waiter waiter_;

  mutable absl::Mutex mutex_;
  std::deque<CallPtr> queue_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // commands queued and sent
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool away_ ABSL_GUARDED_BY(mutex_) = false;  // since the last connection failed or ended
  Health health_ ABSL_GUARDED_BY(mutex_);

  // The thread's own.
  std::deque<CallPtr> sent_;
  absl::Duration heard_ = absl::ZeroDuration();
  bool served_ = false;
  Retry retry_;

  exec::Thread thread_;
};

}  // namespace

StatusOr<Reply> Client::Command(Argv argv) {
  const std::string verb = argv.empty() ? "" : argv.front();
  std::vector<Argv> one;
  one.push_back(std::move(argv));
  MUSTER_ASSIGN_OR_RETURN(std::vector<Reply> replies, Pipeline(std::move(one)));
  if (replies.size() != 1) return Internal("{} has {} replies", verb, replies.size());
  if (const Refusal* refusal = replies.front().refusal(); refusal != nullptr) {
    return Unavailable("{} is refused: {}", verb, Truncate(OneLine(refusal->text), 300));
  }
  return std::move(replies.front());
}

StatusOr<std::unique_ptr<Client>> OpenClient(const Address& address, ClientOptions options) {
  MUSTER_RETURN_IF_ERROR(address.CheckFiles());
  return std::make_unique<PipelinedClient>(address.Copy(), std::move(options));
}

}  // namespace muster::redis
