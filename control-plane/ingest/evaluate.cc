#include "control-plane/ingest/evaluate.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/decide/check_state.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

decide::CheckBelief BeliefOf(const CheckStateRow& row) {
  decide::CheckBelief belief;
  if (row.status == v1::CHECK_STATUS_UNSPECIFIED) return belief;
  belief.shown = row.status;
  belief.hard = row.hard;
  belief.seen = row.seen;
  belief.needed = row.needed;
  belief.confirmed = row.hard_status;
  belief.since = row.since;
  return belief;
}

void SetBelief(const decide::CheckBelief& belief, CheckStateRow& row) {
  row.status = belief.shown;
  row.hard = belief.hard;
  row.seen = belief.seen;
  row.needed = belief.needed;
  row.hard_status = belief.confirmed;
  row.since = belief.since;
}

bool Same(const decide::CheckBelief& a, const decide::CheckBelief& b) {
  return a.shown == b.shown && a.hard == b.hard && a.seen == b.seen && a.needed == b.needed &&
         a.confirmed == b.confirmed;
}

// Whether the result says what is firmly believed, and nothing else.
bool IsSteady(const CheckStateRow& row, const wire::ResultRow& result) {
  return result.detail == nullptr && row.hard && row.status == result.status &&
         row.hard_status == result.status;
}

class Evaluator {
 public:
  Evaluator(const EvaluationContext& context, KnownStates& states)
      : context_(context), states_(states) {
    correction_ = absl::AbsDuration(context.clock_skew) < kSkewTolerance ? absl::ZeroDuration()
                                                                         : context.clock_skew;
  }

  Evaluation Evaluate(const wire::DecodedBatch& batch) {
    for (const v1::Record& record : batch.others) {
      if (record.has_gap()) Take(record.gap());
      if (record.has_run_event()) Take(record.run_event());
    }
    for (const wire::ResultRow& result : batch.results) Take(result);
    std::sort(to_store_.begin(), to_store_.end());
    to_store_.erase(std::unique(to_store_.begin(), to_store_.end()), to_store_.end());
    for (const uint32_t id : to_store_) evaluation_.states.push_back(states_.at(id));
    return std::move(evaluation_);
  }

 private:
  void Observed(absl::Time from, absl::Time until) {
    evaluation_.first_observed_at = std::min(evaluation_.first_observed_at, from);
    evaluation_.last_observed_at = std::max(evaluation_.last_observed_at, until);
  }

  void Take(const v1::Gap& gap) {
    evaluation_.gaps.push_back(gap);
    Observed(wire::FromProto(gap.from()), wire::FromProto(gap.until()));
  }

  void Take(const v1::RunEvent& told) {
    v1::RunEvent& event = evaluation_.run_events.emplace_back(told);
    const absl::Time at = std::min(wire::FromProto(told.at()) - correction_, context_.now);
    *event.mutable_at() = wire::ToProto(at);
  }

  void Take(const wire::ResultRow& result) {
    Observed(result.observed_at, result.observed_at);
    ++evaluation_.results;
    const auto confirm = context_.confirmations.find(result.check_id);
    if (confirm == context_.confirmations.end()) return;
    CheckStateRow& row = states_[result.check_id];
    // A clock that runs ahead must not make a state younger than now.
    const absl::Time observed_at = std::min(result.observed_at - correction_, context_.now);
    if (!IsSteady(row, result)) Judge(result, observed_at, confirm->second, row);
    row.observed_at = observed_at;
    row.latency = result.latency;
  }

  void Judge(const wire::ResultRow& result, absl::Time observed_at, const v1::Confirm& confirm,
             CheckStateRow& row) {
    row.agent = context_.agent;
    row.check_id = result.check_id;
    const decide::CheckBelief before = BeliefOf(row);
    const decide::BeliefChange change =
        decide::Believe(before, result.status, observed_at, confirm);
    SetBelief(change.belief, row);
    const bool told = result.detail != nullptr;
    if (told) TakeDetail(result, observed_at, row);
    if (change.step != decide::Step::kSame) AddTransition(before.shown, observed_at, row, change);
    if (told || !Same(before, change.belief)) to_store_.push_back(row.check_id);
  }

  static void TakeDetail(const wire::ResultRow& result, absl::Time observed_at,
                         CheckStateRow& row) {
    const v1::ResultDetail& detail = *result.detail;
    // An agent may send any bytes; a database, a page and a message take clean text alone.
    row.summary = OneLine(detail.summary());
    *row.detail.mutable_last() = detail;
    row.detail.mutable_last()->clear_transcript();
    if (result.status == v1::CHECK_STATUS_OK) return;
    *row.detail.mutable_last_failure() = detail;
    row.last_failure_at = observed_at;
  }

  void AddTransition(v1::CheckStatus from, absl::Time observed_at, const CheckStateRow& row,
                     const decide::BeliefChange& change) {
    TransitionRow transition;
    transition.agent = context_.agent;
    transition.check_id = row.check_id;
    transition.from = from;
    transition.to = row.status;
    transition.hard = row.hard;
    transition.at = observed_at;
    transition.recorded_at = context_.now;
    transition.summary = row.summary;
    transition.reason = change.reason;
    evaluation_.transitions.push_back(std::move(transition));
  }

  const EvaluationContext& context_;
  KnownStates& states_;
  absl::Duration correction_;
  std::vector<uint32_t> to_store_;
  Evaluation evaluation_;
};

}  // namespace

Evaluation Evaluate(const wire::DecodedBatch& batch, const EvaluationContext& context,
                    KnownStates& states) {
  return Evaluator(context, states).Evaluate(batch);
}

}  // namespace muster::control
