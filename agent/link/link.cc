#include "agent/link/link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "agent/decide/server_choice.h"
#include "lib/base/log.h"
#include "lib/wire/columns.h"
#include "muster/v1/agent_link.grpc.pb.h"

namespace muster::agent {
namespace {

// What somebody may be looking at travels within this time, however long results are gathered.
constexpr absl::Duration kSoon = absl::Seconds(1);

Status FromGrpc(const grpc::Status& status) {
  return Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

bool IsRefusal(const Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

}  // namespace

// Everything that the link's thread waits for.
struct Link::Mailbox {
  mutable absl::Mutex mutex;
  // From the agent.
  bool grown ABSL_GUARDED_BY(mutex) = false;
  bool urgent ABSL_GUARDED_BY(mutex) = false;
  bool soon ABSL_GUARDED_BY(mutex) = false;
  bool replaced ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  absl::Duration stop_at ABSL_GUARDED_BY(mutex);
  net::ClientIdentity identity ABSL_GUARDED_BY(mutex);
  std::vector<std::string> servers ABSL_GUARDED_BY(mutex);
  LinkCounts counts ABSL_GUARDED_BY(mutex);
  // From the stream.
  std::optional<v1::ToAgent> received ABSL_GUARDED_BY(mutex);
  bool write_done ABSL_GUARDED_BY(mutex) = false;
  bool ended ABSL_GUARDED_BY(mutex) = false;  // no further message will come
  std::optional<Status> done ABSL_GUARDED_BY(mutex);

  bool Woken() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return grown || urgent || replaced || stopping || received.has_value() || write_done || ended;
  }
  // One read of it all; what is told once is told.
  struct News {
    bool grown = false, urgent = false, soon = false, replaced = false, stopping = false;
    bool write_done = false, ended = false;
    absl::Duration stop_at;
    std::optional<v1::ToAgent> received;
  };
  News Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    News news;
    news.grown = std::exchange(grown, false);
    news.urgent = std::exchange(urgent, false);
    news.soon = std::exchange(soon, false);
    news.replaced = std::exchange(replaced, false);
    news.write_done = std::exchange(write_done, false);
    news.stopping = stopping;
    news.ended = ended;
    news.stop_at = stop_at;
    news.received = std::exchange(received, std::nullopt);
    return news;
  }
};

struct Link::Ending {
  Status status;
  bool welcomed = false;
  bool again_at_once = false;
  std::optional<absl::Duration> drain;
};

// gRPC's side: one read and one write in flight. A hold keeps it from being done while the link's
// thread may still start something; Close lets go and waits, so that nothing of gRPC's outlives the
// session.
class Link::Stream final : public grpc::ClientBidiReactor<v1::FromAgent, v1::ToAgent> {
 public:
  Stream(Mailbox& mailbox, v1::AgentLink::Stub& stub) : mailbox_(mailbox) {
    {
      absl::MutexLock lock(&mailbox_.mutex);
      mailbox_.received.reset();
      mailbox_.write_done = mailbox_.ended = false;
      mailbox_.done.reset();
    }
    stub.async()->Session(&context_, this);
    AddHold();
    StartRead(&in_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    absl::MutexLock lock(&mailbox_.mutex);
    if (ok) {
      mailbox_.received = std::move(in_);
    } else {
      mailbox_.ended = true;
    }
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mailbox_.mutex);
    mailbox_.write_done = true;
    mailbox_.ended = mailbox_.ended || !ok;
  }
  void OnDone(const grpc::Status& status) override {
    absl::MutexLock lock(&mailbox_.mutex);
    mailbox_.done = FromGrpc(status);
  }

  void ReadNext() {
    in_.Clear();
    StartRead(&in_);
  }
  void Write(v1::FromAgent message) {
    out_ = std::move(message);
    StartWrite(&out_);
  }
  // What the stream ended with.
  Status Close() {
    context_.TryCancel();
    RemoveHold();
    absl::MutexLock lock(&mailbox_.mutex);
    const auto is_done = [this]() ABSL_SHARED_LOCKS_REQUIRED(mailbox_.mutex) {
      return mailbox_.done.has_value();
    };
    mailbox_.mutex.Await(absl::Condition(&is_done));
    return *mailbox_.done;
  }

