#include "control-plane/rpc/agent_hub.h"

#include <algorithm>

#include "lib/base/log.h"

namespace muster::control {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);
constexpr absl::Duration kTouch = absl::Seconds(5);

}  // namespace

AgentHub::AgentHub(Store& store, Witnesses& witnesses, const Clock& clock, HubOptions options)
    : store_(store),
      witnesses_(witnesses),
      clock_(clock),
      options_(std::move(options)),
      committer_(store.history(), clock, options_.committer, [this] { options_.on_transitions(); }),
      pool_("agents", options_.threads, options_.most_queued),
      book_(std::make_shared<CheckBook>()),
      last_touch_(clock.Uptime()),
      loop_("agent-hub", kTick, [this] { Tick(); }) {
  witnesses_.Renew();  // so that the first Welcome has one
  RefreshBook();
}

AgentHub::~AgentHub() {
  loop_.Stop();
  pool_.Stop();
}

StatusOr<AgentHub::Opened> AgentHub::Open(const v1::Hello& hello, const std::string& agent) {
  const absl::Time now = clock_.Now();
  MUSTER_ASSIGN_OR_RETURN(SessionOpening opening, ReadHello(hello, agent, options_.replica, now));
  MUSTER_ASSIGN_OR_RETURN(const OpenedSession opened, store_.sessions().Open(opening));
  Opened result;
  MUSTER_ASSIGN_OR_RETURN(
      result.witness_agrees,
      witnesses_.Present(agent, hello.has_witnessed() ? &hello.witnessed() : nullptr));
  MUSTER_ASSIGN_OR_RETURN(const std::string store_epoch, store_.database().StoreEpoch());
  const std::shared_ptr<const CheckBook> book = this->book();
  v1::Plan plan = PlanFor(*book, agent, opened.labels);
  std::vector<uint32_t> ids;
  for (const v1::PlannedCheck& check : plan.checks()) ids.push_back(check.id());
  MUSTER_RETURN_IF_ERROR(store_.history().KeepOnly(agent, ids, now).status());
  MUSTER_ASSIGN_OR_RETURN(AgentStates states, store_.history().SessionStates(agent));
  result.session = std::make_unique<ServerSession>(std::move(opening), opened, std::move(states),
                                                   options_.session);
  result.session->SetAgentPlanHash(hello.plan_hash());
  result.session->SetPlan(std::move(plan));
  result.welcome = result.session->Welcome(store_epoch, now);
  const std::optional<v1::Checkpoint> newest = witnesses_.newest();
  if (result.witness_agrees && newest.has_value()) {
    *result.welcome.mutable_welcome()->mutable_checkpoint() = *newest;
  }
  absl::MutexLock lock(&mutex_);
  ++opened_;
  return result;
}

void AgentHub::Enter(const std::string& agent, std::shared_ptr<HubStream> stream) {
  std::shared_ptr<HubStream> older;
  {
    absl::MutexLock lock(&mutex_);
    older = std::exchange(streams_[agent], std::move(stream));
  }
  if (older != nullptr) older->Cut(Aborted("a newer session of {} has taken over", agent));
}

void AgentHub::Leave(const std::string& agent, const HubStream* stream, uint64_t epoch) {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = streams_.find(agent);
    if (found != streams_.end() && found->second.get() == stream) streams_.erase(found);
  }
  if (epoch == 0) return;
  const Status closed = store_.sessions().Close(agent, epoch, clock_.Now());
  if (!closed.ok()) LogWarning("could not close a session", {{"agent", agent}, {"error", closed}});
}

std::shared_ptr<const CheckBook> AgentHub::book() const {
  absl::MutexLock lock(&mutex_);
  return book_;
}

void AgentHub::StatesChanged(const std::string& agent) {
  if (const auto stream = Find(agent)) stream->StatesChanged();
}

std::map<uint32_t, LastObserved> AgentHub::Observed(const std::string& agent) const {
  const auto stream = Find(agent);
  return stream == nullptr ? std::map<uint32_t, LastObserved>() : stream->Observed();
}

std::shared_ptr<HubStream> AgentHub::Find(const std::string& agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = streams_.find(agent);
  return found == streams_.end() ? nullptr : found->second;
}

void AgentHub::DrainAll() {
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

void AgentHub::Tick() {
  RefreshBook();
  RenewCheckpoint();
  const absl::Duration uptime = clock_.Uptime();
  for (const auto& stream : Streams()) stream->Tick(uptime);
  if (uptime - last_touch_ < kTouch) return;
  last_touch_ = uptime;
  std::vector<std::string> agents;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [agent, stream] : streams_) agents.push_back(agent);
  }
  if (agents.empty()) return;
  const Status touched = store_.sessions().Touch(agents, clock_.Now());
  if (!touched.ok()) LogDebug("could not note who is connected", {{"error", touched}});
}

void AgentHub::RenewCheckpoint() {
  if (!witnesses_.Renew()) return;
  const std::optional<v1::Checkpoint> newest = witnesses_.newest();
  for (const auto& stream : Streams()) stream->CheckpointMoved(*newest);
}

void AgentHub::RefreshBook() {
  const StatusOr<uint64_t> revision = store_.specs().Revision();
  if (!revision.ok() || *revision == book()->revision) return;
  StatusOr<std::vector<SpecRow>> checks = store_.specs().Checks();
  if (!checks.ok()) return;
  const auto fresh = std::make_shared<const CheckBook>(CheckBook{*revision, std::move(*checks)});
  {
    absl::MutexLock lock(&mutex_);
    book_ = fresh;
  }
  for (const auto& stream : Streams()) stream->BookChanged(fresh);
}

}  // namespace muster::control
