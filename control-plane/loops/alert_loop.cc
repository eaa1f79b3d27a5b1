#include "control-plane/loops/alert_loop.h"

#include <algorithm>
#include <utility>

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// Rounds of one tick; the rest comes with the next.
constexpr int kMostRounds = 100;

}  // namespace

AlertLoop::AlertLoop(Store& store, LeaderEpoch epoch, AlertLoopOptions options)
    : store_(store), epoch_(epoch), options_(std::move(options)) {}

Status AlertLoop::Tick(absl::Time now) {
  MUSTER_RETURN_IF_ERROR(ReadSpecs());
  MUSTER_RETURN_IF_ERROR(ReadJobs());
  MUSTER_RETURN_IF_ERROR(ReadBackups());
  if (now < agents_read_ || now >= agents_read_ + options_.agents_every) {
    MUSTER_RETURN_IF_ERROR(ReadAgents(now));
  }
  bool more = true;
  for (int round = 0; more && round < kMostRounds; ++round) {
    auto done = Round(now);
    if (absl::IsAborted(done.status())) done = Round(now);
    MUSTER_RETURN_IF_ERROR(done.status());
    more = *done;
  }
  MUSTER_ASSIGN_OR_RETURN(counts_.outbox, store_.alerts().Counts());
  options_.on_counts(counts_);
  return OkStatus();
}

StatusOr<bool> AlertLoop::Round(absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(AlertFacts facts, ReadFacts());
  const bool more = facts.transitions.size() >= options_.batch;
  // What has left matters once all that it did before is known.
  uint64_t removed_revision = removed_revision_;
  if (!more) {
    MUSTER_ASSIGN_OR_RETURN(removed_revision, ReadRemoved(facts));
  }
  const AlertDecision decision = DecideAlerts(facts, now);
  if (!IsEmpty(decision)) MUSTER_RETURN_IF_ERROR(store_.alerts().Apply(epoch_, decision));
  removed_revision_ = removed_revision;
  CountFiring(facts, decision);
  if (!decision.outbox.empty()) options_.on_told();
  return more;
}

StatusOr<AlertFacts> AlertLoop::ReadFacts() {
  AlertFacts facts{.checks = checks_,
                   .agents = agents_,
                   .replicas = replicas_,
                   .jobs = jobs_,
                   .receivers = receivers_};
  MUSTER_ASSIGN_OR_RETURN(facts.cursor, store_.alerts().Cursor());
  MUSTER_ASSIGN_OR_RETURN(facts.open, store_.alerts().Open());
  MUSTER_ASSIGN_OR_RETURN(facts.transitions,
                          store_.history().TransitionsAfter(facts.cursor, options_.batch));
  MUSTER_RETURN_IF_ERROR(ReadStrangers(facts));
  return facts;
}

// Transitions of agents that joined since the agents were read, and checks applied since.
Status AlertLoop::ReadStrangers(AlertFacts& facts) {
  for (const TransitionRow& transition : facts.transitions) {
    if (!facts.checks.contains(transition.check_id)) {
      MUSTER_RETURN_IF_ERROR(ReadSpecs());
      facts.checks = checks_;
      facts.receivers = receivers_;
    }
    if (facts.agents.contains(transition.agent)) continue;
    MUSTER_ASSIGN_OR_RETURN(const auto agent, store_.sessions().Find(transition.agent));
    if (!agent.has_value()) continue;
    const AgentPresence presence{.connected = agent->connected, .revoked = agent->revoked};
    agents_[agent->name] = presence;
    facts.agents[agent->name] = presence;
  }
  return OkStatus();
}

Status AlertLoop::ReadSpecs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  if (specs_read_ && revision == spec_revision_) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> checks, store_.specs().Checks());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> receivers, store_.specs().Receivers());
  checks_.clear();
  for (const SpecRow& row : checks) {
    checks_[row.check_id] = {.name = row.document.metadata().name(),
                             .description = row.document.check().description(),
                             .runbook = row.document.check().runbook()};
  }
  receivers_.clear();
  for (const SpecRow& row : receivers) receivers_.push_back(row.document.metadata().name());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> jobs, store_.specs().Jobs());
  jobs_.clear();
  for (const SpecRow& row : jobs) {
    const v1::JobSpec& job = row.document.job();
    JobNote& note = jobs_[row.document.metadata().name()];
    note = {
        .changed_at = row.changed_at, .description = job.description(), .runbook = job.runbook()};
    if (job.has_backup()) note.backup = job.backup();
  }
  run_revision_.reset();
  backup_revision_.reset();
  spec_revision_ = revision;
  specs_read_ = true;
  return OkStatus();
}

