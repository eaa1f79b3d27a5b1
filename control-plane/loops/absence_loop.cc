#include "control-plane/loops/absence_loop.h"

#include <algorithm>
#include <utility>

namespace muster::control {
namespace {

constexpr uint32_t kPage = 1000;
// States that become NO_DATA in one transaction, or a few more.
constexpr size_t kAtOnce = 250;

}  // namespace

AbsenceLoop::AbsenceLoop(Store& store, LeaderEpoch epoch, Presence& presence,
                         AbsenceLoopOptions options)
    : store_(store), epoch_(epoch), presence_(presence), options_(std::move(options)) {}

Status AbsenceLoop::Tick(absl::Time now) {
  marks_ = {};
  MUSTER_ASSIGN_OR_RETURN(view_, presence_.Read(now));
  Status status = ReadChecks();
  if (status.ok()) status = MarkSilent(now);
  if (status.ok()) status = MarkLate(now);
  if (marks_.states > 0) options_.on_no_data(marks_);
  return status;
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
  std::erase_if(marked_, [this](const auto& entry) { return !view_->away.contains(entry.first); });
  for (const auto& [name, agent] : view_->away) {
    const absl::Time due =
        SilentSince(agent, view_->serving, presence_.policy()) + presence_.policy().states_after;
    if (now < due) {
      marked_.erase(name);
      continue;
    }
    const auto marked = marked_.find(name);
    if (marked != marked_.end() && marked->second == agent.session_epoch) continue;
    MUSTER_ASSIGN_OR_RETURN(const auto states, store_.history().StatesOf(name));
    for (const CheckStateRow& state : states) {
      auto no_data = NoDataOfSilent(state, agent, view_->serving, presence_.policy(), now);
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
    MUSTER_ASSIGN_OR_RETURN(const std::vector<NoData> changes, LateOf(page, now));
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

StatusOr<std::vector<NoData>> AbsenceLoop::LateOf(const std::vector<CheckStateRow>& states,
                                                  absl::Time now) {
  const auto late = [&](const CheckStateRow& state, const AgentSession& agent) {
    const auto check = checks_.find(state.check_id);
    if (check == checks_.end()) return std::optional<NoData>();
    return NoDataOfLate(state, check->second, agent, std::max(agent.connected_since, view_->began),
                        presence_.policy(), now);
  };
  // Whose data is late is asked for only where it would be, had its agent been here all the time.
  const AgentSession always{.connected = true, .connected_since = absl::InfinitePast()};
  std::set<std::string> suspects;
  for (const CheckStateRow& state : states) {
    if (!view_->away.contains(state.agent) && late(state, always).has_value()) {
      suspects.insert(state.agent);
    }
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<AgentSession> sessions, store_.sessions().Of(suspects));
  std::map<std::string_view, const AgentSession*> agents;
  for (const AgentSession& session : sessions) agents.emplace(session.name, &session);
  std::vector<NoData> found;
  for (const CheckStateRow& state : states) {
    const auto agent = agents.find(state.agent);
    if (agent == agents.end()) continue;
    auto no_data = late(state, *agent->second);
    if (no_data.has_value()) found.push_back(*std::move(no_data));
  }
  return found;
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
