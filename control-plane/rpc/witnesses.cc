#include "control-plane/rpc/witnesses.h"

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/net/tls.h"
#include "lib/wire/checkpoint.h"
#include "lib/wire/time.h"

namespace muster::control {
namespace {

constexpr char kSelf[] = "";
constexpr size_t kMostOurs = 256;  // there is a new one each minute at most

}  // namespace

Witnesses::Witnesses(AuditStore& audit, const Authority& authority, const Clock& clock,
                     absl::Duration every)
    : audit_(audit), authority_(authority), clock_(clock), every_(every) {}

bool Witnesses::Renew() {
  const std::optional<v1::Checkpoint> last = newest();
  const absl::Duration now = clock_.Uptime();
  {
    absl::MutexLock lock(&mutex_);
    if (last.has_value() && now - made_at_ < every_) return false;
  }
  const StatusOr<ChainPlace> chain = audit_.Look(last.has_value() ? last->sequence() : 0);
  if (!chain.ok()) {
    LogDebug("could not read the audit chain", {{"error", chain.status()}});
    return false;
  }
  if (last.has_value()) {
    const Verdict verdict = Compare(*last, *chain);
    Note(kSelf, *last, verdict);
    if (verdict.testimony != Testimony::kAgrees) return false;
  }
  if (chain->last_sequence == (last.has_value() ? last->sequence() : 0)) return false;
  v1::Checkpoint next;
  next.set_sequence(chain->last_sequence);
  next.set_hash(chain->last_hash);
  *next.mutable_at() = wire::ToProto(clock_.Now());
  const StatusOr<std::string> signature = authority_.SignText(wire::CheckpointText(next));
  if (!signature.ok()) {
    LogError("could not sign a checkpoint of the audit chain", {{"error", signature.status()}});
    return false;
  }
  next.set_signature(*signature);
  absl::MutexLock lock(&mutex_);
  held_[kSelf] = {std::move(next), true};
  made_at_ = now;
  return true;
}

std::optional<v1::Checkpoint> Witnesses::newest() const {
  absl::MutexLock lock(&mutex_);
  const auto own = held_.find(kSelf);
  if (own == held_.end()) return std::nullopt;
  return own->second.checkpoint;
}

StatusOr<bool> Witnesses::Present(const std::string& agent, const v1::Checkpoint* checkpoint) {
  if (checkpoint == nullptr) {
    Forget(agent);
    return true;
  }
  if (!IsOurs(*checkpoint)) {
    // What anybody could have written says nothing about the chain.
    LogWarning("an agent shows a checkpoint that the cluster's authority did not sign",
               {{"agent", agent}, {"sequence", checkpoint->sequence()}});
    Forget(agent);
    return true;
  }
  MUSTER_ASSIGN_OR_RETURN(const Verdict verdict, Look(*checkpoint));
  Note(agent, *checkpoint, verdict);
  return verdict.testimony == Testimony::kAgrees;
}

bool Witnesses::IsOurs(const v1::Checkpoint& checkpoint) {
  const std::string text = wire::CheckpointText(checkpoint);
  const std::string whole = fmt::format("{}:{}{}", text.size(), text, checkpoint.signature());
  {
    absl::MutexLock lock(&mutex_);
    if (ours_.contains(whole)) return true;
  }
  if (!net::VerifySignature(authority_.certificate_der(), text, checkpoint.signature()).ok()) {
    return false;
  }
  absl::MutexLock lock(&mutex_);
  if (ours_.size() >= kMostOurs) ours_.clear();
  ours_.insert(whole);
  return true;
}

StatusOr<std::vector<WitnessFact>> Witnesses::Facts() {
  std::map<std::string, Held> held;
  {
    absl::MutexLock lock(&mutex_);
    held = held_;
  }
  // Most agents hold the same one.
  std::map<std::pair<uint64_t, std::string>, Verdict> verdicts;
  std::vector<WitnessFact> facts;
  for (const auto& [holder, one] : held) {
    const auto [known, fresh] =
        verdicts.try_emplace({one.checkpoint.sequence(), one.checkpoint.hash()});
    if (fresh) {
      MUSTER_ASSIGN_OR_RETURN(known->second, Look(one.checkpoint));
    }
    facts.push_back(
        {holder, one.checkpoint.sequence(), wire::FromProto(one.checkpoint.at()), known->second});
    Note(holder, one.checkpoint, known->second);
  }
  return facts;
}

size_t Witnesses::contradictions() const {
  absl::MutexLock lock(&mutex_);
  size_t count = 0;
  for (const auto& [holder, one] : held_) count += one.agrees ? 0 : 1;
  return count;
}

StatusOr<Verdict> Witnesses::Look(const v1::Checkpoint& checkpoint) {
  MUSTER_ASSIGN_OR_RETURN(const ChainPlace chain, audit_.Look(checkpoint.sequence()));
  return Compare(checkpoint, chain);
}

// One line in the log for each holder and checkpoint that does not agree, however often it is
// shown.
void Witnesses::Note(const std::string& holder, const v1::Checkpoint& checkpoint,
                     const Verdict& verdict) {
  const bool agrees = verdict.testimony == Testimony::kAgrees;
  {
    absl::MutexLock lock(&mutex_);
    Held& held = held_[holder];
    const bool same = held.checkpoint.signature() == checkpoint.signature();
    if (agrees || (same && !held.agrees)) {
      held = {checkpoint, agrees};
      return;
    }
    held = {checkpoint, false};
  }
  LogError("the audit chain is not what it was: run musterctl doctor",
           {{"witness", holder.empty() ? "this control plane" : "agent " + holder},
            {"sequence", checkpoint.sequence()},
            {"signed_at", TimeText(wire::FromProto(checkpoint.at()))},
            {"found", Text(verdict)}});
}

void Witnesses::Forget(const std::string& agent) {
  absl::MutexLock lock(&mutex_);
  held_.erase(agent);
}

}  // namespace muster::control
