#include "control-plane/loops/leader.h"

#include <utility>

#include "lib/base/log.h"

namespace muster::control {
namespace {

// How late the end of a term may be noticed; writes are fenced by then anyway.
constexpr absl::Duration kLook = absl::Milliseconds(50);

}  // namespace

Leader::Leader(const Clock& clock, Begin begin)
    : clock_(clock), begin_(std::move(begin)), loop_("leader", kLook, [this] { Tick(); }) {}

Leader::~Leader() { Stop(); }

void Leader::Lead(LeaderEpoch epoch, absl::Duration until) {
  {
    absl::MutexLock lock(&mutex_);
    const bool same = wanted_ != nullptr && wanted_->epoch() == epoch;
    if (same && wanted_->Renew(until)) return;
    if (wanted_ != nullptr) wanted_->End();
    if (!same) ++counts_.terms;
    wanted_ = std::make_shared<Term>(epoch, clock_, until);
  }
  loop_.Wake();
}

void Leader::Leave() {
  {
    absl::MutexLock lock(&mutex_);
    if (wanted_ == nullptr) return;
    wanted_->End();
    wanted_ = nullptr;
  }
  loop_.Wake();
}

void Leader::Wake() {
  // Under the lock, so that the work lives: it only notes that it is to look.
  absl::MutexLock lock(&mutex_);
  if (work_ != nullptr) work_->Wake();
}

void Leader::Stop() {
  Leave();
  loop_.Stop();
  StopUnless(nullptr);
}

LeaderEpoch Leader::epoch() const {
  absl::MutexLock lock(&mutex_);
  return wanted_ != nullptr && wanted_->Holds() ? wanted_->epoch() : LeaderEpoch{};
}

LeaderCounts Leader::counts() const {
  absl::MutexLock lock(&mutex_);
  LeaderCounts counts = counts_;
  if (running_ != nullptr) counts.refused += running_->refused();
  return counts;
}

void Leader::Tick() {
  std::shared_ptr<Term> wanted;
  {
    absl::MutexLock lock(&mutex_);
    wanted = wanted_;
  }
  if (StopUnless(wanted) || wanted == nullptr || !wanted->Holds()) return;
  LogInfo("this replica leads", {{"term", wanted->epoch().value}});
  std::unique_ptr<LeaderWork> work = begin_(wanted);
  absl::MutexLock lock(&mutex_);
  running_ = std::move(wanted);
  work_ = std::move(work);
}

bool Leader::StopUnless(const std::shared_ptr<Term>& wanted) {
  std::unique_ptr<LeaderWork> work;
  std::shared_ptr<Term> term;
  {
    absl::MutexLock lock(&mutex_);
    if (running_ == nullptr) return false;
    if (running_ == wanted && running_->Holds()) return true;
    work = std::move(work_);
    term = running_;
  }
  const char* why = term->refused() > 0 ? "a write was refused"
                    : term->ended()     ? "its term was ended"
                                        : "its lease was not renewed in time";
  term->End();
  work.reset();
  LogInfo("this replica leads no more", {{"term", term->epoch().value}, {"reason", why}});
  absl::MutexLock lock(&mutex_);
  counts_.refused += term->refused();
  running_ = nullptr;
  return false;
}

}  // namespace muster::control
