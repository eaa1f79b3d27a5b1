#include "control-plane/ingest/session.h"

#include <algorithm>

#include "lib/base/text.h"
#include "lib/wire/columns.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr size_t kMostFacts = 32;
constexpr size_t kMostTextBytes = 256;
// How much later than others a probe may end that began before them: more than any timeout.
constexpr absl::Duration kLateAtMost = absl::Minutes(10);

std::string Short(const std::string& text) { return OneLine(Truncate(text, kMostTextBytes)); }

}  // namespace

StatusOr<SessionOpening> ReadHello(const v1::Hello& hello, std::string_view agent,
                                   std::string_view replica, absl::Time now) {
  if (hello.log_epoch().empty() || hello.log_epoch().size() > 64) {
    return InvalidArgument("Hello of {} names no log epoch", agent);
  }
  if (hello.log_epoch() != Short(hello.log_epoch())) {
    return InvalidArgument("Hello of {} names a log epoch that is no plain text", agent);
  }
  if (hello.first_sequence() > hello.last_sequence()) {
    return InvalidArgument("Hello of {} holds records {} to {}, which cannot be", agent,
                           hello.first_sequence(), hello.last_sequence());
  }
  SessionOpening opening;
  opening.agent = std::string(agent);
  opening.replica = std::string(replica);
  opening.version = Short(hello.version());
  opening.boot_id = Short(hello.boot_id());
  opening.log_epoch = hello.log_epoch();
  opening.clock_skew = wire::FromProto(hello.agent_time()) - now;
  for (const auto& [key, value] : hello.facts()) {
    if (opening.facts.size() < kMostFacts) opening.facts[Short(key)] = Short(value);
  }
  opening.now = now;
  return opening;
}

ServerSession::ServerSession(SessionOpening opening, OpenedSession opened, AgentStates states,
                             SessionSettings settings)
    : opening_(std::move(opening)),
      opened_(std::move(opened)),
      settings_(settings),
      stored_(opened_.committed_sequence),
      received_(opened_.committed_sequence) {
  Reload(std::move(states));
}

v1::ToAgent ServerSession::Welcome(std::string_view store_epoch, absl::Time now) const {
  v1::ToAgent message;
  v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_committed_sequence(stored_);
  welcome.set_session_epoch(opened_.epoch);
  *welcome.mutable_server_time() = wire::ToProto(now);
  welcome.mutable_limits()->set_window(settings_.window);
  welcome.mutable_limits()->set_batch_entries(settings_.batch_entries);
  welcome.mutable_limits()->set_batch_bytes(settings_.batch_bytes);
  *welcome.mutable_limits()->mutable_flush() = wire::ToProto(settings_.flush);
  welcome.set_store_epoch(std::string(store_epoch));
  return message;
}

bool ServerSession::SetPlan(v1::Plan plan) {
  if (plan.hash() == plan_.hash()) return false;
  plan_ = std::move(plan);
  confirmations_.clear();
  for (const v1::PlannedCheck& check : plan_.checks()) {
    confirmations_[check.id()] = check.spec().confirm();
  }
  absl::erase_if(states_,
                 [this](const auto& known) { return !confirmations_.contains(known.first); });
  return true;
}

StatusOr<BatchCommit> ServerSession::Take(const v1::Records& records, absl::Time now) {
  if (WindowFull()) {
    return ResourceExhausted("{} sent more than {} batches ahead of their acknowledgement", agent(),
                             settings_.window);
  }
  wire::BatchLimits limits;
  limits.entries = settings_.batch_entries;
  limits.raw_bytes = settings_.batch_bytes + 64 * 1024;  // the agent counts before it encodes
  MUSTER_ASSIGN_OR_RETURN(const wire::DecodedBatch batch,
                          wire::DecodeBatch(records.batch(), limits));
  if (batch.span.first != records.first_sequence() || batch.span.last != records.last_sequence()) {
    return InvalidArgument("batch of {} says {} to {} and holds {} to {}", agent(),
                           records.first_sequence(), records.last_sequence(), batch.span.first,
                           batch.span.last);
  }
  if (batch.span.first != received_ + 1) {
    return FailedPrecondition("batch of {} begins at {}; {} is next", agent(), batch.span.first,
                              received_ + 1);
  }
  for (const v1::Record& record : batch.others) {
    if (record.has_plan_taken()) taken_hash_ = record.plan_taken().plan_hash();
  }
  Evaluation evaluation =
      Evaluate(batch, {agent(), confirmations_, opening_.clock_skew, now}, states_);
  BatchCommit commit;
  commit.agent = agent();
  commit.session_epoch = opened_.epoch;
  commit.log_epoch = opening_.log_epoch;
  commit.expected_committed = received_;
  commit.first_sequence = batch.span.first;
  commit.last_sequence = batch.span.last;
  commit.first_observed_at = evaluation.first_observed_at;
  commit.filed_at = FiledAt(evaluation.last_observed_at);
  commit.results = evaluation.results;
  commit.payload = records.batch();
  commit.states_epoch = states_epoch_;
  commit.observations = Observations();
  commit.states = std::move(evaluation.states);
  commit.transitions = std::move(evaluation.transitions);
  commit.gaps = std::move(evaluation.gaps);
  commit.run_events = std::move(evaluation.run_events);
  received_ = batch.span.last;
  ++in_flight_;
  return commit;
}

v1::ToAgent ServerSession::Stored(uint64_t sequence) {
  stored_ = sequence;
  if (in_flight_ > 0) --in_flight_;
  v1::ToAgent message;
  message.mutable_ack()->set_sequence(sequence);
  return message;
}

// History is read in this order, and then of sequence: a probe that ends late (its timeout) must
// not be read before what ended while it ran. A clock that was set back begins anew.
absl::Time ServerSession::FiledAt(absl::Time last_observed_at) {
  if (last_observed_at == absl::InfinitePast()) return filed_at_;
  if (filed_at_ - last_observed_at > kLateAtMost) filed_at_ = last_observed_at;
  filed_at_ = std::max(filed_at_, last_observed_at);
  return filed_at_;
}

void ServerSession::Reload(AgentStates states) {
  states_epoch_ = states.epoch;
  states_.clear();
  for (CheckStateRow& row : states.rows) {
    const uint32_t id = row.check_id;
    filed_at_ = std::max(filed_at_, row.observed_at);
    states_[id] = std::move(row);
  }
}

std::string ServerSession::Observations() const {
  std::vector<Observation> observations;
  observations.reserve(states_.size());
  for (const auto& [id, row] : states_) observations.push_back({id, row.observed_at, row.latency});
  return PackObservations(observations);
}

}  // namespace muster::control
