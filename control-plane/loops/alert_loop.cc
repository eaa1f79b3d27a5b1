#include "control-plane/loops/alert_loop.h"

#include <algorithm>
#include <utility>

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// Rounds of one tick; the rest comes with the next.
constexpr int kMostRounds = 100;

}  // namespace

AlertLoop::AlertLoop(Store& store, LeaderEpoch epoch, Presence& presence, AlertLoopOptions options)
    : store_(store), epoch_(epoch), presence_(presence), options_(std::move(options)) {}

Status AlertLoop::Tick(absl::Time now) {
  MUSTER_RETURN_IF_ERROR(ReadWhatIsWanted());
  now_ = now;
  MUSTER_RETURN_IF_ERROR(ReadAgents(now));
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

Status AlertLoop::ReadWhatIsWanted() {
  MUSTER_RETURN_IF_ERROR(ReadSpecs());
  MUSTER_RETURN_IF_ERROR(ReadJobs());
  return ReadBackups();
}

StatusOr<bool> AlertLoop::Round(absl::Time now) {
  MUSTER_RETURN_IF_ERROR(ReadNews());
  const bool more = facts_.transitions.size() >= options_.batch;
  // What has left matters once all that it did before is known.
  uint64_t removed_revision = removed_revision_;
  if (!more) {
    MUSTER_ASSIGN_OR_RETURN(removed_revision, ReadRemoved());
  }
  const AlertDecision decision = DecideAlerts(facts_, now);
  if (!IsEmpty(decision)) MUSTER_RETURN_IF_ERROR(store_.alerts().Apply(epoch_, decision));
  removed_revision_ = removed_revision;
  CountFiring(decision);
  if (!decision.outbox.empty()) options_.on_told();
  return more;
}

Status AlertLoop::ReadNews() {
  facts_.removed.clear();
  MUSTER_ASSIGN_OR_RETURN(facts_.cursor, store_.alerts().Cursor());
  MUSTER_ASSIGN_OR_RETURN(facts_.open, store_.alerts().Open());
  MUSTER_ASSIGN_OR_RETURN(facts_.transitions,
                          store_.history().TransitionsAfter(facts_.cursor, options_.batch));
  return ReadStrangers();
}

Status AlertLoop::ReadStrangers() {
  std::set<std::string> strangers;
  const auto meet = [&](const std::string& agent) {
    if (!agent.empty() && !facts_.agents.contains(agent)) strangers.insert(agent);
  };
  for (const AlertRow& alert : facts_.open) meet(alert.agent);
  for (const TransitionRow& transition : facts_.transitions) {
    // Of a check that was applied since.
    if (!facts_.checks.contains(transition.check_id)) {
      MUSTER_RETURN_IF_ERROR(ReadWhatIsWanted());
    }
    meet(transition.agent);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<AgentSession> sessions,
                          store_.sessions().Of(strangers));
  for (const AgentSession& agent : sessions) facts_.agents[agent.name] = PresenceOf(agent);
  return OkStatus();
}

AgentPresence AlertLoop::PresenceOf(const AgentSession& agent) const {
  return {.connected = agent.connected,
          .revoked = agent.revoked,
          .absent = IsAbsent(agent, view_->serving, presence_.policy(), now_),
          .silent_since = LastHeard(agent)};
}

Status AlertLoop::ReadSpecs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  if (specs_read_ && revision == spec_revision_) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> checks, store_.specs().Checks());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> receivers, store_.specs().Receivers());
  facts_.checks.clear();
  for (const SpecRow& row : checks) {
    facts_.checks[row.check_id] = {.name = row.document.metadata().name(),
                                   .description = row.document.check().description(),
                                   .runbook = row.document.check().runbook()};
  }
  facts_.receivers.clear();
  for (const SpecRow& row : receivers) facts_.receivers.push_back(row.document.metadata().name());
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> jobs, store_.specs().Jobs());
  facts_.jobs.clear();
  for (const SpecRow& row : jobs) {
    const v1::JobSpec& job = row.document.job();
    JobNote& note = facts_.jobs[row.document.metadata().name()];
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
    const auto job = facts_.jobs.find(row.name);
    if (job == facts_.jobs.end()) continue;
    job->second.health = std::move(row.health);
    job->second.keep_problem = std::move(row.keep_problem);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<RunRow> open, store_.runs().Open());
  for (auto& [name, job] : facts_.jobs) job.waits_since = absl::InfiniteFuture();
  for (const RunRow& run : open) {
    const auto job = facts_.jobs.find(run.job);
    const bool waits = run.phase == RunPhase::kWaiting && run.fence == 0 &&
                       run.trigger == v1::RUN_TRIGGER_SCHEDULE && run.action.empty() &&
                       // How late a host may be its job says itself, and then it is missed.
                       !run.spec.has_reported();
    if (job == facts_.jobs.end() || !waits || run.due_at >= job->second.waits_since) continue;
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
  for (auto& [name, job] : facts_.jobs) job.backups = std::move(summaries[name]);
  backup_revision_ = revision;
  return OkStatus();
}

// Of thousands of agents hardly any is away, or has an alert.
Status AlertLoop::ReadAgents(absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(auto view, presence_.Look(now));
  if (view == view_) return OkStatus();
  view_ = std::move(view);
  counts_.agents_connected = view_->connected;
  std::map<std::string, AgentPresence> agents;
  for (const auto& [name, agent] : view_->away) {
    agents.emplace_hint(agents.end(), name, PresenceOf(agent));
  }
  facts_.agents = std::move(agents);
  return ReadReplicas();
}

Status AlertLoop::ReadReplicas() {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<ReplicaRow> replicas, store_.cluster().List());
  facts_.replicas.clear();
  for (const ReplicaRow& replica : replicas) {
    facts_.replicas[replica.id] = {replica.lost(), replica.seen_at, replica.incarnation};
  }
  return OkStatus();
}

StatusOr<uint64_t> AlertLoop::ReadRemoved() {
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
  MUSTER_ASSIGN_OR_RETURN(facts_.removed, StillGone(gone));
  return revision;
}

// Of those that matter to this round, the ones that have not come back since.
StatusOr<std::set<std::pair<std::string, uint32_t>>> AlertLoop::StillGone(
    const std::set<std::pair<std::string, uint32_t>>& gone) {
  std::set<std::pair<std::string, uint32_t>> out;
  std::set<std::string> agents;
  for (const AlertRow& alert : facts_.open) agents.insert(alert.agent);
  for (const TransitionRow& transition : facts_.transitions) agents.insert(transition.agent);
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

void AlertLoop::CountFiring(const AlertDecision& decision) {
  std::map<std::string, v1::AlertState> states;
  for (const AlertRow& alert : facts_.open) states[alert.id] = alert.state;
  for (const AlertRow& alert : decision.alerts) states[alert.id] = alert.state;
  const auto firing = std::count_if(states.begin(), states.end(), [](const auto& entry) {
    return entry.second == v1::ALERT_STATE_FIRING;
  });
  counts_.alerts_firing = static_cast<size_t>(firing);
}

}  // namespace muster::control
