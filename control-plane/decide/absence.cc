#include "control-plane/decide/absence.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/decide/check_state.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr std::string_view kLate = "late: ";
// What replicas' clocks may differ by.
constexpr absl::Duration kClocks = absl::Seconds(1);

NoData ToNoData(const CheckStateRow& before, std::string reason, absl::Time now) {
  const decide::CheckBelief belief{.shown = before.status,
                                   .hard = before.hard,
                                   .seen = before.seen,
                                   .needed = before.needed,
                                   .confirmed = before.hard_status,
                                   .since = before.since};
  const absl::Time since = std::max(before.observed_at, before.since);
  const auto change = decide::BelieveNoData(belief, since, std::move(reason));
  NoData out{.state = before};
  out.state.status = change.belief.shown;
  out.state.hard = change.belief.hard;
  out.state.seen = change.belief.seen;
  out.state.needed = change.belief.needed;
  out.state.hard_status = change.belief.confirmed;
  out.state.since = change.belief.since;
  out.transition = {.agent = before.agent,
                    .check_id = before.check_id,
                    .from = before.status,
                    .to = v1::CHECK_STATUS_NO_DATA,
                    .hard = true,
                    .at = since,
                    .recorded_at = now,
                    .summary = before.summary,
                    .reason = change.reason};
  return out;
}

std::string Circumstance(const AgentSession& agent) {
  if (agent.orphaned) return ", when its replica was lost";
  if (LastHeard(agent) == agent.disconnected_at) return "";
  return fmt::format(", and was last heard {}", TimeText(LastHeard(agent)));
}

}  // namespace

void Crowd::Look(size_t connected, absl::Time now) {
  const double many =
      static_cast<double>(policy_.crowd) * std::max(1.0, absl::ToDoubleSeconds(now - looked_));
  const double more = static_cast<double>(connected) - static_cast<double>(connected_.value_or(0));
  if (connected_.has_value() && more >= many) Extend(came_, now);
  if (connected_.has_value() && -more >= many) Extend(went_, now);
  connected_ = connected;
  looked_ = now;
}

void Crowd::Extend(Rush& rush, absl::Time now) const {
  if (now - rush.end > policy_.settle) rush.begin = looked_;
  rush.end = now;
}

absl::Time Crowd::BackFrom(absl::Time since) const {
  if (came_.end < since || came_.begin > since + policy_.settle) return since;
  return std::min(came_.end, since + policy_.crowd_at_most);
}

bool Crowd::FellWith(absl::Time since) const {
  return since >= went_.begin - kClocks && since <= went_.end + kClocks;
}

absl::Time LastHeard(const AgentSession& agent) {
  return std::min(agent.last_seen_at, agent.disconnected_at);
}

absl::Time SilentSince(const AgentSession& agent, const Serving& serving,
                       const AbsencePolicy& policy) {
  const bool never_here = agent.last_seen_at < absl::UnixEpoch();
  if (agent.connected || agent.revoked || never_here) return absl::InfiniteFuture();
  const absl::Time back = serving.crowd.BackFrom(agent.disconnected_at);
  const bool in_line =
      back > agent.disconnected_at && serving.crowd.FellWith(agent.disconnected_at);
  const absl::Time lost = agent.orphaned || in_line ? back + policy.settle : LastHeard(agent);
  return std::max(lost, serving.crowd.BackFrom(serving.since) + policy.settle);
}

bool IsAbsent(const AgentSession& agent, const Serving& serving, const AbsencePolicy& policy,
              absl::Time now) {
  return now >= SilentSince(agent, serving, policy) + policy.alert_after;
}

std::optional<NoData> NoDataOfSilent(const CheckStateRow& state, const AgentSession& agent,
                                     const Serving& serving, const AbsencePolicy& policy,
                                     absl::Time now) {
  if (state.status == v1::CHECK_STATUS_NO_DATA) return std::nullopt;
  if (now < SilentSince(agent, serving, policy) + policy.states_after) return std::nullopt;
  return ToNoData(state,
                  fmt::format("silent: agent {} has had no session since {}{}", agent.name,
                              TimeText(agent.disconnected_at), Circumstance(agent)),
                  now);
}

std::optional<NoData> NoDataOfLate(const CheckStateRow& state, const v1::CheckSpec& spec,
                                   const AgentSession& agent, absl::Time connected_since,
                                   const AbsencePolicy& policy, absl::Time now) {
  if (state.status == v1::CHECK_STATUS_NO_DATA || !agent.connected) return std::nullopt;
  const absl::Duration patience =
      3 * wire::FromProto(spec.every()) + wire::FromProto(spec.timeout()) + policy.flush_grace;
  if (now <= std::max(state.observed_at, connected_since) + patience) return std::nullopt;
  return ToNoData(state,
                  fmt::format("{}no result since {} although agent {} is connected", kLate,
                              TimeText(state.observed_at), agent.name),
                  now);
}

bool IsLate(const TransitionRow& transition) {
  return transition.to == v1::CHECK_STATUS_NO_DATA && transition.reason.starts_with(kLate);
}

}  // namespace muster::control