Status AlertLoop::ReadJobs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.runs().Revision());
  if (run_revision_ == revision) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(std::vector<JobRow> rows, store_.runs().Jobs());
  for (JobRow& row : rows) {
    const auto job = jobs_.find(row.name);
    if (job == jobs_.end()) continue;
    job->second.health = std::move(row.health);
    job->second.keep_problem = std::move(row.keep_problem);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<RunRow> open, store_.runs().Open());
  for (auto& [name, job] : jobs_) job.waits_since = absl::InfiniteFuture();
  for (const RunRow& run : open) {
    const auto job = jobs_.find(run.job);
    const bool waits = run.phase == RunPhase::kWaiting && run.fence == 0 &&
                       run.trigger == v1::RUN_TRIGGER_SCHEDULE && run.action.empty() &&
                       // How late a host may be its job says itself, and then it is missed.
                       !run.spec.has_reported();
    if (job == jobs_.end() || !waits || run.due_at >= job->second.waits_since) continue;
    job->second.waits_since = run.due_at;
    job->second.waits_why = run.reason;
  }
  run_revision_ = revision;
  return OkStatus();
}

Status AlertLoop::ReadBackups() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.backups().Revision());
  if (backup_revision_ == revision) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<BackupRow> kept, store_.backups().Kept());
  std::map<std::string, BackupSummary> summaries = Summaries(kept);
  for (auto& [name, job] : jobs_) job.backups = std::move(summaries[name]);
  backup_revision_ = revision;
  return OkStatus();
}

Status AlertLoop::ReadAgents(absl::Time now) {
  std::map<std::string, AgentPresence> agents;
  counts_.agents_connected = 0;
  std::string after;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<AgentRow> page, store_.sessions().List(after, kPage));
    for (const AgentRow& agent : page) {
      agents[agent.name] = {
          .connected = agent.connected,
          .revoked = agent.revoked,
          .absent = IsAbsent(agent, options_.serving_since, options_.absence, now),
          .silent_since = agent.disconnected_at,
      };
      if (agent.connected) ++counts_.agents_connected;
    }
    if (page.size() < kPage) break;
    after = page.back().name;
  }
  agents_ = std::move(agents);
  MUSTER_RETURN_IF_ERROR(ReadReplicas());
  agents_read_ = now;
  return OkStatus();
}

Status AlertLoop::ReadReplicas() {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<ReplicaRow> replicas, store_.cluster().List());
  replicas_.clear();
  for (const ReplicaRow& replica : replicas) {
    replicas_[replica.id] = {replica.lost(), replica.seen_at, replica.incarnation};
  }
  return OkStatus();
}

StatusOr<uint64_t> AlertLoop::ReadRemoved(AlertFacts& facts) {
  uint64_t revision = removed_revision_;
  std::set<std::pair<std::string, uint32_t>> gone;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(const auto page, store_.history().RemovedStates(revision, kPage));
    for (const RemovedState& state : page) {
      gone.emplace(state.agent, state.check_id);
      revision = std::max(revision, state.revision);
    }
    if (page.size() < kPage) break;
  }
  MUSTER_ASSIGN_OR_RETURN(facts.removed, StillGone(facts, gone));
  return revision;
}

// Of those that matter to this round, the ones that have not come back since.
StatusOr<std::set<std::pair<std::string, uint32_t>>> AlertLoop::StillGone(
    const AlertFacts& facts, const std::set<std::pair<std::string, uint32_t>>& gone) {
  std::set<std::pair<std::string, uint32_t>> out;
  std::set<std::string> agents;
  for (const AlertRow& alert : facts.open) agents.insert(alert.agent);
  for (const TransitionRow& transition : facts.transitions) agents.insert(transition.agent);
  for (const std::string& agent : agents) {
    auto at = gone.lower_bound({agent, 0});
    if (at == gone.end() || at->first != agent) continue;
    MUSTER_ASSIGN_OR_RETURN(const auto states, store_.history().StatesOf(agent));
    std::set<uint32_t> here;
    for (const CheckStateRow& state : states) here.insert(state.check_id);
    for (; at != gone.end() && at->first == agent; ++at) {
      if (!here.contains(at->second)) out.insert(*at);
    }
  }
  return out;
}

void AlertLoop::CountFiring(const AlertFacts& facts, const AlertDecision& decision) {
  std::map<std::string, v1::AlertState> states;
  for (const AlertRow& alert : facts.open) states[alert.id] = alert.state;
  for (const AlertRow& alert : decision.alerts) states[alert.id] = alert.state;
  const auto firing = std::count_if(states.begin(), states.end(), [](const auto& entry) {
    return entry.second == v1::ALERT_STATE_FIRING;
  });
  counts_.alerts_firing = static_cast<size_t>(firing);
}

}  // namespace muster::control
