#include "control-plane/rpc/agent_hub.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "lib/base/log.h"

namespace muster::control {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);

constexpr size_t kFewOutcomes = 8;

// Whether there are states of checks that the plan does not hold.
bool HoldsMore(const AgentStates& states, const v1::Plan& plan) {
  const std::vector<uint32_t> ids = IdsOf(plan);
  const std::set<uint32_t> planned(ids.begin(), ids.end());
  return std::any_of(states.rows.begin(), states.rows.end(),
                     [&](const CheckStateRow& state) { return !planned.contains(state.check_id); });
}

}  // namespace

AgentHub::AgentHub(Store& store, Witnesses& witnesses, const Clock& clock, HubOptions options)
    : store_(store),
      witnesses_(witnesses),
      clock_(clock),
      options_(std::move(options)),
      pool_("agents", options_.threads, options_.most_queued),
      committer_(store.history(), clock, Delivering(options_.committer),
                 [this] { options_.on_transitions(); }),
      opener_(store.sessions(), options_.most_queued),
      book_(std::make_shared<CheckBook>()),
      assignments_(std::make_shared<AssignmentBook>()),
      loop_("agent-hub", kTick, [this] { Tick(); }) {
  witnesses_.Renew();  // so that the first Welcome has one
  RefreshBook();
  RefreshAssignments();
}

AgentHub::~AgentHub() { Stop(); }

void AgentHub::Stop() {
  loop_.Stop();
  opener_.Stop();
  committer_.Stop();
  pool_.Stop();
}

Status AgentHub::Open(const v1::Hello& hello, const std::string& agent, Opener::Done opened) {
  MUSTER_ASSIGN_OR_RETURN(SessionOpening opening,
                          ReadHello(hello, agent, options_.replica, clock_.Now()));
  auto hand_on = [this, opened = std::move(opened)](SessionOpening opening,
                                                    StatusOr<OpenedSession> answer) mutable {
    const auto task = std::make_shared<absl::AnyInvocable<void()>>(
        [opened = std::move(opened), opening = std::move(opening),
         answer = std::move(answer)]() mutable { opened(std::move(opening), std::move(answer)); });
    // The session is open: if the pool is full it is gone on with here.
    if (!pool_.Submit([task] { (*task)(); })) (*task)();
  };
  return opener_.Submit(std::move(opening), std::move(hand_on)) ? OkStatus() : Busy();
}

StatusOr<AgentHub::Prepared> AgentHub::Prepare(const v1::Hello& hello, SessionOpening opening,
                                               const OpenedSession& opened) {
  const std::string agent = opening.agent;
  const absl::Time now = opening.now;
  Prepared result;
  MUSTER_ASSIGN_OR_RETURN(
      result.witness_agrees,
      witnesses_.Present(agent, hello.has_witnessed() ? &hello.witnessed() : nullptr));
  MUSTER_ASSIGN_OR_RETURN(const std::string store_epoch, store_.database().StoreEpoch());
  NoteEpoch(store_epoch);
  // An agent that comes from another replica may have a newer plan than our last look at the store:
  // an older one would take its new checks away, and what is known of them.
  RefreshBook();
  const std::shared_ptr<const CheckBook> book = this->book();
  v1::Plan plan = PlanFor(*book, agent, opened.labels);
  MUSTER_ASSIGN_OR_RETURN(AgentStates states, store_.history().SessionStates(agent));
  if (HoldsMore(states, plan)) {
    MUSTER_RETURN_IF_ERROR(store_.history().KeepOnly(agent, IdsOf(plan), now).status());
    MUSTER_ASSIGN_OR_RETURN(states, store_.history().SessionStates(agent));
  }
  result.session = std::make_unique<ServerSession>(std::move(opening), opened, std::move(states),
                                                   options_.session);
  result.session->SetAgentPlanHash(hello.plan_hash());
  result.session->SetPlan(std::move(plan));
  result.welcome = result.session->Welcome(store_epoch, now);
  for (std::string& server : servers()) {
    result.welcome.mutable_welcome()->add_servers(std::move(server));
  }
  const std::optional<v1::Checkpoint> newest = witnesses_.newest();
  if (result.witness_agrees && newest.has_value()) {
    *result.welcome.mutable_welcome()->mutable_checkpoint() = *newest;
  }
  absl::MutexLock lock(&mutex_);
  ++opened_;
  return result;
}

