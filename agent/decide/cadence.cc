#include "agent/decide/cadence.h"

#include <algorithm>

namespace muster::agent {
namespace {

constexpr absl::Duration kFirstLookWithin = absl::Seconds(2);
constexpr absl::Duration kDetailAtLeastEvery = absl::Minutes(5);

// FNV-1a with a final mix (Stafford's variant 13), because short names differ in few bits.
uint64_t Hash(std::string_view text, uint64_t hash = 0xcbf29ce484222325) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

// The first slot strictly after `after`.
absl::Duration GridAfter(const Cadence& cadence, absl::Duration after) {
  absl::Duration rest;
  int64_t slots = absl::IDivDuration(after - cadence.splay, cadence.every, &rest);
  if (rest < absl::ZeroDuration()) --slots;
  return cadence.splay + (slots + 1) * cadence.every;
}

Slot SlotFrom(const Cadence& cadence, absl::Duration after, absl::Duration now) {
  const absl::Duration next = GridAfter(cadence, after);
  if (next >= now) return {next, 0};
  const absl::Duration due = GridAfter(cadence, now - absl::Nanoseconds(1));
  return {due, static_cast<uint64_t>(absl::FDivDuration(due - next, cadence.every) + 0.5)};
}

}  // namespace

absl::Duration Splay(std::string_view check, std::string_view agent, absl::Duration every) {
  const int64_t bound = std::max<int64_t>(1, absl::ToInt64Nanoseconds(every));
  return absl::Nanoseconds(Hash(agent, Hash(check)) % static_cast<uint64_t>(bound));
}

absl::Duration FirstDue(const Cadence& cadence, absl::Duration now) {
  const absl::Duration within = std::min(cadence.every, kFirstLookWithin);
  return now + within * absl::FDivDuration(cadence.splay, cadence.every);
}

Slot NextSlot(const Cadence& cadence, absl::Duration due, absl::Duration now) {
  return SlotFrom(cadence, due, now);
}

Slot SlotAfterFirst(const Cadence& cadence, absl::Duration due, absl::Duration now) {
  return SlotFrom(cadence, due + cadence.every / 2, now);
}

absl::Duration DueAfterResult(const Cadence& cadence, const decide::CheckBelief& belief,
                              absl::Duration started, absl::Duration now, absl::Duration slot) {
  if (belief.hard) return slot;
  return std::min(slot, std::max(now, started + cadence.retry_every));
}

bool IsNews(const LastSaid& last, v1::CheckStatus status, std::string_view summary) {
  return last.status != status || last.summary != summary;
}

bool NeedsDetail(const LastSaid& last, v1::CheckStatus status, std::string_view summary,
                 absl::Duration now) {
  return IsNews(last, status, summary) || status != v1::CHECK_STATUS_OK ||
         now - last.detail_at >= kDetailAtLeastEvery;
}

}  // namespace muster::agent
