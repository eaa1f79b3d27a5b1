#include "control-plane/rpc/agent_link_service.h"

#include <atomic>
#include <optional>

#include "lib/base/log.h"
#include "lib/net/status.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr char kMethod[] = "muster.v1.AgentLink.Session";
// An agent that takes nothing for this long is gone, whatever TCP says.
constexpr absl::Duration kWriteDeadline = absl::Seconds(30);
// Bytes of a batch that a reaction judges itself: a hundred results or so.
constexpr size_t kSmallBatch = 2048;

// What waits to be sent: one message of each kind, the newest. So the outbox is bounded by its
// shape.
struct Outbox {
  std::optional<v1::ToAgent> welcome;
  std::optional<v1::ToAgent> plan;
  std::optional<v1::ToAgent> assignments;
  std::optional<v1::ToAgent> ack;
  std::optional<v1::ToAgent> drain;
  std::optional<v1::ToAgent> checkpoint;
  std::optional<v1::ToAgent> servers;

  std::optional<v1::ToAgent> Next() {
    for (auto* slot : {&welcome, &ack, &plan, &assignments, &servers, &drain, &checkpoint}) {
      if (slot->has_value()) return std::exchange(*slot, std::nullopt);
    }
    return std::nullopt;
  }
};

// Life of a stream: read Hello → open → (read batch → take → commit → ack)* → Finish → OnDone.
//
// The stream keeps itself alive from its construction to OnDone; the hub and the work on its way
// hold it as well. Two locks, always taken in this order: work_mutex_ (the session), io_mutex_
// (gRPC's side).
class AgentStream final : public grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>,
                          public HubStream,
                          public std::enable_shared_from_this<AgentStream> {
 public:
  static AgentStream* Start(AgentHub& hub, Gate& gate, grpc::CallbackServerContext* context) {
    const auto stream = std::make_shared<AgentStream>(hub, context);
    stream->Begin(gate, *context);
    return stream.get();
  }

  AgentStream(AgentHub& hub, grpc::CallbackServerContext* context) : hub_(hub), context_(context) {}

  // gRPC's reactions.
  void OnReadDone(bool ok) override {
    if (!ok) return CloseWith(OkStatus());
    if (!TakeAtOnce()) Post([this] { Handle(); });
  }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&io_mutex_);
    writing_ = false;
    if (ok) WriteNext();
  }
  void OnCancel() override {
    if (admission_.has_value()) admission_->Cancelled();
    CloseWith(Unavailable("the stream was cancelled"));
  }
  void OnDone() override {
    std::shared_ptr<AgentStream> self;
    {
      absl::MutexLock lock(&io_mutex_);
      self = std::move(self_);
      context_ = nullptr;
    }
    registration_.reset();
    std::optional<absl::Duration> last_heard;
    if (admission_.has_value()) last_heard = admission_->LastHeard();
    admission_.reset();
    // The store is told on the pool; if that is full, here: a session must not stay open.
    if (!hub_.pool().Submit([self, last_heard] { self->Leave(last_heard); })) Leave(last_heard);
  }

  // The hub's side.
  void BookChanged(std::shared_ptr<const CheckBook> book) override {
    Post([this, book = std::move(book)] {
      absl::MutexLock lock(&work_mutex_);
      // Work on the pool may overtake.
      if (session_ != nullptr && book->revision >= hub_.book()->revision) SetPlan(*book);
    });
  }
  void AssignmentsChanged(const AssignmentBook& book) override {
    const auto mine = book.find(agent_);
    v1::ToAgent message;
    v1::Assignments& assignments = *message.mutable_assignments();
    if (mine != book.end()) assignments = mine->second;
    std::string bytes = assignments.SerializeAsString();
    absl::MutexLock lock(&io_mutex_);
    // Before the Welcome nothing is said; it is followed by what the book holds then.
    if (!told_servers_.has_value() || told_assignments_ == bytes) return;
    told_assignments_ = std::move(bytes);
    outbox_.assignments = std::move(message);
    WriteNext();
  }
  void StatesChanged() override {
    absl::MutexLock lock(&io_mutex_);
    reload_ = true;
  }
  uint64_t Epoch() override { return epoch_; }
  void ServersChanged(const std::vector<std::string>& servers) override {
    absl::MutexLock lock(&io_mutex_);
    if (!told_servers_.has_value() || *told_servers_ == servers) return;
    told_servers_ = servers;
    v1::ToAgent message;
    message.mutable_servers()->mutable_addresses()->Assign(servers.begin(), servers.end());
    outbox_.servers = std::move(message);
    WriteNext();
  }
  void CheckpointMoved(const v1::Checkpoint& checkpoint) override {
    v1::ToAgent message;
    *message.mutable_checkpoint() = checkpoint;
    absl::MutexLock lock(&io_mutex_);
    if (!may_witness_) return;
    outbox_.checkpoint = std::move(message);
    WriteNext();
  }
  void Drain() override {
    v1::ToAgent message;
    *message.mutable_drain()->mutable_after() = wire::ToProto(absl::ZeroDuration());
    absl::MutexLock lock(&io_mutex_);
    outbox_.drain = std::move(message);
    WriteNext();
  }
  void Cut(const Status& status) override { CloseWith(status); }
  void Tick(absl::Duration uptime) override {
    bool overdue = false;
    {
      absl::MutexLock lock(&io_mutex_);
      overdue = writing_ && uptime - write_began_ > kWriteDeadline;
      if (overdue && context_ != nullptr) context_->TryCancel();
    }
    if (overdue) LogWarning("agent takes nothing any more", {{"agent", agent_}});
  }

 private:
  void Begin(Gate& gate, const grpc::CallbackServerContext& context) {
    {
      absl::MutexLock lock(&io_mutex_);
      self_ = shared_from_this();
    }
    StatusOr<Admission> admission = gate.Admit(context, kMethod);
    // Refusals are counted by the gate: a line for each would let anybody fill the log.
    if (!admission.ok()) {
      Close(admission.status());
      return;
    }
    agent_ = admission->identity().name;
    admission_.emplace(std::move(*admission));
    registration_.emplace(gate.RegisterStream(
        admission_->identity(), [stream = std::weak_ptr<AgentStream>(shared_from_this())] {
          if (const auto self = stream.lock())
            self->Cut(PermissionDenied("the certificate was revoked"));
        }));
    Read();
  }

  // Runs `work` on the pool while the stream lives.
  void Post(absl::AnyInvocable<void()> work) {
    const bool taken = hub_.pool().Submit(
        [self = shared_from_this(), work = std::move(work)]() mutable { work(); });
    if (!taken) CloseWith(Busy());
  }

  // A small batch, which is judged in less time than it takes to hand it on, if nothing is to be
  // waited for. False if it is the pool's.
  bool TakeAtOnce() {
    if (message_.records().batch().empty() || message_.records().batch().size() > kSmallBatch) {
      return false;
    }
    if (!work_mutex_.TryLock()) return false;
    const bool here = session_ != nullptr && !MustReload();
    if (here) CloseIfBad(TakeRecords(message_.records()));
    work_mutex_.Unlock();
    return here;
  }

  void Handle() {
    absl::MutexLock lock(&work_mutex_);
    CloseIfBad(TakeMessage());
  }

  Status TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    if (message_.has_hello()) return TakeHello(message_.hello());
    if (!message_.has_records()) return InvalidArgument("a message of an unknown kind");
    MUSTER_RETURN_IF_ERROR(Reload());
    return TakeRecords(message_.records());
  }

  void CloseIfBad(const Status& status) {
    if (!status.ok()) CloseWith(status);
  }

  bool MustReload() {
    absl::MutexLock lock(&io_mutex_);
    return reload_;
  }

  // The states in the store, if they were changed by another hand.
  Status Reload() ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    {
      absl::MutexLock io(&io_mutex_);
      if (session_ == nullptr || !std::exchange(reload_, false)) return OkStatus();
    }
    MUSTER_ASSIGN_OR_RETURN(AgentStates states, hub_.store().history().SessionStates(agent_));
    session_->Reload(std::move(states));
    return OkStatus();
  }

  Status TakeHello(const v1::Hello& hello) ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    if (session_ != nullptr) return InvalidArgument("a second Hello in one session");
    return hub_.Open(
        hello, agent_,
        [self = shared_from_this()](SessionOpening opening, StatusOr<OpenedSession> opened) {
          self->Opened(std::move(opening), std::move(opened));
        });
  }

  void Opened(SessionOpening opening, const StatusOr<OpenedSession>& opened) {
    absl::MutexLock lock(&work_mutex_);
    if (!opened.ok()) return CloseWith(opened.status());
    epoch_ = opened->epoch;
    // It had ended before its session was open, which nobody else knows of.
    if (left_) return hub_.Leave(agent_, this, opened->epoch, std::nullopt);
    CloseIfBad(Serve(message_.hello(), std::move(opening), *opened));
  }

  Status Serve(const v1::Hello& hello, SessionOpening opening, const OpenedSession& opened)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    MUSTER_ASSIGN_OR_RETURN(AgentHub::Prepared prepared,
                            hub_.Prepare(hello, std::move(opening), opened));
    session_ = std::move(prepared.session);
    hub_.Enter(agent_, shared_from_this());
    LogInfo("agent connected", {{"agent", agent_},
                                {"version", hello.version()},
                                {"epoch", session_->epoch()},
                                {"committed", session_->stored_sequence()}});
    {
      absl::MutexLock io(&io_mutex_);
      const auto& servers = prepared.welcome.welcome().servers();
      told_servers_.emplace(servers.begin(), servers.end());
      outbox_.welcome = std::move(prepared.welcome);
      may_witness_ = prepared.witness_agrees;
      if (!session_->PlanTaken()) outbox_.plan = PlanMessage();
      WriteNext();
    }
    // They may have changed since the hub looked.
    SetPlan(*hub_.book());
    ServersChanged(hub_.servers());
    AssignmentsChanged(*hub_.assignments());
    Read();
    return OkStatus();
  }

  Status TakeRecords(const v1::Records& records) ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    if (session_ == nullptr) return InvalidArgument("records before Hello");
    MUSTER_ASSIGN_OR_RETURN(BatchCommit commit, session_->Take(records, hub_.clock().Now()));
    const uint64_t last = commit.last_sequence;
    MUSTER_RETURN_IF_ERROR(hub_.committer().Submit(
        std::move(commit), [self = shared_from_this(), last](const Status& status) {
          if (!status.ok()) return self->CloseWith(status);
          self->Stored(last);
        }));
    read_paused_ = session_->WindowFull();
    if (!read_paused_) Read();
    return OkStatus();
  }

  void Stored(uint64_t sequence) {
    absl::MutexLock lock(&work_mutex_);
    v1::ToAgent ack = session_->Stored(sequence);
    {
      absl::MutexLock io(&io_mutex_);
      // Acknowledgements are cumulative: only the newest need be sent.
      if (!outbox_.ack.has_value() || outbox_.ack->ack().sequence() < sequence) {
        outbox_.ack = std::move(ack);
      }
      WriteNext();
    }
    if (std::exchange(read_paused_, false)) Read();
  }

  void SetPlan(const CheckBook& book) ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    if (!session_->SetPlan(PlanFor(book, agent_, session_->labels()))) return;
    const auto kept =
        hub_.store().history().KeepOnly(agent_, IdsOf(session_->plan()), hub_.clock().Now());
    if (!kept.ok())
      LogWarning("could not drop old states", {{"agent", agent_}, {"error", kept.status()}});
    absl::MutexLock io(&io_mutex_);
    outbox_.plan = PlanMessage();
    WriteNext();
  }

  v1::ToAgent PlanMessage() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(work_mutex_) {
    v1::ToAgent message;
    *message.mutable_plan() = session_->plan();
    return message;
  }

  void Read() {
    absl::MutexLock lock(&io_mutex_);
    if (finished_) return;
    message_.Clear();
    StartRead(&message_);
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(io_mutex_) {
    if (writing_ || finished_) return;
    std::optional<v1::ToAgent> next = outbox_.Next();
    if (!next.has_value()) return;
    sending_ = std::move(*next);
    writing_ = true;
    write_began_ = hub_.clock().Uptime();
    StartWrite(&sending_);
  }

  void CloseWith(const Status& status) {
    if (!Close(status) || status.ok() || status.code() == absl::StatusCode::kUnavailable) return;
    LogWarning("session ended", {{"agent", agent_}, {"reason", status}});
  }

  // The one home of Finish. False if the stream had been closed before.
  bool Close(const Status& status) {
    absl::MutexLock lock(&io_mutex_);
    if (finished_) return false;
    finished_ = true;
    Finish(net::ToGrpc(status));
    return true;
  }

  void Leave(std::optional<absl::Duration> last_heard) {
    uint64_t epoch = 0;
    {
      absl::MutexLock lock(&work_mutex_);
      left_ = true;
      epoch = epoch_;
    }
    hub_.Leave(agent_, this, epoch, last_heard);
    if (epoch != 0) LogInfo("agent disconnected", {{"agent", agent_}, {"epoch", epoch}});
  }

  AgentHub& hub_;
  std::string agent_;  // set once, before the first read
  std::optional<Admission> admission_;
  std::optional<Gate::Registration> registration_;
  std::atomic<uint64_t> epoch_ = 0;
  v1::FromAgent message_;  // gRPC's from Read to OnReadDone, then whoever takes it

  absl::Mutex work_mutex_;
  std::unique_ptr<ServerSession> session_ ABSL_GUARDED_BY(work_mutex_);
  bool read_paused_ ABSL_GUARDED_BY(work_mutex_) = false;
  bool left_ ABSL_GUARDED_BY(work_mutex_) = false;  // the stream has ended

  absl::Mutex io_mutex_ ABSL_ACQUIRED_AFTER(work_mutex_);
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(io_mutex_);  // null after OnDone
  std::shared_ptr<AgentStream> self_ ABSL_GUARDED_BY(io_mutex_);
  Outbox outbox_ ABSL_GUARDED_BY(io_mutex_);
  v1::ToAgent sending_ ABSL_GUARDED_BY(io_mutex_);
  absl::Duration write_began_ ABSL_GUARDED_BY(io_mutex_);
  bool writing_ ABSL_GUARDED_BY(io_mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(io_mutex_) = false;
  bool reload_ ABSL_GUARDED_BY(io_mutex_) = false;
  std::optional<std::vector<std::string>> told_servers_
      ABSL_GUARDED_BY(io_mutex_);                            // once welcomed
  std::string told_assignments_ ABSL_GUARDED_BY(io_mutex_);  // as bytes; empty: none
  bool may_witness_ ABSL_GUARDED_BY(io_mutex_) = false;      // welcomed, and what it holds agrees
};

}  // namespace

grpc::ServerBidiReactor<v1::FromAgent, v1::ToAgent>* AgentLinkService::Session(
    grpc::CallbackServerContext* context) {
  return AgentStream::Start(hub_, gate_, context);
}

}  // namespace muster::control
