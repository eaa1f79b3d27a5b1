#include "control-plane/loops/absence_loop.h"

#include <algorithm>
#include <utility>

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// States that become NO_DATA in one transaction, or a few more.
constexpr size_t kAtOnce = 250;

}  // namespace

AbsenceLoop::AbsenceLoop(Store& store, LeaderEpoch epoch, AbsenceLoopOptions options)
    : store_(store),
      epoch_(epoch),
      options_(std::move(options)),
      serving_{options_.serving_since, Crowd(options_.policy)} {}

Status AbsenceLoop::Tick(absl::Time now) {
  marks_ = {};
  Status status = ReadAgents(now);
  if (status.ok()) status = ReadChecks();
  if (status.ok()) status = MarkSilent(now);
  if (status.ok()) status = MarkLate(now);
  if (marks_.states > 0) options_.on_no_data(marks_);
  return status;
}

Status AbsenceLoop::ReadAgents(absl::Time now) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<AgentSession> sessions, store_.sessions().Sessions());
  serving_.crowd.Look(ConnectedOf(sessions), now);
  std::map<std::string, Agent> agents;
  for (AgentSession& session : sessions) {
    const auto known = agents_.find(session.name);
    const bool same = known != agents_.end() && known->second.session.connected &&
                      known->second.session.session_epoch == session.session_epoch;
    const absl::Time since = same ? known->second.connected_since : now;
    std::string name = session.name;
    agents.emplace_hint(agents.end(), std::move(name), Agent{std::move(session), since});
  }
  agents_ = std::move(agents);
  return OkStatus();
}

Status AbsenceLoop::ReadChecks() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  if (specs_read_ && revision == spec_revision_) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> rows, store_.specs().Checks());
  checks_.clear();
  for (const SpecRow& row : rows) checks_[row.check_id] = row.document.check();
  spec_revision_ = revision;
  specs_read_ = true;
  return OkStatus();
}

Status AbsenceLoop::MarkSilent(absl::Time now) {
  std::vector<NoData> changes;
  std::map<std::string, uint64_t> judged;
  for (const auto& [name, known] : agents_) {
    const AgentSession& agent = known.session;
    const absl::Time due =
        SilentSince(agent, serving_, options_.policy) + options_.policy.states_after;
    if (now < due) {
      marked_.erase(name);
      continue;
    }
    const auto marked = marked_.find(name);
    if (marked != marked_.end() && marked->second == agent.session_epoch) continue;
    MUSTER_ASSIGN_OR_RETURN(const auto states, store_.history().StatesOf(name));
    for (const CheckStateRow& state : states) {
      auto no_data = NoDataOfSilent(state, agent, serving_, options_.policy, now);
      if (no_data.has_value()) changes.push_back(*std::move(no_data));
    }
    judged[name] = agent.session_epoch;
    if (changes.size() >= kAtOnce) MUSTER_RETURN_IF_ERROR(Mark(changes, judged));
  }
  return Mark(changes, judged);
}

Status AbsenceLoop::Mark(std::vector<NoData>& changes, std::map<std::string, uint64_t>& judged) {
  MUSTER_RETURN_IF_ERROR(Apply(changes));
  changes.clear();
  judged.merge(marked_);
  marked_.swap(judged);
  judged.clear();
  return OkStatus();
}

Status AbsenceLoop::MarkLate(absl::Time now) {
  uint32_t left = options_.states_per_tick;
  while (left > 0) {
    const uint32_t wanted = std::min(left, kPage);
    MUSTER_ASSIGN_OR_RETURN(const auto page,
                            store_.history().ListStates({}, after_agent_, after_check_, wanted));
    std::vector<NoData> changes;
    for (const CheckStateRow& state : page) {
      auto no_data = IfLate(state, now);
      if (no_data.has_value()) changes.push_back(*std::move(no_data));
    }
    MUSTER_RETURN_IF_ERROR(Apply(changes));
    if (page.size() < wanted) {
      after_agent_.clear();
      after_check_ = 0;
      break;
    }
    after_agent_ = page.back().agent;
    after_check_ = page.back().check_id;
    left -= wanted;
  }
  return OkStatus();
}

std::optional<NoData> AbsenceLoop::IfLate(const CheckStateRow& state, absl::Time now) const {
  const auto agent = agents_.find(state.agent);
  const auto check = checks_.find(state.check_id);
  if (agent == agents_.end() || check == checks_.end()) return std::nullopt;
  return NoDataOfLate(state, check->second, agent->second.session, agent->second.connected_since,
                      options_.policy, now);
}

Status AbsenceLoop::Apply(const std::vector<NoData>& changes) {
  // Where a result came in between there is data after all.
  MUSTER_ASSIGN_OR_RETURN(const std::vector<size_t> applied,
                          store_.history().ApplyTransitions(epoch_, changes));
  for (const size_t i : applied) marks_.agents.insert(changes[i].state.agent);
  marks_.states += static_cast<uint32_t>(applied.size());
  return OkStatus();
}

}  // namespace muster::control
