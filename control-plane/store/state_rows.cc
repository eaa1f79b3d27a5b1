#include "control-plane/store/state_rows.h"

#include <deque>

#include "control-plane/store/columns.h"
#include "control-plane/store/many_rows.h"

namespace muster::control {
namespace {

constexpr std::string_view kNewerWins =
    "ON CONFLICT (agent, check_id) DO UPDATE SET status = excluded.status, hard = excluded.hard, "
    "seen = excluded.seen, needed = excluded.needed, hard_status = excluded.hard_status, "
    "since = excluded.since, observed_at = excluded.observed_at, "
    "latency_us = excluded.latency_us, summary = excluded.summary, "
    "last_failure_at = excluded.last_failure_at, detail = excluded.detail, "
    "revision = excluded.revision";

// A state that never was has no time.
int64_t MicrosOf(absl::Time time) { return time == absl::InfinitePast() ? 0 : sql::ToMicros(time); }

Status PutStates(sql::Transaction& transaction, const std::vector<const CheckStateRow*>& states,
                 int64_t revision) {
  std::deque<std::string> details;  // parameters borrow them
  ManyRows rows(fmt::format("INSERT INTO states ({}) ", kStateColumns), 14, kNewerWins);
  for (const CheckStateRow* state : states) {
    details.push_back(state->detail.SerializeAsString());
    rows.Add({std::string_view(state->agent), int64_t{state->check_id}, int64_t{state->status},
              int64_t{state->hard}, int64_t{state->seen}, int64_t{state->needed},
              int64_t{state->hard_status}, MicrosOf(state->since), MicrosOf(state->observed_at),
              absl::ToInt64Microseconds(state->latency), std::string_view(state->summary),
              TimeOrNull(state->last_failure_at), sql::Bytes{details.back()}, revision++});
  }
  return rows.Send(transaction);
}

Status PutTransitions(sql::Transaction& transaction,
                      const std::vector<const TransitionRow*>& transitions, int64_t id) {
  ManyRows rows(fmt::format("INSERT INTO transitions ({}) ", kTransitionColumns), 10);
  for (const TransitionRow* transition : transitions) {
    rows.Add({id++, std::string_view(transition->agent), int64_t{transition->check_id},
              int64_t{transition->from}, int64_t{transition->to}, int64_t{transition->hard},
              sql::ToMicros(transition->at), sql::ToMicros(transition->recorded_at),
              std::string_view(transition->summary), std::string_view(transition->reason)});
  }
  return rows.Send(transaction);
}

}  // namespace

Status PutStatesAndTransitions(sql::Transaction& transaction,
                               const std::vector<const CheckStateRow*>& states,
                               const std::vector<const TransitionRow*>& transitions) {
  MUSTER_ASSIGN_OR_RETURN(
      const std::vector<int64_t> first,
      NextValues(transaction, {{kStateRevision, static_cast<int64_t>(states.size())},
                               {"transition", static_cast<int64_t>(transitions.size())}}));
  MUSTER_RETURN_IF_ERROR(PutStates(transaction, states, first[0]));
  return PutTransitions(transaction, transitions, first[1]);
}

}  // namespace muster::control
