#include "control-plane/notify/notifier.h"

#include <algorithm>
#include <utility>

#include "lib/base/log.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

// How long a quiet outbox is believed to be quiet without a Wake.
constexpr absl::Duration kLookAgain = absl::Seconds(5);
// Between attempts at writing down an outcome.
constexpr absl::Duration kStorePause = absl::Seconds(5);

std::string_view OutcomeName(Telling telling, OutboxState state) {
  if (telling == Telling::kDelivered) return "delivered";
  return state == OutboxState::kFailed ? "failed" : "retry";
}

}  // namespace

Notifier::Notifier(Store& store, const Clock& clock, Random& random, NotifierOptions options)
    : store_(store),
      clock_(clock),
      random_(random),
      options_(options),
      sender_(clock, options.sender),
      // One task a receiver at most, so that the queue holds every receiver there may be.
      pool_("notify", options.threads, 10'000),
      loop_("notifier", options.poll, [this] { Tick(); }) {}

Notifier::~Notifier() { Stop(); }

void Notifier::Wake() {
  woken_ = true;
  loop_.Wake();
}

void Notifier::Stop() {
  stopping_ = true;
  sender_.Cancel();
  loop_.Stop();
  pool_.Stop();
}

void Notifier::Tick() {
  const absl::Time now = clock_.Now();
  if (Stopping() || (!woken_.exchange(false) && now < next_look_)) return;
  const Status status = Round(now);
  const std::string problem = status.ok() ? "" : Text(status);
  if (problem != last_problem_ && !problem.empty()) {
    LogError("cannot read the outbox", {{"error", status}});
  }
  last_problem_ = problem;
}

Status Notifier::Round(absl::Time now) {
  next_look_ = now + kLookAgain;
  // Seen before the outbox is read: what was being told meanwhile may stand there as it was before.
  const std::map<std::string, absl::Time> busy = BusyReceivers();
  MUSTER_ASSIGN_OR_RETURN(std::vector<OutboxRow> due, store_.alerts().Due(now, options_.batch));
  std::map<std::string, std::vector<OutboxRow>> by_receiver;
  for (OutboxRow& row : due) by_receiver[row.receiver].push_back(std::move(row));
  if (!by_receiver.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const auto receivers, ReadReceivers());
    const absl::MutexLock lock(&mutex_);
    receivers_ = receivers;
  }
  for (auto& [receiver, rows] : by_receiver) {
    const auto until = busy.find(receiver);
    if (until == busy.end() || until->second <= now) Hand(receiver, std::move(rows));
  }
  MUSTER_ASSIGN_OR_RETURN(const absl::Time next, store_.alerts().NextDue());
  // What is due now is with the pool or waits for its receiver's pause: both are looked at then.
  if (next > now) next_look_ = std::min(next_look_, next);
  const absl::MutexLock lock(&mutex_);
  for (auto at = busy_until_.begin(); at != busy_until_.end();) {
    if (at->second <= now) {
      at = busy_until_.erase(at);
    } else {
      next_look_ = std::min(next_look_, (at++)->second);
    }
  }
  return OkStatus();
}

std::map<std::string, absl::Time> Notifier::BusyReceivers() {
  const absl::MutexLock lock(&mutex_);
  return busy_until_;
}

StatusOr<std::shared_ptr<const Notifier::Receivers>> Notifier::ReadReceivers() {
  MUSTER_ASSIGN_OR_RETURN(const uint64_t revision, store_.specs().Revision());
  {
    const absl::MutexLock lock(&mutex_);
    if (receivers_ != nullptr && receivers_revision_ == revision) return receivers_;
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SpecRow> rows, store_.specs().Receivers());
  auto receivers = std::make_shared<Receivers>();
  for (const SpecRow& row : rows) {
    receivers->emplace(row.document.metadata().name(), row.document.receiver());
  }
  const absl::MutexLock lock(&mutex_);
  receivers_revision_ = revision;
  return receivers;
}

