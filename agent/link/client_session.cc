#include "agent/link/client_session.h"

#include <algorithm>

#include "agent/decide/server_choice.h"
#include "lib/base/text.h"
#include "lib/wire/time.h"

namespace muster::agent {
namespace {

constexpr absl::Duration kWelcomeWithin = absl::Seconds(20);
constexpr absl::Duration kAckWithin = absl::Minutes(1);
// What we take at most of what the control plane grants.
constexpr uint32_t kMostWindow = 64;
constexpr size_t kMostEntries = 4096;
constexpr size_t kMostBytes = 512 << 10;
constexpr absl::Duration kLongestFlush = absl::Minutes(1);
constexpr size_t kMostFacts = 32;
constexpr size_t kMostFactBytes = 256;

}  // namespace

v1::FromAgent MakeHello(const LogBounds& log, const HelloFacts& facts) {
  v1::FromAgent message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_version(facts.version);
  hello.set_boot_id(facts.boot_id);
  hello.set_log_epoch(log.epoch);
  hello.set_first_sequence(log.first);
  hello.set_last_sequence(log.last);
  hello.set_plan_hash(facts.plan_hash);
  *hello.mutable_agent_time() = wire::ToProto(facts.agent_time);
  for (const auto& [key, value] : facts.facts) {
    if (static_cast<size_t>(hello.facts().size()) >= kMostFacts) break;
    (*hello.mutable_facts())[key] = std::string(Truncate(value, kMostFactBytes));
  }
  if (facts.witnessed) *hello.mutable_witnessed() = *facts.witnessed;
  return message;
}

StatusOr<Reaction> ClientSession::Received(const v1::ToAgent& message, absl::Duration now) {
  if (!welcomed_ && !message.has_welcome() && !message.has_drain()) {
    return FailedPrecondition("the control plane spoke before its Welcome");
  }
  Reaction reaction;
  switch (message.message_case()) {
    case v1::ToAgent::kWelcome: return TakeWelcome(message.welcome(), now);
    case v1::ToAgent::kAck: return TakeAck(message.ack(), now);
    case v1::ToAgent::kPlan: reaction.plan = message.plan(); return reaction;
    case v1::ToAgent::kDrain:
      reaction.drain = wire::FromProto(message.drain().after());
      return reaction;
    case v1::ToAgent::kRenew: reaction.renew = true; return reaction;
    case v1::ToAgent::kCheckpoint: reaction.checkpoint = message.checkpoint(); return reaction;
    case v1::ToAgent::kServers:
      reaction.servers = UsableServers(
          {message.servers().addresses().begin(), message.servers().addresses().end()});
      return reaction;
    case v1::ToAgent::kAssignments: reaction.assignments = message.assignments(); return reaction;
    case v1::ToAgent::MESSAGE_NOT_SET: return reaction;  // of a newer control plane
  }
  return reaction;
}

StatusOr<Reaction> ClientSession::TakeWelcome(const v1::Welcome& welcome, absl::Duration now) {
  if (welcomed_) return FailedPrecondition("the control plane said Welcome twice");
  welcomed_ = true;
  store_epoch_ = welcome.store_epoch();
  const v1::SessionLimits& limits = welcome.limits();
  window_ = std::clamp<uint32_t>(limits.window(), 1, kMostWindow);
  batch_entries_ = std::clamp<size_t>(limits.batch_entries(), 1, kMostEntries);
  batch_bytes_ = std::clamp<size_t>(limits.batch_bytes(), 1, kMostBytes);
  if (limits.has_flush()) {
    flush_ = std::clamp(wire::FromProto(limits.flush()), absl::ZeroDuration(), kLongestFlush);
  }
  committed_ = welcome.committed_sequence();
  next_ = committed_ + 1;
  Reaction reaction;
  reaction.servers = UsableServers({welcome.servers().begin(), welcome.servers().end()});
  if (welcome.has_server_time()) reaction.server_time = wire::FromProto(welcome.server_time());
  if (welcome.has_checkpoint()) reaction.checkpoint = welcome.checkpoint();
  // It holds more than we ever wrote: ours is an older copy of the log, or another one.
  if (committed_ > available_) {
    reaction.new_log_epoch = true;
    return reaction;
  }
  reaction.rewind = committed_;
  urgent_through_ = available_;
  gathering_since_ = now;
  return reaction;
}

StatusOr<Reaction> ClientSession::TakeAck(const v1::Ack& ack, absl::Duration now) {
  if (ack.sequence() >= next_) {
    return FailedPrecondition("the control plane acknowledged {}, and {} was never sent",
                              ack.sequence(), next_);
  }
  if (ack.window() != 0) window_ = std::min(ack.window(), kMostWindow);
  while (!in_flight_.empty() && in_flight_.front() <= ack.sequence()) in_flight_.pop_front();
  waiting_since_ = in_flight_.empty() ? absl::InfiniteDuration() : now;
  Reaction reaction;
  if (ack.sequence() > committed_) reaction.acknowledged = committed_ = ack.sequence();
  return reaction;
}

void ClientSession::Available(uint64_t written, bool urgent, absl::Duration now) {
  if (written > available_ && gathering_since_ == absl::InfiniteDuration()) gathering_since_ = now;
  available_ = std::max(available_, written);
  if (urgent) urgent_through_ = available_;
}

bool ClientSession::FlushIsDue(absl::Duration now) const {
  return urgent_through_ >= next_ || now >= flush_by_ || now - gathering_since_ >= flush_ ||
         available_ - next_ + 1 >= batch_entries_;
}

std::optional<ReadRequest> ClientSession::ToSend(absl::Duration now) const {
  if (!welcomed_ || next_ > available_ || in_flight_.size() >= window_) return std::nullopt;
  if (!FlushIsDue(now)) return std::nullopt;
  return ReadRequest{next_, batch_entries_, batch_bytes_};
}

void ClientSession::Sent(const wire::Span& span, absl::Duration now) {
  next_ = span.last + 1;
  if (in_flight_.empty()) waiting_since_ = now;
  in_flight_.push_back(span.last);
  available_ = std::max(available_, span.last);
  gathering_since_ = next_ > available_ ? absl::InfiniteDuration() : now;
  if (next_ > available_) flush_by_ = absl::InfiniteDuration();
}

absl::Duration ClientSession::NextTick() const {
  if (!welcomed_) return opened_at_ + kWelcomeWithin;
  absl::Duration tick = waiting_since_ + kAckWithin;
  const bool may_send = next_ <= available_ && in_flight_.size() < window_;
  if (may_send) tick = std::min({tick, gathering_since_ + flush_, flush_by_});
  return tick;
}

Status ClientSession::CheckPatience(absl::Duration now) const {
  if (!welcomed_ && now >= opened_at_ + kWelcomeWithin) {
    return DeadlineExceeded("no Welcome from the control plane within {}",
                            DurationText(kWelcomeWithin));
  }
  if (now >= waiting_since_ + kAckWithin) {
    return DeadlineExceeded("no acknowledgement from the control plane within {}",
                            DurationText(kAckWithin));
  }
  return OkStatus();
}

}  // namespace muster::agent