 private:
  Mailbox& mailbox_;
  grpc::ClientContext context_;
  v1::ToAgent in_;
  v1::FromAgent out_;
};

// One session from its Hello to its end; the link's thread.
class Link::Session {
 public:
  Session(Link& link, Stream& stream, const LogBounds& log)
      : link_(link),
        stream_(stream),
        epoch_(log.epoch),
        machine_(log.written, link.clock_.Uptime()) {
    HelloFacts facts{link.options_.version, link.options_.boot_id, link.plan_hash_,
                     link.clock_.Now(),     link.options_.facts,   std::nullopt};
    if (link.options_.witnessed) facts.witnessed = link.options_.witnessed();
    Write(MakeHello(log, facts));
  }

  Ending Run() {
    while (!ending_) {
      const Mailbox::News news = Wait();
      TakeNews(news);
      if (!ending_ && news.received) React(*news.received);
      if (!ending_) SendWhatIsDue();
      if (!ending_) CheckTime();
    }
    ending_->welcomed = machine_.welcomed();
    return *std::move(ending_);
  }

 private:
  absl::Duration Now() const { return link_.clock_.Uptime(); }
  void End(Status status) {
    if (!ending_) ending_ = Ending{std::move(status), false, false, std::nullopt};
  }

  Mailbox::News Wait() {
    absl::Duration tick = machine_.NextTick();
    if (writing_) tick = std::min(tick, write_began_ + link_.options_.write_within);
    Mailbox& mailbox = *link_.mailbox_;
    const auto woken = [&]() ABSL_SHARED_LOCKS_REQUIRED(mailbox.mutex) {
      // While it stops, what has been told of that is no news any more.
      return stopping_ ? mailbox.received || mailbox.write_done || mailbox.ended : mailbox.Woken();
    };
    absl::MutexLock lock(&mailbox.mutex);
    if (stopping_) tick = std::min(tick, mailbox.stop_at);
    mailbox.mutex.AwaitWithTimeout(absl::Condition(&woken),
                                   std::max(tick - Now(), absl::ZeroDuration()));
    return mailbox.Take();
  }

  void TakeNews(const Mailbox::News& news) {
    if (news.write_done) writing_ = false;
    if (news.ended) return End(OkStatus());
    if (news.replaced) {
      End(OkStatus());
      ending_->again_at_once = true;
      return;
    }
    const LogPosition log = link_.spool_.position();
    if (log.epoch != epoch_) {
      End(FailedPrecondition("the log began a new epoch"));
      ending_->again_at_once = true;
      return;
    }
    machine_.Available(log.written, news.urgent, Now());
    if (news.soon) machine_.FlushBy(Now() + kSoon);
    if (!news.stopping) return;
    stopping_ = true;
    machine_.FlushNow();
    if (machine_.all_acknowledged() || Now() >= news.stop_at) End(OkStatus());
  }

  void React(const v1::ToAgent& message) {
    const bool greeted = machine_.welcomed();
    StatusOr<Reaction> reaction = machine_.Received(message, Now());
    if (!reaction.ok()) return End(reaction.status());
    if (!greeted && machine_.welcomed()) Greet();
    if (!reaction->servers.empty()) LearnServers(reaction->servers);
    if (reaction->checkpoint && link_.options_.on_checkpoint) {
      link_.options_.on_checkpoint(*reaction->checkpoint);
    }
    if (reaction->new_log_epoch) return BeginNewLog();
    if (reaction->rewind) link_.spool_.Rewind(*reaction->rewind);
    if (reaction->acknowledged) link_.spool_.Acknowledge(*reaction->acknowledged);
    if (reaction->plan) TakePlan(*reaction->plan);
    if (reaction->server_time && link_.options_.on_server_time) {
      link_.options_.on_server_time(*reaction->server_time);
    }
    if (reaction->assignments && link_.options_.on_assignments) {
      link_.options_.on_assignments(*reaction->assignments);
    }
    if (reaction->renew && link_.options_.on_renew) link_.options_.on_renew();
    if (reaction->drain) {
      End(OkStatus());
      ending_->drain = reaction->drain;
      return;
    }
    if (stopping_ && machine_.all_acknowledged()) return End(OkStatus());
    stream_.ReadNext();
  }

