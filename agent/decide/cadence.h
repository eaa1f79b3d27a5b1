// When a check is looked at next, and what of a result is worth its detail. Pure.
//
// A check has a grid of slots, `every` apart, moved by a splay of its own so that neither an
// agent's checks nor a fleet's agents meet at one moment. All times here are Clock::Uptime: a wall
// clock that jumps changes nothing. Slots that passed (a suspended host, a probe that took long)
// are skipped and counted, never made up for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <absl/time/time.h>

#include "lib/decide/check_state.h"
#include "muster/v1/record.pb.h"

namespace muster::agent {

struct Cadence {
  absl::Duration every = absl::Minutes(1);
  absl::Duration retry_every = absl::Minutes(1);  // while what is believed is soft
  absl::Duration splay = absl::ZeroDuration();    // in [0, every)
};

// The same for the same names on every machine; uniform in [0, every).
absl::Duration Splay(std::string_view check, std::string_view agent, absl::Duration every);

struct Slot {
  absl::Duration due;
  uint64_t skipped = 0;  // slots between the one before and this that had passed already
};

// A check that is new: soon, so that the operator sees it work, but spread over at most two
// seconds.
absl::Duration FirstDue(const Cadence& cadence, absl::Duration now);
// The first slot of the grid after `due`, and not before `now`.
Slot NextSlot(const Cadence& cadence, absl::Duration due, absl::Duration now);
// The slot after the very first look: at least half of `every` away.
Slot SlotAfterFirst(const Cadence& cadence, absl::Duration due, absl::Duration now);
// When to look again after a result: `slot`, or earlier while a suspicion waits to be confirmed.
absl::Duration DueAfterResult(const Cadence& cadence, const decide::CheckBelief& belief,
                              absl::Duration started, absl::Duration now, absl::Duration slot);

// What was last said of a check.
struct LastSaid {
  v1::CheckStatus status = v1::CHECK_STATUS_NO_DATA;
  std::string summary;
  absl::Duration detail_at = -absl::InfiniteDuration();
};

// Status or summary differ from what was last said.
bool IsNews(const LastSaid& last, v1::CheckStatus status, std::string_view summary);
// The rule of CheckResult.detail: news, anything but OK, or five minutes without a detail.
bool NeedsDetail(const LastSaid& last, v1::CheckStatus status, std::string_view summary,
                 absl::Duration now);

}  // namespace muster::agent
