#include "control-plane/ingest/evaluate.h"

#include <algorithm>
#include <set>

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

bool SameBelief(const CheckStateRow& a, const CheckStateRow& b) {
  return a.status == b.status && a.hard == b.hard && a.seen == b.seen && a.needed == b.needed &&
         a.hard_status == b.hard_status;
}

class Evaluator {
 public:
  Evaluator(const EvaluationContext& context, KnownStates& states)
      : context_(context), states_(states) {
    correction_ = absl::AbsDuration(context.clock_skew) < kSkewTolerance ? absl::ZeroDuration()
                                                                         : context.clock_skew;
  }

  void Take(const v1::Record& record) {
    if (record.has_gap()) evaluation_.gaps.push_back(record.gap());
    if (record.has_result()) TakeResult(record.result());
  }

  Evaluation Finish() {
    for (const uint32_t id : to_store_) {
      KnownState& known = states_[id];
      known.stored_observed_at = known.row.observed_at;
      evaluation_.states.push_back(known.row);
    }
    return std::move(evaluation_);
  }

 private:
  void TakeResult(const v1::CheckResult& result) {
    const absl::Time raw = wire::FromProto(result.observed_at());
    evaluation_.first_observed_at = std::min(evaluation_.first_observed_at, raw);
    evaluation_.last_observed_at = std::max(evaluation_.last_observed_at, raw);
    ++evaluation_.results;
    const auto confirm = context_.confirmations.find(result.check_id());
    if (confirm == context_.confirmations.end()) return;
    // A clock that runs ahead must not make a state younger than now.
    const absl::Time observed_at = std::min(raw - correction_, context_.now);
    Judge(result, observed_at, confirm->second);
  }

  void Judge(const v1::CheckResult& result, absl::Time observed_at, const v1::Confirm& confirm) {
    KnownState& known = states_[result.check_id()];
    const CheckStateRow before = known.row;
    CheckStateRow& row = known.row;
    row.agent = context_.agent;
    row.check_id = result.check_id();
    const decide::BeliefChange change =
        decide::Believe(BeliefOf(before), result.status(), observed_at, confirm);
    SetBelief(change.belief, row);
    row.observed_at = observed_at;
    row.latency = wire::FromProto(result.latency());
    const bool told_something = TakeDetail(result, observed_at, row);
    if (change.step != decide::Step::kSame) AddTransition(before, row, change);
    const bool stale = observed_at - known.stored_observed_at >= kStateRefresh;
    if (told_something || stale || !SameBelief(before, row)) to_store_.insert(row.check_id);
  }

  // Whether the state's text changed.
  static bool TakeDetail(const v1::CheckResult& result, absl::Time observed_at,
                         CheckStateRow& row) {
    if (!result.has_detail()) return false;
    const v1::ResultDetail& detail = result.detail();
    // An agent may send any bytes; a database, a page and a message take clean text alone.
    std::string summary = OneLine(detail.summary());
    const bool news = summary != row.summary;
    row.summary = std::move(summary);
    *row.detail.mutable_last() = detail;
    row.detail.mutable_last()->clear_transcript();
    if (result.status() == v1::CHECK_STATUS_OK) return news;
    *row.detail.mutable_last_failure() = detail;
    row.last_failure_at = observed_at;
    return true;
  }

  void AddTransition(const CheckStateRow& before, const CheckStateRow& row,
                     const decide::BeliefChange& change) {
    TransitionRow transition;
    transition.agent = context_.agent;
    transition.check_id = row.check_id;
    transition.from =
        before.status == v1::CHECK_STATUS_UNSPECIFIED ? v1::CHECK_STATUS_NO_DATA : before.status;
    transition.to = row.status;
    transition.hard = row.hard;
    transition.at = row.observed_at;
    transition.recorded_at = context_.now;
    transition.summary = row.summary;
    transition.reason = change.reason;
    evaluation_.transitions.push_back(std::move(transition));
  }

  const EvaluationContext& context_;
  KnownStates& states_;
  absl::Duration correction_;
  std::set<uint32_t> to_store_;
  Evaluation evaluation_;
};

}  // namespace

Evaluation Evaluate(const wire::DecodedBatch& batch, const EvaluationContext& context,
                    KnownStates& states) {
  Evaluator evaluator(context, states);
  for (const v1::Record& record : batch.records) evaluator.Take(record);
  return evaluator.Finish();
}

}  // namespace muster::control