CommitterOptions AgentHub::Delivering(CommitterOptions options) {
  options.deliver = [this](std::vector<BatchOutcome> outcomes) { Deliver(std::move(outcomes)); };
  return options;
}

// To wake a thread takes as long as to tell one outcome.
void AgentHub::Deliver(std::vector<BatchOutcome> outcomes) {
  const size_t share = std::max(kFewOutcomes, outcomes.size() / options_.threads + 1);
  for (size_t begin = 0; begin < outcomes.size(); begin += share) {
    const auto from = outcomes.begin() + static_cast<std::ptrdiff_t>(begin);
    const size_t count = std::min(share, outcomes.size() - begin);
    const auto mine = std::make_shared<std::vector<BatchOutcome>>(
        std::make_move_iterator(from),
        std::make_move_iterator(from + static_cast<std::ptrdiff_t>(count)));
    const bool taken = pool_.Submit([mine] {
      for (BatchOutcome& outcome : *mine) outcome.done(std::move(outcome.status));
    });
    if (taken) continue;
    for (BatchOutcome& outcome : *mine) outcome.done(Busy());
  }
}

void AgentHub::Enter(const std::string& agent, std::shared_ptr<HubStream> stream) {
  std::shared_ptr<HubStream> older;
  {
    absl::MutexLock lock(&mutex_);
    older = std::exchange(streams_[agent], std::move(stream));
  }
  if (older != nullptr) older->Cut(Aborted("a newer session of {} has taken over", agent));
}

void AgentHub::Leave(const std::string& agent, const HubStream* stream, uint64_t epoch,
                     std::optional<absl::Duration> last_heard) {
  const absl::Time now = clock_.Now();
  SessionEnd end{.agent = agent, .epoch = epoch, .at = now, .heard_at = now};
  if (last_heard.has_value()) end.heard_at -= clock_.Uptime() - *last_heard;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = streams_.find(agent);
    if (found != streams_.end() && found->second.get() == stream) streams_.erase(found);
    if (draining_) end.parting = SessionEnd::Parting::kReplicas;
    if (epoch == 0) return;
    ended_.push_back(std::move(end));
    if (std::exchange(closing_, true)) return;
  }
  CloseEnded();
}

// Where many leave at once, those that left while one transaction was on its way share the next.
void AgentHub::CloseEnded() {
  while (true) {
    std::vector<SessionEnd> ends;
    {
      absl::MutexLock lock(&mutex_);
      ends.swap(ended_);
      if (ends.empty()) closing_ = false;
    }
    if (ends.empty()) return;
    const Status closed = store_.sessions().Close(ends);
    if (closed.ok()) continue;
    LogWarning("could not close sessions yet", {{"sessions", ends.size()}, {"error", closed}});
    absl::MutexLock lock(&mutex_);
    std::move(ends.begin(), ends.end(), std::back_inserter(late_));
  }
}

// An agent that has gone while the store was away must not look connected for ever. Its silence
// begins now, and with the patience for orphans: until now nobody could have taken it in.
void AgentHub::CloseLate() {
  std::vector<SessionEnd> ends;
  {
    absl::MutexLock lock(&mutex_);
    ends.swap(late_);
  }
  if (ends.empty()) return;
  for (SessionEnd& end : ends) {
    end.at = end.heard_at = clock_.Now();
    end.parting = SessionEnd::Parting::kReplicas;
  }
  if (store_.sessions().Close(ends).ok()) return;
  absl::MutexLock lock(&mutex_);
  std::move(ends.begin(), ends.end(), std::back_inserter(late_));
}

void AgentHub::Found() {
  {
    absl::MutexLock lock(&mutex_);
    reclaim_ = true;
  }
  loop_.Wake();
}

Status AgentHub::Reclaim() {
  {
    absl::MutexLock lock(&mutex_);
    if (!reclaim_) return OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(const auto epochs,
                          store_.sessions().Reclaim(options_.replica, clock_.Now()));
  std::map<std::string, std::shared_ptr<HubStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    streams = streams_;
  }
  {
    absl::MutexLock lock(&mutex_);
    reclaim_ = false;
  }
  size_t kept = 0;
  for (const auto& [agent, stream] : streams) {
    const auto newest = epochs.find(agent);
    if (newest == epochs.end() || newest->second > stream->Epoch()) {
      stream->Cut(Aborted("a newer session of {} has taken over", agent));
    } else {
      ++kept;
    }
  }
  LogInfo("reclaimed sessions", {{"kept", kept}, {"cut", streams.size() - kept}});
  return OkStatus();
}

