#include "control-plane/loops/job_loop.h"

#include <algorithm>

#include "control-plane/decide/job_plan.h"
#include "lib/base/log.h"

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// Rounds of one tick; the rest comes with the next.
constexpr int kMostRounds = 20;
// Jobs whose slots are stored in one transaction.
constexpr size_t kMostDecisions = 200;

}  // namespace

Status JobLoop::Tick(absl::Time now) {
  bool more = true;
  for (int round = 0; more && round < kMostRounds; ++round) {
    MUSTER_ASSIGN_OR_RETURN(more, Round(now));
  }
  return OkStatus();
}

StatusOr<bool> JobLoop::Round(absl::Time now) {
  MUSTER_RETURN_IF_ERROR(ReadSpecs());
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.runs().Revision());
  const bool changed = run_revision_ != revision;
  const bool waits = !open_.empty() && now >= agents_read_ + options_.agents_every;
  if (!changed && !waits && now < next_look_) return false;
  next_look_ = absl::InfiniteFuture();
  if (changed) {
    MUSTER_ASSIGN_OR_RETURN(open_, store_.runs().Open());
    for (auto& [name, job] : jobs_) job.next_look = absl::InfinitePast();
  }
  run_revision_ = revision;
  MUSTER_ASSIGN_OR_RETURN(bool more, PlanJobs(now));
  if (more) return true;  // the runs that are new now are among the open ones of the next round
  MUSTER_ASSIGN_OR_RETURN(more, Dispatch(now));
  return more;
}

Status JobLoop::ReadSpecs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  if (spec_revision_ == revision) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(std::vector<SpecRow> specs, store_.specs().Jobs());
  std::map<std::string, Known> jobs;
  for (SpecRow& spec : specs) {
    const std::string name = spec.document.metadata().name();
    Known& job = jobs[name];
    if (const auto known = jobs_.find(name); known != jobs_.end()) {
      job.last_missed = known->second.last_missed;
    }
    job.spec = std::move(spec);
  }
  jobs_ = std::move(jobs);
  spec_revision_ = revision;
  run_revision_.reset();  // look at all again
  forget_ = true;
  return OkStatus();
}

StatusOr<bool> JobLoop::PlanJobs(absl::Time now) {
  const bool due = std::any_of(jobs_.begin(), jobs_.end(),
                               [now](const auto& job) { return job.second.next_look <= now; });
  if (due || forget_) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<JobRow> rows, store_.runs().Jobs());
    MUSTER_RETURN_IF_ERROR(ForgetDeleted(rows));
    forget_ = false;
    std::map<std::string, const JobRow*> row_of;
    for (const JobRow& row : rows) row_of[row.name] = &row;
    std::map<std::string, std::vector<const RunRow*>> open_of;
    for (const RunRow& run : open_) open_of[run.job].push_back(&run);
    std::vector<JobDecision> decisions;
    for (auto& [name, job] : jobs_) {
      if (job.next_look > now || decisions.size() >= kMostDecisions) continue;
      JobFacts facts{.name = name,
                     .spec = job.spec.document.job(),
                     .generation = job.spec.generation,
                     .changed_at = job.spec.changed_at,
                     .open = std::move(open_of[name]),
                     .last_missed = job.last_missed};
      if (const auto row = row_of.find(name); row != row_of.end()) facts.row = *row->second;
      StatusOr<JobPlan> plan = PlanJob(facts, now);
      if (!plan.ok()) {
        // A spec that an older program let in: said once, until it is changed.
        LogError("a job's schedule cannot be read", {{"job", name}, {"error", plan.status()}});
        job.next_look = absl::InfiniteFuture();
        continue;
      }
      job.next_look = plan->next_look;
      if (plan->decision.has_value()) decisions.push_back(*std::move(plan->decision));
    }
    if (!decisions.empty()) {
      const Status stored = store_.runs().Decide(epoch_, decisions, now);
      if (!stored.ok()) {
        run_revision_.reset();
        return stored;
      }
      for (const JobDecision& decision : decisions) Note(decision);
      options_.on_changed();
      return true;
    }
  }
  for (const auto& [name, job] : jobs_) next_look_ = std::min(next_look_, job.next_look);
  return false;
}

void JobLoop::Note(const JobDecision& decision) {
  const auto job = jobs_.find(decision.row.name);
  if (job == jobs_.end()) return;
  if (!decision.missed.empty()) job->second.last_missed = decision.missed.back();
  for (const RunRow& run : decision.runs) {
    if (run.phase == RunPhase::kOver) options_.on_over(run.state);
  }
}

Status JobLoop::ForgetDeleted(const std::vector<JobRow>& rows) {
  std::vector<std::string> deleted;
  for (const JobRow& row : rows) {
    if (!jobs_.contains(row.name)) deleted.push_back(row.name);
  }
  if (deleted.empty()) return OkStatus();
  return store_.runs().Forget(epoch_, deleted);
}

StatusOr<bool> JobLoop::Dispatch(absl::Time now) {
  JobCounts counts;
  for (const RunRow& run : open_) {
    ++(run.state == v1::RUN_STATE_RUNNING ? counts.running : counts.queued);
  }
  options_.on_counts(counts);
  if (open_.empty()) return false;
  MUSTER_RETURN_IF_ERROR(ReadAgents(now));
  DispatchFacts facts{.open = open_, .agents = agents_, .per_host = options_.runs_per_host};
  for (const auto& [name, job] : jobs_) facts.jobs.insert(name);
  const DispatchPlan plan = DecideDispatch(facts, now);
  next_look_ = std::min(next_look_, plan.next_look);
  if (plan.changes.empty()) return false;
  MUSTER_ASSIGN_OR_RETURN(const uint64_t made, store_.runs().Change(epoch_, plan.changes, now));
  if (made == 0) return false;
  for (const RunChange& change : plan.changes) {
    if (change.row.phase == RunPhase::kOver) options_.on_over(change.row.state);
  }
  options_.on_changed();
  return true;
}

Status JobLoop::ReadAgents(absl::Time now) {
  if (now >= agents_read_ && now < agents_read_ + options_.agents_every) return OkStatus();
  std::map<std::string, HostView> agents;
  std::string after;
  while (true) {
    MUSTER_ASSIGN_OR_RETURN(std::vector<AgentRow> page, store_.sessions().List(after, kPage));
    const bool last = page.size() < kPage;
    if (!last) after = page.back().name;
    for (AgentRow& agent : page) {
      agents[agent.name] = {std::move(agent.labels), agent.connected, agent.revoked};
    }
    if (last) break;
  }
  agents_ = std::move(agents);
  agents_read_ = now;
  return OkStatus();
}

}  // namespace muster::control
