#include "control-plane/rpc/state_feed.h"

#include <algorithm>

namespace muster::control {

void StateFeed::Refresh() {
  const Status status = ReadNew();
  absl::MutexLock lock(&mutex_);
  last_ = status;
}

Status StateFeed::ReadNew() {
  uint64_t through = 0;
  {
    absl::MutexLock lock(&mutex_);
    through = through_;
  }
  MUSTER_ASSIGN_OR_RETURN(StateChanges found,
                          store_.history().ChangesAfter(through, static_cast<uint32_t>(reach_)));
  if (found.newest == through) return OkStatus();
  MUSTER_ASSIGN_OR_RETURN(CheckNames names, store_.specs().CheckNames());
  absl::MutexLock lock(&mutex_);
  names.insert(names_->begin(), names_->end());  // a deleted check has no name any more
  if (names != *names_) names_ = std::make_shared<const CheckNames>(std::move(names));
  if (found.through < found.newest || found.newest < through_) {
    // More than it holds, as after a time without watchers; or a store that was put back.
    changes_.clear();
    from_ = through_ = found.newest;
    return OkStatus();
  }
  for (StateChange& change : found.changes)
    changes_.push_back(std::make_shared<const StateChange>(std::move(change)));
  through_ = found.through;
  for (; changes_.size() > reach_; changes_.pop_front()) from_ = changes_.front()->row.revision;
  return OkStatus();
}

StatusOr<StateFeedPage> StateFeed::After(uint64_t revision, uint32_t limit) {
  StateFeedPage page;
  {
    absl::MutexLock lock(&mutex_);
    MUSTER_RETURN_IF_ERROR(last_);
    if (revision >= from_) {
      auto next = std::upper_bound(changes_.begin(), changes_.end(), revision,
                                   [](uint64_t at, const std::shared_ptr<const StateChange>& one) {
                                     return at < one->row.revision;
                                   });
      for (; next != changes_.end() && page.changes.size() < limit; ++next)
        page.changes.push_back(*next);
      page.more = next != changes_.end();
      page.through = page.more ? page.changes.back()->row.revision : std::max(revision, through_);
      return page;
    }
  }
  MUSTER_ASSIGN_OR_RETURN(StateChanges found, store_.history().ChangesAfter(revision, limit));
  page.through = found.through;
  page.more = found.through < found.newest;
  for (StateChange& change : found.changes)
    page.changes.push_back(std::make_shared<const StateChange>(std::move(change)));
  return page;
}

std::shared_ptr<const CheckNames> StateFeed::names() const {
  absl::MutexLock lock(&mutex_);
  return names_;
}

}  // namespace muster::control