  void Greet() {
    absl::MutexLock lock(&link_.mailbox_->mutex);
    LinkCounts& counts = link_.mailbox_->counts;
    counts.connected = true;
    ++counts.sessions;
    LogInfo("connected to the control plane",
            {{"server", counts.server}, {"committed", machine_.committed()}});
  }

  // Their order does not matter: each replica names itself first.
  void LearnServers(const std::vector<std::string>& servers) {
    if (!link_.options_.learn_servers) return;
    {
      absl::MutexLock lock(&link_.mailbox_->mutex);
      std::vector<std::string>& known = link_.mailbox_->servers;
      if (std::is_permutation(known.begin(), known.end(), servers.begin(), servers.end())) return;
      known = servers;
    }
    if (link_.options_.on_servers) link_.options_.on_servers(servers);
  }

  void BeginNewLog() {
    LogWarning("the control plane holds more of the log than is here: a new epoch begins",
               {{"committed", machine_.committed()}});
    End(link_.spool_.StartNewEpoch());
    ending_->again_at_once = ending_->status.ok();
  }

  void TakePlan(const v1::Plan& plan) {
    const Status taken = link_.options_.on_plan(plan);
    if (!taken.ok()) return LogError("a plan cannot be put in force", {{"error", taken}});
    link_.plan_hash_ = plan.hash();
  }

  void SendWhatIsDue() {
    if (writing_) return;
    const std::optional<ReadRequest> request = machine_.ToSend(Now());
    if (!request) return;
    const StatusOr<v1::FromAgent> message = ReadBatch(*request);
    if (!message.ok()) return End(message.status());
    if (!message->has_records()) return;
    machine_.Sent({message->records().first_sequence(), message->records().last_sequence()}, Now());
    Write(*message);
    absl::MutexLock lock(&link_.mailbox_->mutex);
    ++link_.mailbox_->counts.batches;
  }

  StatusOr<v1::FromAgent> ReadBatch(const ReadRequest& request) {
    MUSTER_ASSIGN_OR_RETURN(
        const std::vector<v1::Record> records,
        link_.spool_.ReadFrom(request.from, request.most_entries, request.most_bytes));
    v1::FromAgent message;
    if (records.empty()) return message;
    MUSTER_ASSIGN_OR_RETURN(wire::EncodedBatch batch, wire::EncodeBatch(records));
    message.mutable_records()->set_first_sequence(batch.span.first);
    message.mutable_records()->set_last_sequence(batch.span.last);
    message.mutable_records()->set_batch(std::move(batch.payload));
    return message;
  }

  void Write(v1::FromAgent message) {
    writing_ = true;
    write_began_ = Now();
    stream_.Write(std::move(message));
  }

  void CheckTime() {
    if (const Status patience = machine_.CheckPatience(Now()); !patience.ok()) return End(patience);
    if (writing_ && Now() >= write_began_ + link_.options_.write_within) {
      End(DeadlineExceeded("the control plane takes nothing"));
    }
  }

