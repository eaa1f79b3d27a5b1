#include "control-plane/loops/job_loop.h"

#include <algorithm>

#include "control-plane/decide/backup_run.h"
#include "lib/base/log.h"

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// Rounds of one tick; the rest comes with the next.
constexpr int kMostRounds = 20;
// Jobs whose slots are stored in one transaction.
constexpr size_t kMostDecisions = 2000;

bool Covers(const std::optional<MissedRow>& missed, absl::Time slot) {
  return missed.has_value() && missed->slot <= slot && slot <= missed->last_slot;
}

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
  MUSTER_RETURN_IF_ERROR(ReadJobs());
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.runs().Revision());
  const bool changed = run_revision_ != revision || AllAreDue(now);
  const bool waits = !open_.rows().empty() && now >= agents_read_ + options_.agents_every;
  if (!changed && !waits && now < next_look_) return false;
  next_look_ = absl::InfiniteFuture();
  if (changed) MUSTER_RETURN_IF_ERROR(ReadRuns(now));
  run_revision_ = revision;
  MUSTER_ASSIGN_OR_RETURN(const bool planned, PlanJobs(now));
  // Where very many jobs are to be planned, what is due does not wait for the last of them; but
  // what others changed, or a plan did to older runs, is read first.
  const bool known = !planned || run_revision_ != revision;
  bool dispatched = false;
  if (known) {
    MUSTER_ASSIGN_OR_RETURN(dispatched, Dispatch(now));
  }
  if (!planned && !dispatched) return false;
  next_look_ = absl::InfinitePast();
  return true;
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
  names_.clear();
  for (const auto& [name, job] : jobs_) names_.insert(name);
  spec_revision_ = revision;
  ReadAllAgain();
  return OkStatus();
}

void JobLoop::ReadAllAgain() {
  pause_revision_.reset();
  run_revision_.reset();
}

// Those that changed since the last look; all of them at first, and now and then.
Status JobLoop::ReadRuns(absl::Time now) {
  std::vector<RunRow> changed;
  if (run_revision_.has_value()) {
    MUSTER_ASSIGN_OR_RETURN(changed, store_.runs().ChangedSince(*run_revision_));
  }
  for (const RunRow& run : changed) {
    // Its agent told late of a run that a store had lost: that record is not as it was.
    const auto job = jobs_.find(run.job);
    if (job != jobs_.end() && Covers(job->second.last_missed, run.slot)) {
      job->second.last_missed.reset();
    }
  }
  if (!run_revision_.has_value() || AllAreDue(now)) {
    MUSTER_ASSIGN_OR_RETURN(std::vector<RunRow> open, store_.runs().Open());
    open_.Replace(std::move(open));
    all_read_ = now;
    return OkStatus();
  }
  open_.Merge(std::move(changed));
  return OkStatus();
}

// Nobody but the leader moves a job's slots on: the rest is known from what it stored.
Status JobLoop::ReadJobs() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.runs().PauseRevision());
  if (pause_revision_ == revision) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(lost_until_, store_.runs().LostUntil());
  MUSTER_ASSIGN_OR_RETURN(std::vector<JobRow> rows, store_.runs().Jobs());
  MUSTER_RETURN_IF_ERROR(ForgetDeleted(rows));
  looks_.clear();
  for (auto& [name, job] : jobs_) {
    job.row.reset();
    looks_.emplace_hint(looks_.end(), absl::InfinitePast(), name);
  }
  for (JobRow& row : rows) {
    if (const auto job = jobs_.find(row.name); job != jobs_.end()) job->second.row = std::move(row);
  }
  next_look_ = absl::InfinitePast();
  pause_revision_ = revision;
  return OkStatus();
}

StatusOr<bool> JobLoop::PlanJobs(absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<JobDecision> decisions, DecideDue(now));
  if (decisions.empty()) {
    if (!looks_.empty()) next_look_ = std::min(next_look_, looks_.begin()->first);
    return false;
  }
  const StatusOr<uint64_t> stored = store_.runs().Decide(epoch_, decisions, now);
  if (!stored.ok()) {
    ReadAllAgain();
    return stored.status();
  }
  Keep(decisions, *stored);
  options_.on_changed();
  return true;
}

StatusOr<std::vector<JobDecision>> JobLoop::DecideDue(absl::Time now) {
  std::vector<JobDecision> decisions;
  const bool due = !looks_.empty() && looks_.begin()->first <= now;
  if (!due || (now >= lost_until_ && now < lost_until_ + options_.recall)) return decisions;
  absl::flat_hash_map<std::string_view, std::vector<const RunRow*>> open_of;
  for (const RunRow& run : open_.rows()) open_of[run.job].push_back(&run);
  // Who was waiting longest first. Each once: what is decided of it is not stored yet.
  std::vector<std::pair<absl::Time, std::string>> looks;
  while (!looks_.empty() && looks_.begin()->first <= now && decisions.size() < kMostDecisions) {
    std::string name = std::move(looks_.extract(looks_.begin()).value().second);
    const auto open = open_of.find(name);
    StatusOr<JobPlan> planned =
        Plan(name, jobs_.at(name),
             open == open_of.end() ? std::vector<const RunRow*>() : std::move(open->second), now);
    if (!planned.ok()) {
      ReadAllAgain();
      return planned.status();
    }
    if (planned->decision.has_value()) decisions.push_back(*std::move(planned->decision));
    looks.emplace_back(planned->next_look, std::move(name));
  }
  looks_.insert(std::make_move_iterator(looks.begin()), std::make_move_iterator(looks.end()));
  return decisions;
}