bool AgentHub::AwaitEmpty(absl::Duration within) {
  absl::MutexLock lock(&mutex_);
  const auto empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
  return mutex_.AwaitWithTimeout(absl::Condition(&empty), within);
}

std::shared_ptr<const CheckBook> AgentHub::book() const {
  absl::MutexLock lock(&mutex_);
  return book_;
}

std::shared_ptr<const AssignmentBook> AgentHub::assignments() const {
  absl::MutexLock lock(&mutex_);
  return assignments_;
}

void AgentHub::StatesChanged(const std::string& agent) {
  if (const auto stream = Find(agent)) stream->StatesChanged();
}

std::shared_ptr<HubStream> AgentHub::Find(const std::string& agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = streams_.find(agent);
  return found == streams_.end() ? nullptr : found->second;
}

void AgentHub::DrainAll() {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  SendElsewhere();
}

void AgentHub::SendElsewhere() {
  for (const auto& stream : Streams()) stream->Drain();
}

size_t AgentHub::connected() const {
  absl::MutexLock lock(&mutex_);
  return streams_.size();
}

uint64_t AgentHub::opened() const {
  absl::MutexLock lock(&mutex_);
  return opened_;
}

std::vector<std::shared_ptr<HubStream>> AgentHub::Streams() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<HubStream>> streams;
  for (const auto& [agent, stream] : streams_) streams.push_back(stream);
  return streams;
}

// Sessions of an older epoch are fenced: those that have nothing to say would not notice, and hold
// what was lost.
void AgentHub::NoteEpoch(const std::string& epoch) {
  {
    absl::MutexLock lock(&mutex_);
    const std::string before = std::exchange(store_epoch_, epoch);
    if (before.empty() || before == epoch) return;
  }
  LogWarning("a new epoch of the store: all agents are asked again", {{"epoch", epoch}});
  for (const auto& stream : Streams())
    stream->Cut(Aborted("the store may have lost what it acknowledged; say Hello again"));
}

void AgentHub::Tick() {
  if (const auto epoch = store_.database().StoreEpoch(); epoch.ok()) NoteEpoch(*epoch);
  RefreshBook();
  RefreshAssignments();
  RenewCheckpoint();
  RefreshServers();
  const absl::Duration uptime = clock_.Uptime();
  for (const auto& stream : Streams()) stream->Tick(uptime);
  if (const Status reclaimed = Reclaim(); !reclaimed.ok()) {
    LogWarning("could not reclaim the sessions yet", {{"error", reclaimed}});
  }
  CloseLate();
}

void AgentHub::RenewCheckpoint() {
  if (!witnesses_.Renew()) return;
  const std::optional<v1::Checkpoint> newest = witnesses_.newest();
  for (const auto& stream : Streams()) stream->CheckpointMoved(*newest);
}

void AgentHub::RefreshServers() {
  const std::vector<std::string> now = servers();
  {
    absl::MutexLock lock(&mutex_);
    if (now == servers_) return;
    servers_ = now;
  }
  for (const auto& stream : Streams()) stream->ServersChanged(now);
}

void AgentHub::RefreshAssignments() {
  const StatusOr<uint64_t> revision = store_.runs().AssignmentRevision();
  if (!revision.ok() || assignment_revision_ == *revision) return;
  const StatusOr<std::vector<RunRow>> runs = store_.runs().OnHands();
  if (!runs.ok()) return LogWarning("runs cannot be read", {{"error", runs.status()}});
  const auto fresh = std::make_shared<const AssignmentBook>(MakeAssignmentBook(*runs));
  {
    absl::MutexLock lock(&mutex_);
    assignments_ = fresh;
  }
  assignment_revision_ = *revision;
  for (const auto& stream : Streams()) stream->AssignmentsChanged(*fresh);
}

void AgentHub::RefreshBook() {
  const StatusOr<uint64_t> revision = store_.specs().Revision();
  if (!revision.ok() || *revision == book()->revision) return;
  StatusOr<std::vector<SpecRow>> checks = store_.specs().Checks();
  if (!checks.ok()) return;
  const auto fresh = std::make_shared<const CheckBook>(CheckBook{*revision, std::move(*checks)});
  {
    absl::MutexLock lock(&mutex_);
    if (book_->revision >= fresh->revision) return;  // somebody else was faster
    book_ = fresh;
  }
  for (const auto& stream : Streams()) stream->BookChanged(fresh);
}

}  // namespace muster::control
