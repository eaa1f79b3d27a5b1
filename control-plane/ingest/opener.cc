#include "control-plane/ingest/opener.h"

#include <set>
#include <string>
#include <utility>

#include "control-plane/ingest/blame.h"

namespace muster::control {
namespace {

constexpr size_t kAtOnce = 256;

}  // namespace

Opener::Opener(SessionStore& sessions, size_t most_waiting)
    : sessions_(sessions), most_waiting_(most_waiting), thread_("opener", [this] { Work(); }) {}

Opener::~Opener() { Stop(); }

bool Opener::Submit(SessionOpening opening, Done done) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ || queue_.size() >= most_waiting_) return false;
  queue_.push_back({std::move(opening), std::move(done)});
  return true;
}

void Opener::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.Join();
}

void Opener::Work() {
  for (std::vector<Waiting> group = TakeGroup(); !group.empty(); group = TakeGroup()) {
    Open(std::move(group));
  }
}

void Opener::Open(std::vector<Waiting> group) {
  std::vector<const SessionOpening*> openings;
  for (const Waiting& waiting : group) openings.push_back(&waiting.opening);
  StatusOr<std::vector<StatusOr<OpenedSession>>> answers = sessions_.OpenMany(openings);
  if (LiesInWhatIsStored(answers.status()) && group.size() > 1) {
    for (Waiting& waiting : group) {
      std::vector<Waiting> alone;
      alone.push_back(std::move(waiting));
      Open(std::move(alone));
    }
    return;
  }
  for (size_t i = 0; i < group.size(); ++i) {
    StatusOr<OpenedSession> answer = answers.ok() ? std::move((*answers)[i]) : answers.status();
    group[i].done(std::move(group[i].opening), std::move(answer));
  }
}

std::vector<Opener::Waiting> Opener::TakeGroup() {
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  };
  absl::MutexLock lock(&mutex_, absl::Condition(&ready));
  std::vector<Waiting> group;
  std::set<std::string> agents;
  // An agent that says Hello twice fences its first session with the second, in the next group.
  while (!stopping_ && !queue_.empty() && group.size() < kAtOnce &&
         agents.insert(queue_.front().opening.agent).second) {
    group.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return group;
}

}  // namespace muster::control