void Notifier::Hand(const std::string& receiver, std::vector<OutboxRow> rows) {
  {
    const absl::MutexLock lock(&mutex_);
    busy_until_[receiver] = absl::InfiniteFuture();
  }
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  if (!pool_.Submit([this, receiver, rows = std::move(rows)] { TellAll(receiver, rows); })) {
    const absl::MutexLock lock(&mutex_);
    busy_until_.erase(receiver);
  }
}

void Notifier::TellAll(const std::string& receiver, const std::vector<OutboxRow>& rows) {
  bool go_on = true;
  for (const OutboxRow& row : rows) {
    if (Stopping() || !go_on) break;
    go_on = TellOne(receiver, row);
  }
  if (go_on) {
    const absl::MutexLock lock(&mutex_);
    busy_until_.erase(receiver);
  }
  woken_ = true;
  loop_.Wake();
}

bool Notifier::TellOne(const std::string& receiver, OutboxRow row) {
  std::shared_ptr<const Receivers> receivers;
  {
    const absl::MutexLock lock(&mutex_);
    receivers = receivers_;
  }
  Notification news{
      .event = row.event, .id = row.id, .at = row.created_at, .sent_at = clock_.Now()};
  Outcome outcome{.reason = "the stored notification is damaged"};
  std::string_view kind = "other";
  const auto found = receivers->find(receiver);
  if (found == receivers->end()) {
    outcome.reason = fmt::format("receiver {} was deleted", receiver);
  } else if (news.alert.ParseFromString(row.payload)) {
    kind = ReceiverKind(found->second);
    outcome = sender_.Send(found->second, news);
  }
  if (stopping_ && outcome.telling == Telling::kRetry)
    return false;  // we cut it off: it does not count
  const absl::Time now = clock_.Now();
  row = AfterAttempt(std::move(row), outcome, now);
  options_.on_attempt(kind, OutcomeName(outcome.telling, row.state));
  absl::Time leave_alone =
      row.state == OutboxState::kWaiting ? row.next_attempt_at : absl::InfinitePast();
  const Status stored = store_.alerts().RecordAttempt(options_.epoch, row);
  if (IsFenced(stored)) {
    options_.on_fenced(stored);
    return false;
  }
  if (!stored.ok()) {
    LogError("cannot store what became of a notification: it will be sent again",
             {{"receiver", receiver}, {"alert", row.alert_id}, {"error", stored}});
    leave_alone = now + kStorePause;
  }
  if (leave_alone <= now) return true;
  const absl::MutexLock lock(&mutex_);
  busy_until_[receiver] = leave_alone;
  return false;
}

OutboxRow Notifier::AfterAttempt(OutboxRow row, const Outcome& outcome, absl::Time now) {
  const uint32_t failures = row.attempts++;
  if (outcome.telling == Telling::kDelivered) {
    row.state = OutboxState::kDelivered;
    row.delivered_at = now;
    row.last_error.clear();
    return row;
  }
  row.last_error = outcome.reason;
  absl::Duration wait = FullJitter(options_.backoff, failures, random_);
  // At least a part of the bound, or a receiver that has just failed would be asked again at once.
  wait = std::max({wait, options_.backoff.first / 5, outcome.after});
  const bool too_late = now + wait > row.created_at + options_.give_up;
  if (outcome.telling == Telling::kRetry && !too_late) {
    row.next_attempt_at = now + wait;
    LogInfo("notification not accepted yet", {{"receiver", row.receiver},
                                              {"alert", row.alert_id},
                                              {"event", row.event},
                                              {"attempts", row.attempts},
                                              {"again_in", wait},
                                              {"reason", row.last_error}});
    return row;
  }
  row.state = OutboxState::kFailed;
  if (outcome.telling == Telling::kRetry) {
    row.last_error = fmt::format("given up {} after it was due: {}",
                                 ShortDuration(now - row.created_at), outcome.reason);
  }
  LogError("notification failed for good", {{"receiver", row.receiver},
                                            {"alert", row.alert_id},
                                            {"event", row.event},
                                            {"attempts", row.attempts},
                                            {"reason", row.last_error}});
  return row;
}

}  // namespace muster::control
