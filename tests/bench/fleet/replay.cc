#include "tests/bench/fleet/replay.h"

#include <algorithm>

#include "lib/decide/check_state.h"

namespace muster::bench {
namespace {

using control::TransitionRow;
using decide::CheckBelief;

constexpr auto kNoData = v1::CHECK_STATUS_NO_DATA;

// One way in which things may have gone: what is believed, and how many of the stored transitions
// it has explained.
struct Path {
  CheckBelief belief;
  size_t explained = 0;
  uint64_t moved = 0;
};

bool SamePlace(const Path& a, const Path& b) {
  return a.explained == b.explained && a.belief.shown == b.belief.shown &&
         a.belief.hard == b.belief.hard && a.belief.seen == b.belief.seen &&
         a.belief.confirmed == b.belief.confirmed;
}

class Replayer {
 public:
  Replayer(const v1::Confirm& confirm, const std::vector<TransitionRow>& stored)
      : confirm_(confirm), stored_(stored), paths_(1) {}

  // False when no path is left.
  bool Take(const Journalled& result) {
    FollowSilence();
    std::vector<Path> next;
    for (Path path : paths_) {
      if (!Follow(result, path)) continue;
      const auto known = std::find_if(next.begin(), next.end(),
                                      [&](const Path& other) { return SamePlace(other, path); });
      if (known == next.end()) {
        next.push_back(path);
      } else {
        known->moved = std::min(known->moved, path.moved);
      }
    }
    furthest_ = 0;
    for (const Path& path : paths_) furthest_ = std::max(furthest_, path.explained);
    paths_ = std::move(next);
    return !paths_.empty();
  }

  // The path that explains all of them, if there is one.
  const Path* Finish() {
    FollowSilence();
    for (const Path& path : paths_) furthest_ = std::max(furthest_, path.explained);
    for (const Path& path : paths_) {
      if (path.explained == stored_.size()) return &path;
    }
    return nullptr;
  }
  size_t furthest() const { return furthest_; }

 private:
  // Where NO_DATA is next, it may have come by now.
  void FollowSilence() {
    for (size_t i = 0; i < paths_.size(); ++i) {
      const Path& path = paths_[i];
      if (path.explained == stored_.size() || stored_[path.explained].to != kNoData) continue;
      const TransitionRow& row = stored_[path.explained];
      if (row.from != path.belief.shown || path.belief.shown == kNoData || !row.hard) continue;
      paths_.push_back(
          {decide::BelieveNoData(path.belief, row.at, "").belief, path.explained + 1, path.moved});
    }
  }

  // False if the result makes a transition that is not the next one stored.
  bool Follow(const Journalled& result, Path& path) const {
    const absl::Time at = absl::FromUnixMicros(result.observed_at_us);
    const v1::CheckStatus from = path.belief.shown;
    const decide::BeliefChange change = decide::Believe(path.belief, result.status, at, confirm_);
    path.belief = change.belief;
    if (change.step == decide::Step::kSame) return true;
    if (path.explained == stored_.size()) return false;
    const TransitionRow& row = stored_[path.explained++];
    if (row.at != at) ++path.moved;
    return row.from == from && row.to == change.belief.shown && row.hard == change.belief.hard;
  }

  const v1::Confirm& confirm_;
  const std::vector<TransitionRow>& stored_;
  std::vector<Path> paths_;
  size_t furthest_ = 0;
};

std::string Name(const TransitionRow& row) {
  return fmt::format("{} to {} ({})", v1::CheckStatus_Name(row.from), v1::CheckStatus_Name(row.to),
                     row.hard ? "hard" : "soft");
}

}  // namespace

Replay ReplayTransitions(const std::vector<Journalled>& results, const v1::Confirm& confirm,
                         const std::vector<TransitionRow>& stored) {
  Replayer replayer(confirm, stored);
  Replay replay;
  for (const Journalled& result : results) {
    if (replayer.Take(result)) continue;
    const size_t at = replayer.furthest();
    replay.difference = fmt::format(
        "the result {} ({}) does not lead to {}", result.sequence,
        v1::CheckStatus_Name(result.status),
        at < stored.size() ? "the stored transition " + Name(stored[at]) : "no transition");
    return replay;
  }
  if (const Path* path = replayer.Finish()) {
    replay.matches = true;
    replay.moved = path->moved;
    return replay;
  }
  replay.difference =
      fmt::format("no result leads to the stored transition {}", Name(stored[replayer.furthest()]));
  return replay;
}

}  // namespace muster::bench