  Link& link_;
  Stream& stream_;
  const std::string epoch_;
  ClientSession machine_;
  bool writing_ = false;
  bool stopping_ = false;
  absl::Duration write_began_;
  std::optional<Ending> ending_;
};

Link::Link(Spool& spool, const Clock& clock, Random& random, LinkOptions options)
    : spool_(spool),
      clock_(clock),
      random_(random),
      options_(std::move(options)),
      mailbox_(std::make_unique<Mailbox>()),
      plan_hash_(options_.plan_hash) {
  {
    absl::MutexLock lock(&mailbox_->mutex);
    mailbox_->identity = options_.identity;
    mailbox_->servers = options_.servers;
  }
  thread_ = exec::Thread("link", [this] { Work(); });
}

Link::~Link() { Stop(absl::ZeroDuration()); }

void Link::Notify(Urgency urgency) {
  absl::MutexLock lock(&mailbox_->mutex);
  mailbox_->grown = true;
  mailbox_->urgent = mailbox_->urgent || urgency == Urgency::kUrgent;
  mailbox_->soon = mailbox_->soon || urgency == Urgency::kSoon;
}

void Link::Replace(net::ClientIdentity identity, std::vector<std::string> servers) {
  absl::MutexLock lock(&mailbox_->mutex);
  mailbox_->identity = std::move(identity);
  if (!servers.empty()) mailbox_->servers = std::move(servers);
  mailbox_->replaced = true;
}

void Link::Stop(absl::Duration flush_for) {
  {
    absl::MutexLock lock(&mailbox_->mutex);
    if (!mailbox_->stopping) mailbox_->stop_at = clock_.Uptime() + flush_for;
    mailbox_->stopping = true;
  }
  thread_.Join();
}

LinkCounts Link::counts() const {
  absl::MutexLock lock(&mailbox_->mutex);
  return mailbox_->counts;
}

std::vector<std::string> Link::servers() const {
  absl::MutexLock lock(&mailbox_->mutex);
  return mailbox_->servers;
}

// False when the link is to stop.
bool Link::Rest(absl::Duration delay) {
  absl::MutexLock lock(&mailbox_->mutex);
  const auto woken = [this]() ABSL_SHARED_LOCKS_REQUIRED(mailbox_->mutex) {
    return mailbox_->stopping || mailbox_->replaced;
  };
  mailbox_->mutex.AwaitWithTimeout(absl::Condition(&woken), delay);
  mailbox_->replaced = false;
  return !mailbox_->stopping;
}

void Link::Work() {
  std::string server;
  ServerTour tour;
  bool told = false;
  bool again = false;
  while (true) {
    if (!again) server = tour.Next(servers(), random_.Next());
    const Ending ending = RunSession(server);
    if (ending.welcomed) tour.Met();
    const Fields fields = {{"server", server}, {"status", ending.status}};
    if (ending.welcomed) LogInfo("session with the control plane ended", fields);
    if (IsRefusal(ending.status))
      LogError("the control plane refuses this agent", fields);
    else if (!ending.welcomed && !told)
      LogWarning("the control plane cannot be reached", fields);
    told = !ending.welcomed;
    again = ending.again_at_once;
    const absl::Duration rest = RestAfter(ending, tour.RoundsInVain(servers().size()));
    if (!ending.welcomed && !again) tour.Failed();
    if (!Rest(rest)) return;
  }
}

absl::Duration Link::RestAfter(const Ending& ending, uint32_t rounds_in_vain) {
  if (ending.again_at_once) return absl::ZeroDuration();
  if (!ending.drain) return FullJitter(options_.backoff, rounds_in_vain, random_);
  const bool elsewhere = servers().size() > 1;
  return *ending.drain +
         random_.Below(elsewhere ? options_.drain_jitter_elsewhere : options_.drain_jitter);
}

Link::Ending Link::RunSession(const std::string& server) {
  net::ClientIdentity identity;
  {
    absl::MutexLock lock(&mailbox_->mutex);
    mailbox_->replaced = false;
    identity = mailbox_->identity;
    mailbox_->counts.server = server;
  }
  const auto channel =
      options_.open ? options_.open(server, identity) : net::OpenChannel(server, identity);
  const std::unique_ptr<v1::AgentLink::Stub> stub = v1::AgentLink::NewStub(channel);
  Stream stream(*mailbox_, *stub);
  Ending ending = Session(*this, stream, spool_.bounds()).Run();
  const Status closed = stream.Close();
  if (ending.status.ok() && !closed.ok() && !absl::IsCancelled(closed)) ending.status = closed;
  absl::MutexLock lock(&mailbox_->mutex);
  mailbox_->counts.connected = false;
  return ending;
}

}  // namespace muster::agent