StatusOr<JobPlan> JobLoop::Plan(const std::string& name, const Known& job,
                                std::vector<const RunRow*> open, absl::Time now) {
  std::vector<absl::Time> decided;
  if (job.row.has_value() && job.row->decided_until < lost_until_) {
    MUSTER_ASSIGN_OR_RETURN(decided, store_.runs().SlotsAfter(name, job.row->decided_until));
  }
  const JobFacts facts{.name = name,
                       .spec = job.spec.document.job(),
                       .generation = job.spec.generation,
                       .changed_at = job.spec.changed_at,
                       .row = job.row,
                       .open = std::move(open),
                       .last_missed = job.last_missed,
                       .decided = std::move(decided)};
  StatusOr<JobPlan> plan = PlanJob(facts, now);
  if (plan.ok()) return plan;
  // A spec that an older program let in: said once, until it is changed.
  LogError("a job's schedule cannot be read", {{"job", name}, {"error", plan.status()}});
  return JobPlan{std::nullopt, absl::InfiniteFuture()};
}

void JobLoop::Keep(const std::vector<JobDecision>& decisions, uint64_t revision) {
  std::vector<RunRow> made;
  bool whole = IsNext(revision);
  for (const JobDecision& decision : decisions) {
    const auto job = jobs_.find(decision.row.name);
    if (job == jobs_.end()) continue;
    std::optional<JobRow>& row = job->second.row;
    if (!row.has_value()) row.emplace();
    row->name = decision.row.name;
    row->spec = decision.row.spec;
    row->generation = decision.row.generation;
    row->decided_until = decision.row.decided_until;
    if (!decision.missed.empty()) job->second.last_missed = decision.missed.back();
    for (const RunRow& run : decision.runs) {
      if (run.phase == RunPhase::kOver) {
        options_.on_over(run.state);
      } else {
        made.push_back(run);
      }
    }
    whole = whole && decision.changes.empty() && decision.stops.empty();
  }
  // Otherwise the next look reads what changed.
  if (!whole) return;
  open_.Merge(std::move(made));
  run_revision_ = revision;
}

void JobLoop::Keep(const std::vector<RunChange>& changes, const RunStore::Changed& changed) {
  if (changed.made != changes.size()) return run_revision_.reset();
  if (!IsNext(changed.revision)) return;  // the next look reads what changed
  std::vector<RunRow> rows;
  rows.reserve(changes.size());
  for (const RunChange& change : changes) rows.push_back(change.row);
  open_.Merge(std::move(rows));
  run_revision_ = changed.revision;
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
  for (const RunRow& run : open_.rows()) {
    ++(run.state == v1::RUN_STATE_RUNNING ? counts.running : counts.queued);
  }
  options_.on_counts(counts);
  if (open_.rows().empty()) return false;
  MUSTER_RETURN_IF_ERROR(ReadAgents(now));
  DispatchFacts facts{.per_host = options_.runs_per_host};
  MUSTER_ASSIGN_OR_RETURN(facts.drills, ReadDrills(now));
  facts.open = open_.Lend();
  facts.agents = std::move(agents_);
  facts.jobs = std::move(names_);
  const DispatchPlan plan = DecideDispatch(facts, now);
  open_.TakeBack(std::move(facts.open));
  agents_ = std::move(facts.agents);
  names_ = std::move(facts.jobs);
  next_look_ = std::min(next_look_, plan.next_look);
  if (plan.changes.empty()) return false;
  MUSTER_ASSIGN_OR_RETURN(const RunStore::Changed changed,
                          store_.runs().Change(epoch_, plan.changes, now));
  Keep(plan.changes, changed);
  if (changed.made == 0) return false;
  for (const RunChange& change : plan.changes) {
    if (change.row.phase == RunPhase::kOver) options_.on_over(change.row.state);
  }
  options_.on_changed();
  return true;
}

// What the drills that are due would prove now.
StatusOr<std::map<std::string, v1::JobSpec>> JobLoop::ReadDrills(absl::Time now) {
  std::map<std::string, v1::JobSpec> drills;
  for (const RunRow& run : open_.rows()) {
    if (run.phase != RunPhase::kWaiting || run.due_at > now || !run.spec.has_drill_backup()) {
      continue;
    }
    const std::string& of = run.spec.drill_backup().job();
    MUSTER_ASSIGN_OR_RETURN(const std::vector<BackupRow> backups, store_.backups().KeptOf(of));
    const auto job = jobs_.find(of);
    std::optional<v1::JobSpec> spec =
        DrillOf(run.spec, backups, job == jobs_.end() ? nullptr : &job->second.spec.document.job());
    if (spec.has_value()) drills[run.id] = *std::move(spec);
  }
  return drills;
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
